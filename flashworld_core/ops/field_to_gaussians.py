"""Gaussians from fields: one for each lattice cell that shows, as dense as the field there."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FlashWorldError
from ..fields import Field
from ..gaussians import Gaussians
from ..progress import Progress
from ..sh import rgb_to_dc
from .field_lattice import colors_at, density_lattice, in_world, lattice_points

RESOLUTION = 128
MIN_OPACITY = 0.02
WIDTH = 0.6  # standard deviation of a Gaussian over the lattice's spacing: smooth, not blurred
_OPAQUE = 5.0  # optical depth through which nothing is seen any more (0.7 %)
_EMPTY = 0.005  # optical depth of a cell that counts as outside


def field_to_gaussians(
    field: Field, resolution: int = RESOLUTION, min_opacity: float = MIN_OPACITY, progress: Progress | None = None
) -> Gaussians:
    """Turn a field into Gaussians on a lattice.

    A lattice of isotropic Gaussians with spacing h and standard deviation k h covers every line of sight 2 pi k^2 times
    a layer; so opacity 1 - exp(-density h / (2 pi k^2)) lets as much light through as the field does. Cells inside of
    a solid, which no line of sight reaches, are left out.

    Args:
        field: what to make Gaussians of.
        resolution: cells along each edge of the cube. The number of Gaussians grows with its square.
        min_opacity: fainter ones are left out.
        progress: counts lattice slices.

    Returns:
        The scene in the world; colors of degree 0.

    Raises:
        FlashWorldError: nothing there that dense, or numbers out of range.
        Cancelled: ``progress`` wants to stop.
    """
    if not 0 <= min_opacity < 1:
        raise FlashWorldError(f"min_opacity must be at least 0 and below 1, got {min_opacity}.")
    density = density_lattice(field, resolution, progress)
    spacing = 2 / (resolution - 1)
    depth = density * spacing
    opacity = 1 - torch.exp(-depth / (2 * math.pi * WIDTH**2))
    index = ((opacity > max(min_opacity, 1e-6)) & ~buried(depth)).nonzero()
    if not len(index):
        raise FlashWorldError(
            f"Nothing in the field is denser than min_opacity {min_opacity:g} at resolution {resolution}: it is empty, "
            "or min_opacity or resolution is too high."
        )
    x, y, z = index.unbind(1)
    points = lattice_points(index.float(), resolution)
    count = len(points)
    return Gaussians(
        in_world(field, points),
        torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        torch.full((count, 3), WIDTH * spacing),
        opacity[x, y, z],
        rgb_to_dc(colors_at(field, points))[:, None],
        dict(field.metadata),
    )


def buried(depth: Tensor) -> Tensor:
    """[R, R, R] bool: cells that no light reaches from outside, whichever way it takes.

    Args:
        depth: [R, R, R] optical depth of each cell.
    """
    # Least sum of depths on a way out over neighbors, bent or straight: never more than along a line of sight.
    way_out = torch.where(depth < _EMPTY, 0.0, torch.inf)
    seen = -1
    while (now := int((way_out < _OPAQUE).sum())) != seen:
        seen = now
        neighbor = -F.max_pool3d(-F.pad(way_out, (1,) * 6)[None, None], 3, 1)[0, 0]
        way_out = torch.minimum(way_out, depth + neighbor)
    return way_out >= _OPAQUE
