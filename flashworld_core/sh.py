"""Real spherical harmonics of degree 0 to 3, with the signs 3D Gaussian splatting uses.

A color seen along a direction is ``0.5 + sum_k B_k(direction) * sh[k]``. The basis is the real orthonormal
one with the Condon-Shortley sign (-1)^m kept, ordered by degree l and then by m = -l..l; k = l^2 + l + m.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from .errors import FlashWorldError
from .gaussians import SH_COEFFICIENTS

C0 = 0.5 / math.sqrt(math.pi)
_C1 = math.sqrt(3 / (4 * math.pi))
_C2 = math.sqrt(15 / (4 * math.pi))
_C2_ZZ = math.sqrt(5 / (16 * math.pi))
_C3_3 = math.sqrt(35 / (32 * math.pi))
_C3_2 = math.sqrt(105 / (4 * math.pi))
_C3_1 = math.sqrt(21 / (32 * math.pi))
_C3_0 = math.sqrt(7 / (16 * math.pi))


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """The basis functions at some directions.

    Args:
        directions: [..., 3] float, unit length, from the camera center to the Gaussian in world axes.
        degree: 0 to 3.

    Returns:
        [..., (degree + 1)^2], same dtype and device.

    Raises:
        FlashWorldError: a degree outside 0..3 or directions that do not end in 3.
    """
    if degree not in range(len(SH_COEFFICIENTS)):
        raise FlashWorldError(f"degree must be 0, 1, 2 or 3, got {degree!r}.")
    if directions.shape[-1] != 3:
        raise FlashWorldError(f"Directions must be [..., 3], got {list(directions.shape)}.")
    x, y, z = directions.unbind(-1)
    basis = [torch.full_like(x, C0)]
    if degree >= 1:
        basis += [-_C1 * y, _C1 * z, -_C1 * x]
    if degree >= 2:
        xx, yy, zz = x * x, y * y, z * z
        basis += [
            _C2 * x * y,
            -_C2 * y * z,
            _C2_ZZ * (2 * zz - xx - yy),
            -_C2 * x * z,
            0.5 * _C2 * (xx - yy),
        ]
    if degree >= 3:
        basis += [
            -_C3_3 * y * (3 * xx - yy),
            _C3_2 * x * y * z,
            -_C3_1 * y * (4 * zz - xx - yy),
            _C3_0 * z * (2 * zz - 3 * xx - 3 * yy),
            -_C3_1 * x * (4 * zz - xx - yy),
            0.5 * _C3_2 * z * (xx - yy),
            -_C3_3 * x * (xx - 3 * yy),
        ]
    return torch.stack(basis, dim=-1)


def evaluate_sh(sh: Tensor, directions: Tensor, degree: int | None = None, clamp: bool = True) -> Tensor:
    """Colors seen along directions: ``0.5 + basis . sh``, cut at 0 from below as the renderers do.

    Args:
        sh: [..., K, 3] float coefficients, K = (degree + 1)^2.
        directions: [..., 3] float, unit length, from the camera center to the Gaussian; broadcasts with ``sh``.
        degree: use only the bands up to this degree; None: all that ``sh`` holds.
        clamp: replace negative colors by 0.

    Returns:
        [..., 3] linear combination of the coefficients, 1.0 = white, not limited from above.

    Raises:
        FlashWorldError: K is no square of 1..4 or lower than ``degree`` needs.
    """
    degree = _checked_degree("evaluate_sh", sh, degree)
    basis = sh_basis(directions, degree)
    colors = 0.5 + (basis[..., None] * sh[..., : basis.shape[-1], :]).sum(-2)
    return colors.clamp_min(0) if clamp else colors


def rotate_sh(sh: Tensor, rotation: Tensor) -> Tensor:
    """The coefficients of the same colors after the scene was turned by ``rotation``.

    ``evaluate_sh(rotate_sh(sh, R), R @ d) == evaluate_sh(sh, d)`` for every direction d.

    Args:
        sh: [..., K, 3] float.
        rotation: [3, 3] float, old world axes to new ones.

    Returns:
        [..., K, 3], same dtype and device as ``sh``. Computed with matrices made in float64.

    Raises:
        FlashWorldError: a matrix that is not a rotation (or a K that is no square of 1..4).
    """
    degree = _checked_degree("rotate_sh", sh, None)
    rotated = [sh[..., :1, :]]
    for band, matrix in enumerate(_band_matrices(_checked_rotation(rotation), degree), start=1):
        coefficients = sh[..., band * band : (band + 1) ** 2, :]
        matrix = matrix.to(sh.device, sh.dtype)
        # A sum over the few input coefficients instead of a batched matmul: tiny matrices times millions of
        # rows is what BLAS does worst.
        rotated.append(sum(matrix[:, j, None] * coefficients[..., j : j + 1, :] for j in range(2 * band + 1)))
    return torch.cat(rotated, dim=-2)


def rgb_to_dc(rgb: Tensor) -> Tensor:
    """The degree-0 coefficient that shows as this color (1.0 = white) from everywhere; any shape."""
    return (rgb - 0.5) / C0


def dc_to_rgb(dc: Tensor) -> Tensor:
    """The color (1.0 = white, not limited) a degree-0 coefficient stands for; any shape."""
    return 0.5 + C0 * dc


def with_sh_degree(sh: Tensor, degree: int) -> Tensor:
    """The coefficients [N, K, 3] cut or filled with zeros to (degree + 1)^2; the same tensor if it fits already."""
    if degree not in range(len(SH_COEFFICIENTS)):
        raise FlashWorldError(f"degree must be 0, 1, 2 or 3, got {degree!r}.")
    wanted, have = SH_COEFFICIENTS[degree], sh.shape[1]
    if wanted <= have:
        return sh if wanted == have else sh[:, :wanted]
    return torch.cat([sh, sh.new_zeros(sh.shape[0], wanted - have, 3)], dim=1)


def _checked_degree(function: str, sh: Tensor, degree: int | None) -> int:
    if sh.ndim < 2 or sh.shape[-1] != 3 or sh.shape[-2] not in SH_COEFFICIENTS:
        raise FlashWorldError(f"{function}: sh must be [..., K, 3] with K in {SH_COEFFICIENTS}, got {list(sh.shape)}.")
    available = SH_COEFFICIENTS.index(sh.shape[-2])
    if degree is None:
        return available
    if degree not in range(available + 1):
        raise FlashWorldError(f"{function}: degree must be 0..{available} for these coefficients, got {degree!r}.")
    return degree


def _checked_rotation(rotation: Tensor) -> Tensor:
    if tuple(rotation.shape) != (3, 3):
        raise FlashWorldError(f"Rotation must be [3, 3], got {list(rotation.shape)}.")
    r = rotation.detach().to("cpu", torch.float64)
    if not torch.allclose(r @ r.T, torch.eye(3, dtype=r.dtype), atol=1e-4) or torch.linalg.det(r) < 0:
        raise FlashWorldError("Rotation must be orthonormal with determinant 1 (no scale, no mirror).")
    return r


@functools.lru_cache(maxsize=1)
def _sample_directions() -> Tensor:
    """[64, 3] float64 unit vectors spread evenly (golden spiral): enough to determine every band exactly."""
    index = torch.arange(64, dtype=torch.float64)
    z = 1 - (2 * index + 1) / 64
    angle = index * math.pi * (3 - math.sqrt(5))
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), z], dim=1)


def _band_matrices(rotation: Tensor, degree: int) -> list[Tensor]:
    """For each degree l >= 1 the [2l+1, 2l+1] float64 matrix that turns its coefficients.

    A rotation maps every band onto itself. The matrix is the one that makes the turned function
    f(R^T d) agree with the new coefficients on the sample directions; least squares on more samples
    than unknowns is exact here and well conditioned.
    """
    directions = _sample_directions()
    here, there = sh_basis(directions, degree), sh_basis(directions @ rotation, degree)
    matrices = []
    for band in range(1, degree + 1):
        columns = slice(band * band, (band + 1) ** 2)
        matrix = torch.linalg.lstsq(here[:, columns], there[:, columns]).solution
        # Rounding dust would turn exact zeros of half and quarter turns into values of 1e-16.
        matrices.append(torch.where(matrix.abs() < 1e-12, torch.zeros_like(matrix), matrix))
    return matrices
