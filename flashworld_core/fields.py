"""`Field`: a scene as density and color at every point of a cube, before it becomes Gaussians or a mesh."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

# Raw density of what lies outside of the cube. Averaged with any raw density of the inside it still activates to 0.
OUTSIDE = -1e30


@runtime_checkable
class Field(Protocol):
    """Density and color in the cube [-1, 1]^3 of its own axes.

    Attributes:
        to_world: [3, 3] rotation from the field's axes to the world's (OpenCV: x right, y down, z forward).
        metadata: as of `gaussians.Gaussians`.
    """

    to_world: Tensor
    metadata: dict

    @property
    def device(self) -> torch.device:
        """Where points are expected."""
        ...

    def query(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Raw density [N] and rgb [N, 3] at points [N, 3] in the field's axes, inside the cube or out of it."""
        ...

    def lattice(self, resolution: int, start: int, stop: int) -> Tensor:
        """Raw density [stop - start, resolution, resolution] (x, y, z) on slices of a lattice that spans the cube,
        first and last point on its faces."""
        ...

    def activate(self, raw: Tensor) -> Tensor:
        """Density per unit length, >= 0, of raw density."""
        ...
