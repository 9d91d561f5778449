"""Where a sampler's random numbers come from.

A sampler draws through a `NoiseSource`, naming every draw. `SeededNoise` makes them from a seed, on the CPU and in
float32 whatever the device, so that one seed means one scene everywhere; `StoredNoise` plays recorded tensors back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..errors import FlashWorldError


class NoiseSource(Protocol):
    def draw(self, name: str, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers of ``shape``, float32 on the CPU; ``name`` says what they are for."""


class SeededNoise:
    """Draws from one CPU generator: the n-th draw of a seed depends on the shapes drawn before it, on nothing else.

    Args:
        seed: an integer in 0..2^64 - 1.
    """

    def __init__(self, seed: int):
        if not 0 <= int(seed) < 2**64:
            raise FlashWorldError(f"The seed must be in 0..2^64-1, got {seed}.")
        self._generator = torch.Generator("cpu").manual_seed(int(seed))

    def draw(self, name: str, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=self._generator, dtype=torch.float32)


class StoredNoise:
    """Plays back recorded tensors by name, reshaped to what is asked for.

    Args:
        tensors: name of the draw to its numbers, in the order of the asked-for layout (axes of length 1 aside).
    """

    def __init__(self, tensors: Mapping[str, Tensor]):
        self._tensors = tensors

    def draw(self, name: str, shape: Sequence[int]) -> Tensor:
        if name not in self._tensors:
            raise FlashWorldError(f"No draw named {name!r}; stored are {', '.join(self._tensors)}.")
        tensor = self._tensors[name]
        if tensor.numel() != math.prod(shape):
            raise FlashWorldError(f"{name!r} is {list(tensor.shape)}, asked for {list(shape)}.")
        return tensor.to("cpu", torch.float32).reshape(tuple(shape))
