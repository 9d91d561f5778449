"""`Mesh`: a triangle mesh with colors at its vertices."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from .errors import FlashWorldError


@dataclasses.dataclass(frozen=True)
class Mesh:
    """A surface of triangles; the world is OpenCV's (x right, y down, z forward).

    Attributes:
        vertices: [N, 3] float32, world units.
        faces: [M, 3] int64, counterclockwise seen from outside.
        colors: [N, 3] float32 in [0, 1], display values.
        metadata: as of `gaussians.Gaussians`.

    Raises:
        FlashWorldError: shapes that do not belong together.
    """

    vertices: Tensor
    faces: Tensor
    colors: Tensor
    metadata: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        n = len(self.vertices)
        for name, shape in (("vertices", (n, 3)), ("faces", (len(self.faces), 3)), ("colors", (n, 3))):
            if tuple(getattr(self, name).shape) != shape:
                raise FlashWorldError(f"{name} must be {list(shape)}, got {list(getattr(self, name).shape)}.")

    def y_up(self) -> Mesh:
        """Turn the mesh into glTF's axes (x right, y up, z to the viewer), those of mesh files and ComfyUI's MESH."""
        turn = torch.tensor([1.0, -1.0, -1.0], dtype=self.vertices.dtype)
        return dataclasses.replace(self, vertices=self.vertices * turn)

    def linear_colors(self) -> Tensor:
        """[N, 3] the colors as linear light in [0, 1], as glTF and ComfyUI's MESH have them."""
        c = self.colors.clamp(0, 1)
        return torch.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
