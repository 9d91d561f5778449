"""ComfyUI's two camera values, LOAD3D_CAMERA and WAN_CAMERA_EMBEDDING, as plain values."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..cameras import Cameras
from ..errors import FlashWorldError
from ..geometry import (
    flip_y_and_z,
    intrinsics_from_vertical_fov,
    invert_pose,
    look_at,
    matrices_to_quats,
    pose,
    quats_to_matrices,
    vertical_fov_degrees,
)
from .keyframes import resample

DEFAULT_FOV_DEGREES = 35.0  # what ComfyUI's own nodes use where a camera names none
MAX_INFOS = 10_000  # cameras in one value


def to_load3d(cameras: Cameras, index: int = 0, focus_distance: float = 1.0) -> dict:
    """One view as a LOAD3D_CAMERA dictionary; an off-center principal point is lost.

    Args:
        index: which view.
        focus_distance: how far ahead, in world units, the ``target`` is put.
    """
    index = range(len(cameras))[index]
    return list_to_load3d(cameras[index : index + 1], focus_distance)[0]


def list_to_load3d(cameras: Cameras, focus_distance: float = 1.0) -> list[dict]:
    """Every view as a LOAD3D_CAMERA dictionary (see `to_load3d`)."""
    c2w = flip_y_and_z(cameras.camera_to_world.double().cpu())
    positions = c2w[:, :3, 3]
    targets = positions - focus_distance * c2w[:, :3, 2]
    quaternions = matrices_to_quats(c2w[:, :3, :3]).tolist()
    fovs = vertical_fov_degrees(cameras.intrinsics.cpu().double(), cameras.height).tolist()
    return [
        {
            "position": dict(zip("xyz", position, strict=True)),
            "target": dict(zip("xyz", target, strict=True)),
            "quaternion": {"x": x, "y": y, "z": z, "w": w},
            "fov": fov,
            "aspect": cameras.width / cameras.height,
            "zoom": 1.0,
            "cameraType": "perspective",
        }
        for position, target, (w, x, y, z), fov in zip(
            positions.tolist(), targets.tolist(), quaternions, fovs, strict=True
        )
    ]


def from_load3d(info: dict, width: int, height: int) -> Cameras:
    """One view from a LOAD3D_CAMERA dictionary.

    Args:
        info: only ``position`` and one of ``quaternion`` and ``target`` are needed.
        width, height: image size in pixels; ``aspect`` is ignored.

    Raises:
        FlashWorldError: an orthographic camera, or missing or unusable values.
    """
    if info.get("cameraType", "perspective") != "perspective":
        raise FlashWorldError(f"a perspective camera is needed, not {info['cameraType']!r}.")
    position = _vector(info, "position", "xyz")
    if info.get("quaternion"):
        quaternion = _vector(info, "quaternion", "wxyz")
        if float(quaternion.norm()) < 1e-8:
            raise FlashWorldError("the quaternion has length zero, which is no rotation.")
        c2w = flip_y_and_z(pose(quats_to_matrices(quaternion), position))
    else:
        flip = position.new_tensor([1.0, -1.0, -1.0])
        c2w = look_at(position * flip, _vector(info, "target", "xyz") * flip)
    fov = _positive(info, "fov", DEFAULT_FOV_DEGREES)
    zoom = _positive(info, "zoom", 1.0)
    if not fov < 180:
        raise FlashWorldError(f"fov must be below 180 degrees, got {fov}.")
    seen = math.degrees(2 * math.atan(math.tan(math.radians(fov) / 2) / zoom))
    intrinsics = intrinsics_from_vertical_fov(seen, width, height)
    return Cameras(c2w[None].float(), intrinsics[None].float(), width, height)


def infos_of(value, name: str = "camera") -> list[dict]:
    """The cameras of a LOAD3D_CAMERA value, which is one dictionary or, on newer hosts, a list of them.

    Args:
        name: of the input, for messages.

    Raises:
        FlashWorldError: something else, an empty list, or one with something else in it.
    """
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, (list, tuple)):
        raise FlashWorldError(f"the {name} input needs a LOAD3D_CAMERA, got {type(value).__name__}.")
    if not 1 <= len(value) <= MAX_INFOS:
        raise FlashWorldError(f"the {name} input needs 1 to {MAX_INFOS:,} cameras, got a list of {len(value):,}.")
    for i, info in enumerate(value):
        if not isinstance(info, dict):
            raise FlashWorldError(
                f"the {name} input needs a list of LOAD3D_CAMERA, but number {i} of it is {type(info).__name__}."
            )
    return list(value)


def cameras_from_load3d(value, width: int, height: int, name: str = "camera") -> Cameras:
    """Every view of a LOAD3D_CAMERA value (`infos_of`, `from_load3d`), in its order.

    Raises:
        FlashWorldError: as those; names the number of a camera that cannot be used.
    """
    infos = infos_of(value, name)
    views = []
    for i, info in enumerate(infos):
        try:
            views.append(from_load3d(info, width, height))
        except FlashWorldError as error:
            which = name if isinstance(value, dict) else f"{name}[{i}]"
            raise FlashWorldError(f"{which} cannot be used. {error}") from error
    return Cameras(
        torch.cat([view.camera_to_world for view in views]),
        torch.cat([view.intrinsics for view in views]),
        width,
        height,
    )


def _vector(info: dict, key: str, names: str) -> torch.Tensor:
    value = info.get(key)
    try:
        vector = torch.tensor([float(value[name]) for name in names], dtype=torch.float64)
    except (TypeError, KeyError, ValueError) as error:
        raise FlashWorldError(f"{key} must have the numbers {', '.join(names)}.") from error
    if not bool(torch.isfinite(vector).all()):
        raise FlashWorldError(f"{key} must be finite.")
    return vector


def _positive(info: dict, key: str, default: float) -> float:
    value = info.get(key)
    try:
        value = default if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise FlashWorldError(f"{key} must be a number.") from error
    if not (math.isfinite(value) and value > 0):
        raise FlashWorldError(f"{key} must be positive, got {value}.")
    return value


FOLD = 4  # frames per latent frame
MAX_BYTES = 16 << 30


def wan_length(views: int) -> int:
    """The next length Wan can make: 4k + 1 frames, at least ``views``."""
    return -(-(views - 1) // FOLD) * FOLD + 1


def wan_shape(cameras: Cameras) -> tuple[int, int, int, int, int]:
    """What `wan_camera_embedding` of these cameras measures."""
    return (1, 6 * FOLD, (wan_length(len(cameras)) + FOLD - 1) // FOLD, cameras.height, cameras.width)


def wan_camera_embedding(cameras: Cameras) -> Tensor:
    """The rays of a path. A length that is not 4k + 1 is resampled to the next such (`wan_length`), pacing kept.

    Args:
        cameras: V views. Their intrinsics are used as they are, with any principal point.

    Returns:
        [1, 24, (F + 3) / 4, H, W] float32 on the CPU, F = `wan_length` (V); channel 4 * i + j is number i of the ray
        in the j-th of 4 frames.

    Raises:
        FlashWorldError: no views, or more than `MAX_BYTES`.
    """
    if len(cameras) == 0:
        raise FlashWorldError("the camera path is empty.")
    shape = wan_shape(cameras)
    size = 4 * torch.Size(shape).numel()
    if size > MAX_BYTES:
        raise FlashWorldError(
            f"{len(cameras)} views of {cameras.width}x{cameras.height} take {size >> 30} GiB, "
            f"more than {MAX_BYTES >> 30}; use fewer frames or a smaller size."
        )
    frames = wan_length(len(cameras))
    if frames != len(cameras):
        cameras = resample(cameras, frames, timing="even")
    c2w = cameras.camera_to_world.double().cpu()
    relative = (invert_pose(c2w[0]) @ c2w).float()
    intrinsics = cameras.intrinsics.float().cpu()
    u = torch.arange(cameras.width) + 0.5
    v = torch.arange(cameras.height)[:, None] + 0.5

    out = torch.empty(shape)
    slots = out.view(6, FOLD, *shape[2:])
    for frame in range(frames):
        fx, fy, cx, cy = intrinsics[frame, [0, 1, 0, 1], [0, 1, 2, 2]]
        rays = torch.stack(torch.broadcast_tensors((u - cx) / fx, (v - cy) / fy, torch.ones(())))
        rays = rays / rays.norm(dim=0)
        rays = torch.einsum("ij,jhw->ihw", relative[frame, :3, :3], rays)
        center = relative[frame, :3, 3, None, None].expand_as(rays)
        plucker = torch.cat([torch.linalg.cross(center, rays, dim=0), rays])
        place = frame + FOLD - 1
        slots[:, place % FOLD, place // FOLD] = plucker
    slots[:, : FOLD - 1, 0] = slots[:, FOLD - 1 :, 0]
    return out
