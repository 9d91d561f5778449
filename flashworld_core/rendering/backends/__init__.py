"""Rasterizers that are twins: `torch_reference` is the oracle, the others are fast."""


class BackendFailed(RuntimeError):
    """What a backend raises that loaded, but finds during a call that this machine cannot run it; the text is why."""
