"""nerfstudio ``transforms.json`` (also written by instant-ngp, Blender exporters and capture apps).

``transform_matrix`` is camera-to-world with an OpenGL camera (x right, y up, looking along -z) in a world whose z
points up. Intrinsics are pixels, for all frames at the top or for one inside it; ``camera_angle_x`` (radians) stands
in for a missing ``fl_x``. ``applied_transform`` is what nerfstudio's own importers did to a y-down world to turn its
up to z, and what this writer does.
"""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import torch

from ...cameras import Cameras
from ...errors import FlashWorldError
from ...geometry import checked_rotations, pose
from ..files import exact
from .parse import by_name, check_count, check_size, number, numbers, pinhole, write_texts

logger = logging.getLogger(__name__)

DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
PINHOLE_MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
# (x, y, z) of a world with z up -> (x, -z, y) of ours with y down, and the camera's y and z turned round.
WORLD_FROM_FILE = torch.tensor([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
CAMERA_FLIP = torch.tensor([1, -1, -1, 1], dtype=torch.float64)


def parse(data: dict, where: str, width: int | None, height: int | None) -> Cameras:
    """`Cameras` from a parsed file, in the natural order of the frames' ``file_path`` (or as listed without).

    ``width`` and ``height`` in pixels are used where the file does not say. Lens distortion is ignored with a warning.
    """
    frames = data["frames"]
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise FlashWorldError(f"read_cameras: {where}: frames must be a list of objects.")
    check_count(len(frames), where)
    poses, lenses, sizes, distorted = [], [], set(), False
    for i, frame in enumerate(frames):
        here = f"{where}: frames[{i}]"
        own = {**data, **frame}  # a frame's own values come before the shared ones
        model = own.get("camera_model", "OPENCV")
        if model not in PINHOLE_MODELS:
            raise FlashWorldError(
                f"read_cameras: {here}: camera_model {str(model)[:40]!r} is no pinhole camera; "
                "undistort the pictures first."
            )
        distorted |= any(key in own and number(own[key], f"{here}.{key}") != 0 for key in DISTORTION)
        size = check_size(own.get("w", width), own.get("h", height), here)
        sizes.add(size)
        if len(sizes) > 1:
            raise FlashWorldError(
                f"read_cameras: {here} has images of {size[0]}x{size[1]}, others differ; a camera path needs one size."
            )
        lenses.append(_lens(own, *size, here))
        poses.append(_pose(own.get("transform_matrix"), f"{here}.transform_matrix"))
    if distorted:
        logger.warning("%s: lens distortion is ignored; pinhole cameras of the same focal lengths are used.", where)
    order = by_name([frame.get("file_path") for frame in frames])
    camera_to_world = WORLD_FROM_FILE @ torch.stack(poses) * CAMERA_FLIP
    return Cameras(camera_to_world[order].float(), torch.stack(lenses)[order].float(), *size)


def _lens(own: dict, width: int, height: int, here: str) -> torch.Tensor:
    if "fl_x" in own or "fl_y" in own:
        fx = number(own.get("fl_x", own.get("fl_y")), f"{here}.fl_x")
        fy = number(own.get("fl_y", fx), f"{here}.fl_y")
    elif "camera_angle_x" in own or "camera_angle_y" in own:
        focal = {}
        for axis, side in (("x", width), ("y", height)):
            key = f"camera_angle_{axis}"
            if key in own:
                angle = number(own[key], f"{here}.{key}")
                if not 0 < angle < math.pi:
                    raise FlashWorldError(f"read_cameras: {here}.{key} must be radians in (0, pi), got {angle}.")
                focal[axis] = side / 2 / math.tan(angle / 2)
        fx, fy = focal.get("x", focal.get("y")), focal.get("y", focal.get("x"))
    else:
        raise FlashWorldError(
            f"read_cameras: {here} has no focal length; add fl_x (pixels) or camera_angle_x (radians)."
        )
    cx = number(own.get("cx", width / 2), f"{here}.cx")
    cy = number(own.get("cy", height / 2), f"{here}.cy")
    return pinhole(fx, fy, cx, cy, here)


def _pose(matrix, here: str) -> torch.Tensor:
    if not isinstance(matrix, list) or len(matrix) not in (3, 4):
        raise FlashWorldError(f"read_cameras: {here} must be a list of 4 rows of 4 numbers.")
    rows = torch.tensor([numbers(row, 4, f"{here}[{i}]") for i, row in enumerate(matrix)], dtype=torch.float64)
    if len(rows) == 4 and not torch.allclose(rows[3], rows.new_tensor([0, 0, 0, 1]), atol=1e-6):
        raise FlashWorldError(f"read_cameras: {here}: the last row must be 0 0 0 1; is the matrix transposed?")
    return pose(checked_rotations(rows[:3, :3], f"read_cameras: {here}: the 3x3 part"), rows[:3, 3])


def write(path: Path, cameras: Cameras) -> None:
    """Write ``cameras``; intrinsics stand at the top if all views share them, else in each frame."""
    shared = bool((cameras.intrinsics == cameras.intrinsics[:1]).all())
    lenses = [_lens_entries(k) for k in cameras.intrinsics]
    world = (WORLD_FROM_FILE.T @ (cameras.camera_to_world.double().cpu() * CAMERA_FLIP)).to(cameras.intrinsics.dtype)
    digits = max(4, len(str(len(cameras) - 1)))
    data = {
        "camera_model": "OPENCV",
        "w": cameras.width,
        "h": cameras.height,
        **(lenses[0] if shared else {}),
        "applied_transform": WORLD_FROM_FILE.T[:3].tolist(),
        "frames": [
            {
                "file_path": f"images/view_{i:0{digits}d}.png",
                **({} if shared else lenses[i]),
                "transform_matrix": torch.tensor(exact(matrix), dtype=torch.float64).view(4, 4).tolist(),
            }
            for i, matrix in enumerate(world)
        ],
    }
    write_texts({path: json.dumps(data, indent=2) + "\n"})


def _lens_entries(k: torch.Tensor) -> dict[str, float]:
    return dict(
        zip(("fl_x", "fl_y", "cx", "cy"), exact(torch.stack([k[0, 0], k[1, 1], k[0, 2], k[1, 2]])), strict=True)
    )
