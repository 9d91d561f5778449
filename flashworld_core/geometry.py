"""Rotations, poses and lenses: the small geometry every camera path and every scene is made of.

Quaternions are wxyz. Poses are camera-to-world, [..., 4, 4], in OpenCV axes (x right, y down, z forward) unless a
name says otherwise. Everything works in the dtype it is given.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import FlashWorldError

UP = (0.0, -1.0, 0.0)  # the world's y points down
# How far R^T R of a matrix may be from the identity to count as a rotation: files print four digits or more.
ROTATION_TOLERANCE = 2e-3


def slerp(start: Tensor, end: Tensor, fraction: Tensor) -> Tensor:
    """Unit quaternions ``fraction`` of the way from ``start`` to ``end``, the short way round, at constant speed.

    Args:
        start, end: [..., 4] unit quaternions wxyz.
        fraction: [...] in [0, 1].
    """
    end = torch.where((start * end).sum(-1, keepdim=True) < 0, -end, end)
    # The angle from both the sum and the difference stays exact where acos of the dot product does not.
    angle = 2 * torch.atan2((end - start).norm(dim=-1), (end + start).norm(dim=-1))[..., None]
    fraction = fraction[..., None]
    sine = angle.sin()
    near = sine < 1e-9
    safe = torch.where(near, torch.ones_like(sine), sine)
    weight_start = torch.where(near, 1 - fraction, ((1 - fraction) * angle).sin() / safe)
    weight_end = torch.where(near, fraction, (fraction * angle).sin() / safe)
    mixed = weight_start * start + weight_end * end
    return mixed / mixed.norm(dim=-1, keepdim=True)


def rotation_angle(start: Tensor, end: Tensor) -> Tensor:
    """[...] angle in radians, 0..pi, between the rotations of two unit quaternions [..., 4]."""
    difference, total = (end - start).norm(dim=-1), (end + start).norm(dim=-1)
    return 4 * torch.atan2(torch.minimum(difference, total), torch.maximum(difference, total))


def rotation_about(axis: str, degrees: Tensor) -> Tensor:
    """[..., 3, 3] right-handed rotations about the "x", "y" or "z" axis by [...] degrees."""
    angle = torch.deg2rad(degrees)
    cosine, sine, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rows = {
        "x": [one, zero, zero, zero, cosine, -sine, zero, sine, cosine],
        "y": [cosine, zero, sine, zero, one, zero, -sine, zero, cosine],
        "z": [cosine, -sine, zero, sine, cosine, zero, zero, zero, one],
    }[axis]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def pose(rotations: Tensor, positions: Tensor) -> Tensor:
    """[..., 4, 4] poses of [..., 3, 3] rotations and [..., 3] positions."""
    top = torch.cat([rotations, positions[..., None]], dim=-1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], dim=-2)


def invert_pose(poses: Tensor) -> Tensor:
    """[..., 4, 4] inverses of rigid transforms."""
    rotation_t = poses[..., :3, :3].transpose(-1, -2)
    return pose(rotation_t, -(rotation_t @ poses[..., :3, 3:])[..., 0])


def flip_y_and_z(poses: Tensor) -> Tensor:
    """[..., 4, 4] poses between a y-down, z-forward (OpenCV) and a y-up, z-backward (OpenGL) camera and world.

    The same half turn about x acts on the camera's axes and on the world's, F M F with F = diag(1, -1, -1, 1);
    it is its own inverse.
    """
    signs = poses.new_tensor([1.0, -1.0, -1.0, 1.0])
    return poses * signs[:, None] * signs


def checked_rotations(rotations: Tensor, where: str) -> Tensor:
    """``rotations`` [..., 3, 3] made exactly orthogonal, if they are rotations but for rounding.

    Args:
        rotations: from a user or a file.
        where: begins the error message.

    Raises:
        FlashWorldError: not finite, mirrored, scaled or sheared. Which of a batch is said by index.
    """
    flat = rotations.reshape(-1, 3, 3).double()
    identity = torch.eye(3, dtype=torch.float64, device=flat.device)
    error = (flat.transpose(1, 2) @ flat - identity).abs().amax(dim=(1, 2))
    for problem, bad in (
        ("holds numbers that are not finite", ~torch.isfinite(flat).all(dim=2).all(dim=1)),
        ("is no rotation: its columns are not unit vectors at right angles", ~(error < ROTATION_TOLERANCE)),
        ("is mirrored (determinant -1); one axis has the wrong sign", ~(flat.det() > 0)),
    ):
        if bool(bad.any()):
            index = f"[{int(bad.nonzero()[0])}]" if len(flat) > 1 else ""
            raise FlashWorldError(f"{where}{index} {problem}.")
    u, _, vh = torch.linalg.svd(flat)
    return (u @ vh).to(rotations.dtype).reshape(rotations.shape)


def look_at(position, target, up=UP) -> Tensor:
    """Poses of cameras at ``position`` that look at ``target`` with the picture's top towards ``up``.

    Args:
        position: [..., 3] world units.
        target: [..., 3] world units, the point at the center of the picture.
        up: [3], any length. Where the line of sight is parallel to it, the picture's top is turned towards world z
            (or x, if that is parallel too).

    Returns:
        [..., 4, 4] float64 camera-to-world.

    Raises:
        FlashWorldError: a position equal to its target, or an ``up`` of length zero.
    """
    position = torch.as_tensor(position, dtype=torch.float64)
    target = torch.as_tensor(target, dtype=torch.float64)
    position, target = torch.broadcast_tensors(position, target)
    forward = target - position
    distance = forward.norm(dim=-1, keepdim=True)
    if not bool((distance > 0).all()):
        raise FlashWorldError("A camera stands exactly on its target; move one of the two.")
    forward = forward / distance
    up = torch.as_tensor(up, dtype=torch.float64)
    if not float(up.norm()) > 0:
        raise FlashWorldError("up must not be the zero vector.")
    right = torch.zeros_like(forward)
    for candidate in (up / up.norm(), forward.new_tensor([0.0, 0.0, 1.0]), forward.new_tensor([1.0, 0.0, 0.0])):
        cross = torch.linalg.cross(forward, candidate.expand_as(forward), dim=-1)
        right = torch.where(right.norm(dim=-1, keepdim=True) > 1e-6, right, cross)
    right = right / right.norm(dim=-1, keepdim=True)
    down = torch.linalg.cross(forward, right, dim=-1)
    return pose(torch.stack([right, down, forward], dim=-1), position)


def intrinsics_from_vertical_fov(degrees: float, width: int, height: int) -> Tensor:
    """[3, 3] float64 pinhole matrix in pixels: square pixels, principal point at the image center.

    Raises:
        FlashWorldError: a field of view that is not between 0 and 180 degrees.
    """
    if not 0 < degrees < 180:
        raise FlashWorldError(f"The field of view must be in (0, 180) degrees: {degrees}.")
    focal = height / 2 / math.tan(math.radians(degrees) / 2)
    return torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)


def vertical_fov_degrees(intrinsics: Tensor, height: int) -> Tensor:
    """[...] vertical field of view in degrees of [..., 3, 3] pinhole matrices with a centered principal point."""
    return torch.rad2deg(2 * torch.atan(height / (2 * intrinsics[..., 1, 1])))


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
