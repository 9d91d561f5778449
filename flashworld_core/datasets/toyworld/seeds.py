"""Random streams of the toy world: one independent generator per (seed, split, purpose)."""

from __future__ import annotations

import numpy as np

from ...errors import FlashWorldError

SPLITS = {"train": 0, "test": 1}
STREAMS = {"scene": 0, "path": 1, "novel": 2}


def generator(seed: int, split: str, stream: str) -> np.random.Generator:
    """PCG64 seeded by ``SeedSequence(entropy=seed, spawn_key=(split, stream))``.

    The split is part of the spawn key, so seed 7 of "train" and seed 7 of "test" are unrelated and no
    training seed ever meets a held-out one. The streams ("scene", "path", "novel") do not share draws
    either: asking for more views or novel views leaves the scene as it is.

    Raises:
        FlashWorldError: an unknown split, or a seed outside 0 .. 2**63 - 1.
    """
    if split not in SPLITS:
        raise FlashWorldError(f"There is no split {split!r}; use one of {', '.join(SPLITS)}.")
    if not 0 <= seed < 2**63:
        raise FlashWorldError(f"seed must lie in 0 .. 2**63 - 1, got {seed}.")
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(SPLITS[split], STREAMS[stream])))
    )
