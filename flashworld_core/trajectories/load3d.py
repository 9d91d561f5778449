"""The camera dictionary of ComfyUI's 3D nodes (LOAD3D_CAMERA), as plain data.

Its frame is three.js': right-handed, y up, the camera looks along -z; ``quaternion`` has named x, y, z, w; ``fov`` is
vertical, in degrees, before ``zoom``. It holds one view, with the principal point in the middle.
"""

from __future__ import annotations

import math

import torch

from ..cameras import Cameras
from ..errors import FlashWorldError
from ..rotations import matrices_to_quats, quats_to_matrices
from .poses import (
    flip_y_and_z,
    intrinsics_from_vertical_fov,
    look_at,
    pose,
    vertical_fov_degrees,
)

DEFAULT_FOV_DEGREES = 35.0  # what ComfyUI's own nodes use where a camera names none


def to_load3d(cameras: Cameras, index: int = 0, focus_distance: float = 1.0) -> dict:
    """One view as a LOAD3D_CAMERA dictionary; an off-centre principal point is lost.

    Args:
        index: which view.
        focus_distance: how far ahead, in world units, the ``target`` is put.
    """
    c2w = flip_y_and_z(cameras.camera_to_world[index].double().cpu())
    w, x, y, z = matrices_to_quats(c2w[:3, :3]).tolist()
    position = c2w[:3, 3]
    target = position - focus_distance * c2w[:3, 2]
    return {
        "position": dict(zip("xyz", position.tolist(), strict=True)),
        "target": dict(zip("xyz", target.tolist(), strict=True)),
        "quaternion": {"x": x, "y": y, "z": z, "w": w},
        "fov": float(vertical_fov_degrees(cameras.intrinsics[index].double(), cameras.height)),
        "aspect": cameras.width / cameras.height,
        "zoom": 1.0,
        "cameraType": "perspective",
    }


def from_load3d(info: dict, width: int, height: int) -> Cameras:
    """One view from a LOAD3D_CAMERA dictionary.

    Args:
        info: only ``position`` and one of ``quaternion`` and ``target`` are needed.
        width, height: image size in pixels; ``aspect`` is ignored.

    Raises:
        FlashWorldError: an orthographic camera, or missing or unusable values.
    """
    if info.get("cameraType", "perspective") != "perspective":
        raise FlashWorldError(f"from_load3d: a perspective camera is needed, not {info['cameraType']!r}.")
    position = _vector(info, "position", "xyz")
    if info.get("quaternion"):
        quaternion = _vector(info, "quaternion", "wxyz")
        if float(quaternion.norm()) < 1e-8:
            raise FlashWorldError("from_load3d: the quaternion has length zero, which is no rotation.")
        c2w = flip_y_and_z(pose(quats_to_matrices(quaternion), position))
    else:
        flip = position.new_tensor([1.0, -1.0, -1.0])
        c2w = look_at(position * flip, _vector(info, "target", "xyz") * flip)
    fov = _positive(info, "fov", DEFAULT_FOV_DEGREES)
    zoom = _positive(info, "zoom", 1.0)
    if not fov < 180:
        raise FlashWorldError(f"from_load3d: fov must be below 180 degrees, got {fov}.")
    seen = math.degrees(2 * math.atan(math.tan(math.radians(fov) / 2) / zoom))
    intrinsics = intrinsics_from_vertical_fov(seen, width, height)
    return Cameras(c2w[None].float(), intrinsics[None].float(), width, height)


def _vector(info: dict, key: str, names: str) -> torch.Tensor:
    value = info.get(key)
    try:
        vector = torch.tensor([float(value[name]) for name in names], dtype=torch.float64)
    except (TypeError, KeyError, ValueError) as error:
        raise FlashWorldError(f"from_load3d: {key} must have the numbers {', '.join(names)}.") from error
    if not bool(torch.isfinite(vector).all()):
        raise FlashWorldError(f"from_load3d: {key} must be finite.")
    return vector


def _positive(info: dict, key: str, default: float) -> float:
    value = info.get(key)
    try:
        value = default if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise FlashWorldError(f"from_load3d: {key} must be a number.") from error
    if not (math.isfinite(value) and value > 0):
        raise FlashWorldError(f"from_load3d: {key} must be positive, got {value}.")
    return value
