"""The exceptions a caller may want to tell apart."""


class FlashWorldError(ValueError):
    """The user's input or a file is at fault. The message says where, what was wrong and what to do."""


class Cancelled(Exception):
    """``should_stop()`` answered True. Nothing half written is left behind."""


def check_stop(should_stop) -> None:
    """Raise `Cancelled` if ``should_stop`` is given and answers True."""
    if should_stop is not None and should_stop():
        raise Cancelled("Stopped on request.")
