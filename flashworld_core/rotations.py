"""Rotation matrices and quaternions (wxyz), in the dtype they are given."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def quats_to_matrices(quats: Tensor) -> Tensor:
    """[..., 4] quaternions wxyz of any length but zero -> [..., 3, 3] rotations."""
    w, x, y, z = (quats * (2.0 / quats.square().sum(-1, keepdim=True)).sqrt()).unbind(-1)
    rows = (
        torch.stack((1 - y * y - z * z, x * y - z * w, x * z + y * w), -1),
        torch.stack((x * y + z * w, 1 - x * x - z * z, y * z - x * w), -1),
        torch.stack((x * z - y * w, y * z + x * w, 1 - x * x - y * y), -1),
    )
    return torch.stack(rows, -2)


def matrices_to_quats(matrices: Tensor) -> Tensor:
    """[..., 3, 3] rotations -> [..., 4] unit quaternions wxyz with w >= 0.

    Each is read off the row belonging to its largest component, the only one that is never badly conditioned.
    """
    m = matrices
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    # Row i is the quaternion times four times its component i.
    candidates = torch.stack(
        (
            torch.stack((1 + xx + yy + zz, wx, wy, wz), -1),
            torch.stack((wx, 1 + xx - yy - zz, xy, xz), -1),
            torch.stack((wy, xy, 1 - xx + yy - zz, yz), -1),
            torch.stack((wz, xz, yz, 1 - xx - yy + zz), -1),
        ),
        -2,
    )
    largest = candidates.diagonal(dim1=-2, dim2=-1).argmax(-1)
    quats = candidates.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4))[..., 0, :]
    quats = F.normalize(quats, dim=-1)
    return torch.where(quats[..., :1] < 0, -quats, quats)
