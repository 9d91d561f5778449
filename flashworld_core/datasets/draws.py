"""Random numbers of data: each stream is a function of a seed and of names and numbers that say what it is for."""

from __future__ import annotations

import functools
import hashlib

import numpy as np


def stream(*key: int | str) -> np.random.Generator:
    """The generator of a key: PCG64 seeded by a hash of it. Different keys share no draws."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def choice(rng: np.random.Generator, weights: dict) -> object:
    """A key of ``weights``, as likely as its share of their sum."""
    keys = [key for key, weight in weights.items() if weight > 0]
    shares = np.array([weights[key] for key in keys], dtype=np.float64)
    return keys[int(rng.choice(len(keys), p=shares / shares.sum()))]


@functools.lru_cache(maxsize=8)
def _order(count: int, key: tuple) -> np.ndarray:
    return stream("order", *key).permutation(count)


def shuffled(position: int, count: int, *key: int | str) -> int:
    """Entry ``position`` of an endless row of orders of 0 .. count - 1, each order a new permutation.

    Whatever positions are asked for, each number comes at most once within positions k * count .. (k + 1) * count - 1.
    """
    epoch, place = divmod(position, count)
    return int(_order(count, (*key, epoch))[place])
