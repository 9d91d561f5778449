"""A field's density on a lattice over its cube, slice by slice."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import FlashWorldError
from ..fields import Field
from ..progress import Progress

MIN_RESOLUTION, MAX_RESOLUTION = 8, 512
_SLICES = 8  # between two looks at `should_stop`


def density_lattice(field: Field, resolution: int, progress: Progress | None = None) -> Tensor:
    """Density [R, R, R] (x, y, z) float32 on the CPU, first and last samples on the cube's faces.

    Args:
        field: what to sample.
        resolution: R.
        progress: counts slices.

    Raises:
        FlashWorldError: a resolution out of range, or density that is not finite.
        Cancelled: ``progress`` wants to stop.
    """
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        raise FlashWorldError(f"resolution must lie between {MIN_RESOLUTION} and {MAX_RESOLUTION}, got {resolution}.")
    progress = (progress or Progress()).start(resolution)
    out = torch.empty(resolution, resolution, resolution)
    for start in range(0, resolution, _SLICES):
        progress.check()
        stop = min(start + _SLICES, resolution)
        out[start:stop] = field.activate(field.lattice(resolution, start, stop)).float().cpu()
        progress.advance(stop - start)
    if not bool(torch.isfinite(out).all()):
        raise FlashWorldError("The field has densities that are not finite (NaN); look at the model that made it.")
    return out


def lattice_points(index: Tensor, resolution: int) -> Tensor:
    """Points [N, 3] in the field's axes of lattice indices [N, 3], whole or fractional."""
    return index * (2 / (resolution - 1)) - 1


def in_world(field: Field, points: Tensor) -> Tensor:
    """World points [N, 3] float32 of points in the field's axes."""
    return (points.double() @ field.to_world.double().T).float()


def colors_at(field: Field, points: Tensor) -> Tensor:
    """Colors [N, 3] in [0, 1] on the CPU at points [N, 3] in the field's axes."""
    return field.query(points.to(field.device))[1].clamp(0, 1).float().cpu()
