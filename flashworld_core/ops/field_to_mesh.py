"""Meshes from fields: marching cubes on a lattice of densities, colors from the field."""

from __future__ import annotations

import torch

from ..errors import FlashWorldError
from ..fields import Field
from ..meshes import Mesh
from ..progress import Progress
from .field_lattice import colors_at, density_lattice, in_world, lattice_points

RESOLUTION = 192
THRESHOLD = 1.0  # VFusion3D's, of density per unit length
MISSING = "Meshes need the package scikit-image: pip install scikit-image."


def field_to_mesh(
    field: Field, resolution: int = RESOLUTION, threshold: float = THRESHOLD, progress: Progress | None = None
) -> Mesh:
    """Extract the surface where the density passes a threshold.

    Args:
        field: what to make a mesh of.
        resolution: samples along each edge of the cube; twice as many take eight times as long.
        threshold: density per unit length; lower makes the surface fatter.
        progress: counts lattice slices.

    Returns:
        The mesh in the world, closed also where it meets the cube's faces, colors of the field at its vertices.

    Raises:
        FlashWorldError: no surface at this threshold, numbers out of
            range, or scikit-image is missing.
        Cancelled: ``progress`` wants to stop.
    """
    try:
        from skimage.measure import marching_cubes
    except ImportError:
        raise FlashWorldError(MISSING) from None
    if not threshold > 0 or not threshold < 1e6:
        raise FlashWorldError(f"threshold must be a number above 0, got {threshold}.")
    density = density_lattice(field, resolution, progress)
    if not threshold < (highest := float(density.max())):
        raise FlashWorldError(
            f"There is no surface at threshold {threshold:g}: the highest density is {highest:.3g}; choose a threshold "
            "below it."
        )
    # One layer of nothing around, so that what reaches the cube's faces is closed there.
    padded = torch.nn.functional.pad(density, (1,) * 6).numpy()
    index, faces, _, _ = marching_cubes(padded, level=threshold, gradient_direction="ascent")
    points = lattice_points(torch.from_numpy(index.copy()) - 1, resolution).clamp(-1, 1)
    return Mesh(
        in_world(field, points),
        torch.from_numpy(faces.astype("int64")),
        colors_at(field, points),
        dict(field.metadata),
    )
