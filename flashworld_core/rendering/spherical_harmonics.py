"""Real spherical harmonics up to degree 3, with the signs and order used by 3D Gaussian Splatting."""

from __future__ import annotations

import torch
from torch import Tensor


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """Values of the (degree + 1)^2 basis functions.

    Args:
        directions: [..., 3] unit vectors in the world frame.
        degree: 0..3.

    Returns:
        [..., (degree + 1)^2], ordered by band l, inside a band by m = -l..l.
    """
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, 0.28209479177387814)]
    if degree >= 1:
        values += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree >= 2:
        values += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.9461746957575601 * z * z - 0.31539156525252005,
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ]
    if degree >= 3:
        values += [
            -0.5900435899266435 * y * (3 * x * x - y * y),
            2.890611442640554 * x * y * z,
            0.4570457994644658 * y * (1 - 5 * z * z),
            0.3731763325901154 * z * (5 * z * z - 3),
            0.4570457994644658 * x * (1 - 5 * z * z),
            1.445305721320277 * z * (x * x - y * y),
            -0.5900435899266435 * x * (x * x - 3 * y * y),
        ]
    return torch.stack(values, dim=-1)


def sh_color(sh: Tensor, directions: Tensor, degree: int) -> Tensor:
    """[N, 3] colours max(0, 0.5 + SH(direction)) of coefficients [N, K, 3] seen along directions [N, 3].

    Coefficients beyond ``degree`` are ignored.
    """
    basis = sh_basis(directions, degree)
    return ((basis[..., None] * sh[:, : basis.shape[-1]]).sum(-2) + 0.5).clamp_min(0.0)
