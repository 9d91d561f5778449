"""Similarity transforms (turn, uniform scale, shift) of scenes and cameras alike."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..cameras import Cameras
from ..errors import FlashWorldError
from ..gaussians import SCENE_SCALE, SOURCE_UP, Gaussians, positive_number
from ..geometry import matrices_to_quats
from ..sh import rotate_sh


def transform(
    gaussians: Gaussians,
    *,
    rotation: Tensor | None = None,
    scale: float = 1.0,
    translation: Tensor | Sequence[float] | None = None,
) -> Gaussians:
    """Move a scene by the similarity ``x -> scale * (rotation @ x) + translation``.

    Orientations, sizes and view-dependent colors follow, so a camera moved alike (`transform_cameras`) sees
    the same image, and so does the ``scene_scale`` in the metadata.

    Args:
        gaussians: N Gaussians.
        rotation: [3, 3] orthonormal matrix, old world axes to new ones; None: no turn.
        scale: factor > 0 on all lengths.
        translation: 3 numbers in new world units; None: none.

    Returns:
        New `Gaussians`, same dtype and device; unit quaternions.

    Raises:
        FlashWorldError: no rotation matrix, a scale that is not positive, or a translation that is not 3 finite
            numbers.
    """
    rotation, scale, translation = _similarity(rotation, scale, translation)
    means, quats, sh = gaussians.means, gaussians.quats, gaussians.sh
    if rotation is not None:
        means = means @ rotation.to(means.device, means.dtype).T
        quats = _quat_product(matrices_to_quats(rotation).to(quats.device, quats.dtype), quats)
        sh = rotate_sh(sh, rotation)
    means = means * scale + translation.to(means.device, means.dtype)
    metadata = dict(gaussians.metadata)
    if (known := positive_number(metadata, SCENE_SCALE)) is not None:
        metadata[SCENE_SCALE] = known * scale
    return Gaussians(means, quats, gaussians.scales * scale, gaussians.opacities, sh, metadata)


def transform_cameras(
    cameras: Cameras,
    *,
    rotation: Tensor | None = None,
    scale: float = 1.0,
    translation: Tensor | Sequence[float] | None = None,
) -> Cameras:
    """Move cameras by the same similarity as `transform` moves a scene; arguments and errors alike."""
    rotation, scale, translation = _similarity(rotation, scale, translation)
    poses = cameras.camera_to_world.clone()
    if rotation is not None:
        poses[:, :3] = rotation.to(poses.device, poses.dtype) @ poses[:, :3]
    poses[:, :3, 3] = poses[:, :3, 3] * scale + translation.to(poses.device, poses.dtype)
    return dataclasses.replace(cameras, camera_to_world=poses)


# Rotations that bring a world whose named axis points up into ours, where -y does: (x, y, z) -> (x, -z, y) for z.
_UPRIGHT = {"z": ((1, 0, 0), (0, 0, -1), (0, 1, 0)), "y": ((1, 0, 0), (0, -1, 0), (0, 0, -1))}
UP_AXES = ("-y", "y", "z")


def upright_rotation(up: str | None) -> Tensor | None:
    """Return the [3, 3] float64 rotation into our world (-y is up) of one whose axis ``up`` points up.

    Args:
        up: one of `UP_AXES`; None is "-y", which needs no turn.

    Returns:
        None for no turn.

    Raises:
        FlashWorldError: another axis.
    """
    if up not in (None, *UP_AXES):
        raise FlashWorldError(f"The axis that points up must be one of {', '.join(UP_AXES)}, not {str(up)[:40]!r}.")
    return torch.tensor(_UPRIGHT[up], dtype=torch.float64) if up in _UPRIGHT else None


def upright(gaussians: Gaussians, up: str | None) -> Gaussians:
    """Turn a scene whose axis ``up`` (one of `UP_AXES`) points up into our world, and note that in its metadata."""
    rotation = upright_rotation(up)
    if rotation is None:
        return gaussians
    turned = transform(gaussians, rotation=rotation)
    turned.metadata[SOURCE_UP] = up
    return turned


def similarity_from_matrix(matrix: Tensor) -> dict:
    """Split a [4, 4] similarity matrix into the keyword arguments of `transform`.

    Raises:
        FlashWorldError: a matrix with shear, mirror, unequal scales or perspective, which Gaussians cannot follow.
    """
    if tuple(matrix.shape) != (4, 4):
        raise FlashWorldError(f"The matrix must be [4, 4], got {list(matrix.shape)}.")
    m = matrix.detach().to("cpu", torch.float64)
    if not torch.isfinite(m).all() or not torch.allclose(m[3], m.new_tensor([0, 0, 0, 1]), atol=1e-6):
        raise FlashWorldError("The matrix must be finite with the last row 0 0 0 1.")
    determinant = float(torch.linalg.det(m[:3, :3]))
    if determinant <= 0:
        raise FlashWorldError("The matrix mirrors or flattens; use a rotation and a scale > 0.")
    scale = determinant ** (1 / 3)
    rotation = m[:3, :3] / scale
    if not torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=m.dtype), atol=1e-4):
        raise FlashWorldError("The matrix shears or scales axes differently; use one scale.")
    return {"rotation": rotation, "scale": scale, "translation": m[:3, 3]}


def _quat_product(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton products of one quaternion [4] with many [N, 4], normalized (a zero one stays zero)."""
    aw, ax, ay, az = a.unbind()
    left = torch.stack(  # a * b as a matrix times b
        [
            torch.stack([aw, -ax, -ay, -az]),
            torch.stack([ax, aw, -az, ay]),
            torch.stack([ay, az, aw, -ax]),
            torch.stack([az, -ay, ax, aw]),
        ]
    )
    return torch.nn.functional.normalize(b @ left.T, dim=1)


def _similarity(rotation, scale, translation) -> tuple[Tensor | None, float, Tensor]:
    """Checked arguments of a similarity; the rotation in float64 and None when it is the identity."""
    scale = float(scale)
    if not (scale > 0 and math.isfinite(scale)):
        raise FlashWorldError(f"scale must be a positive number, got {scale}.")
    translation = torch.as_tensor((0.0, 0.0, 0.0) if translation is None else translation, dtype=torch.float64)
    translation = translation.detach().cpu()
    if tuple(translation.shape) != (3,) or not torch.isfinite(translation).all():
        raise FlashWorldError(f"translation must be 3 finite numbers, got {translation.tolist()}.")
    if rotation is None:
        return None, scale, translation
    rotation = torch.as_tensor(rotation, dtype=torch.float64).detach().cpu()
    if tuple(rotation.shape) != (3, 3):
        raise FlashWorldError(f"rotation must be [3, 3], got {list(rotation.shape)}.")
    identity = torch.eye(3, dtype=torch.float64)
    if not torch.allclose(rotation @ rotation.T, identity, atol=1e-4) or torch.linalg.det(rotation) < 0:
        raise FlashWorldError("rotation must be orthonormal with determinant 1 (no scale, no mirror).")
    return (None if torch.equal(rotation, identity) else rotation), scale, translation
