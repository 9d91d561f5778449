"""nerfstudio ``transforms.json`` (also written by instant-ngp, Blender exporters and capture apps).

``transform_matrix`` is camera-to-world with an OpenGL camera (x right, y up, looking along -z) in a world whose z
points up. Intrinsics are pixels, for all frames at the top or for one inside it; ``camera_angle_x`` (radians) stands
in for a missing ``fl_x``. ``applied_transform`` is what nerfstudio's own importers did to a y-down world to turn its
up to z, and what this writer does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import torch

from ...cameras import Cameras
from ...errors import FlashWorldError
from ...geometry import pose
from ...ops.transform import upright_rotation
from ..files import exact
from .dataparser import matrix_3x4
from .image_size import ImageSizes
from .lens import Lenses
from .parse import (
    check_count,
    check_focal,
    check_size,
    number,
    numbers,
    rotations_from_matrices,
    write_texts,
)
from .views import FileViews

DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
UP = "z"
CAMERA_FLIP = torch.tensor([1, -1, -1, 1], dtype=torch.float64)  # the camera's y and z turned round
# Keys that mean something to other programs and change nothing here: said once, with the reason.
_IGNORED = {
    "scale": "instant-ngp's view of the scene; the poses stay in the file's world",
    "offset": "instant-ngp's view of the scene; the poses stay in the file's world",
    "rolling_shutter": "every view is taken at one moment",
    "sk_x": "pinhole cameras here have no skew",
    "sk_y": "pinhole cameras here have no skew",
}


def parse(
    data: dict,
    where: str,
    *,
    folder: Path,
    root: Path | None,
    size: tuple[int, int] | None,
    view_size: tuple[int, int] | None,
    notify: Callable[[str], None],
) -> FileViews:
    """The views of a parsed file.

    Args:
        folder: the file's, where its images are looked for.
        root: images outside of it are not opened.
        size: width and height of the images as the user states them, used where nothing else says.
        view_size: width and height of the views wanted, which a field of view alone (``camera_angle_x``) may use.
        notify: told what is ignored or found elsewhere.
    """
    frames = data["frames"]
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise FlashWorldError(f"{where}: frames must be a list of objects.")
    check_count(len(frames), where)
    sizes_beside, models = ImageSizes(where, folder, root, size), Lenses(where)
    rows, lenses, sizes, distortion, ignored = [], [], [], [], {}
    for i, frame in enumerate(frames):
        here = f"{where}: frames[{i}]"
        own = {**data, **frame}  # a frame's own values come before the shared ones
        for key in _IGNORED.keys() & own.keys():
            if _matters(own[key], neutral=1 if key == "scale" else 0):
                ignored[key] = _IGNORED[key]
        if own.get("is_fisheye"):
            raise FlashWorldError(
                f"{here}: is_fisheye says that the lens is a fisheye, which no pinhole camera stands for; undistort "
                "the images first."
            )
        image_size = _size(own, sizes_beside, view_size, here)
        lens = _lens(own, *image_size, here)
        coefficients = {key: number(own[key], f"{here}.{key}") for key in DISTORTION if key in own}
        distortion.append(models.check(own.get("camera_model", "OPENCV"), coefficients, lens, image_size, here))
        sizes.append(image_size)
        lenses.append(lens)
        rows.append(_rows(own.get("transform_matrix"), f"{here}.transform_matrix"))
    for report in (sizes_beside.report, models.report):
        report(notify)
    for reason in dict.fromkeys(ignored.values()):
        keys = " and ".join(sorted(key for key, why in ignored.items() if why == reason))
        notify(f"{where}: {keys} {'is' if ' and ' not in keys else 'are'} ignored ({reason}).")
    matrices = torch.tensor(rows, dtype=torch.float64)
    rotations = rotations_from_matrices(
        matrices[:, :, :3].contiguous(), lambda i: f"{where}: frames[{i}].transform_matrix: the 3x3 part"
    )
    poses = pose(rotations, matrices[:, :, 3]) * CAMERA_FLIP
    names = [frame.get("file_path") for frame in frames]
    applied = _applied(data, where, notify)
    return FileViews(poses, torch.tensor(lenses, dtype=torch.float64), sizes, names, UP, applied, distortion)


def _matters(value, neutral: float) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_matters(item, neutral) for item in value)
    return not isinstance(value, (int, float)) or value != neutral


def _applied(data: dict, where: str, notify: Callable[[str], None]) -> tuple[torch.Tensor, float] | None:
    """The similarity the file's writer applied; None for none, or one that is no similarity, which is said."""
    if data.get("applied_transform") is None:
        return None
    try:
        scale = number(data.get("applied_scale", 1.0), f"{where}: applied_scale")
        matrix = matrix_3x4(data["applied_transform"], f"{where}: applied_transform")
        rotation = rotations_from_matrices(matrix[None, :3, :3], lambda _: f"{where}: applied_transform")
        if not scale > 0:
            raise FlashWorldError(f"{where}: applied_scale must be above 0, got {scale:g}.")
    except FlashWorldError as error:
        notify(f"{error} It is ignored; z is taken to point up.")
        return None
    return pose(rotation[0], matrix[:3, 3]), scale


def _size(own: dict, sizes_beside: ImageSizes, view_size, here: str) -> tuple[int, int]:
    """Width and height of one frame's images; those of the views wanted only for a lens without pixels."""
    if own.get("w") is not None and own.get("h") is not None:
        return check_size(own["w"], own["h"], here)
    center = [number(own[key], f"{here}.{key}") if key in own else None for key in ("cx", "cy")]
    size = sizes_beside.find(own.get("file_path"), *center)
    if size is None and view_size is not None and "fl_x" not in own and "fl_y" not in own and None in center:
        size = view_size
    if size is None:
        raise FlashWorldError(
            f"{here} does not say how large its images are (w, h), they are not beside the file, and no principal "
            "point (cx, cy) tells; give the size of the images in pixels (--image-size WxH; on the node image_width "
            "and image_height), or add w and h to the file."
        )
    return check_size(*size, here)


def _lens(own: dict, width: int, height: int, here: str) -> list[float]:
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
                    raise FlashWorldError(f"{here}.{key} must be radians in (0, pi), got {angle:g}.")
                focal[axis] = side / 2 / math.tan(angle / 2)
        fx, fy = focal.get("x", focal.get("y")), focal.get("y", focal.get("x"))
    else:
        raise FlashWorldError(f"{here} has no focal length; add fl_x (pixels) or camera_angle_x (radians).")
    check_focal(fx, fy, here)
    return [fx, fy, number(own.get("cx", width / 2), f"{here}.cx"), number(own.get("cy", height / 2), f"{here}.cy")]


def _rows(matrix, here: str) -> list[list[float]]:
    """The upper three rows of a pose."""
    if not isinstance(matrix, list) or len(matrix) not in (3, 4):
        raise FlashWorldError(f"{here} must be a list of 4 rows of 4 numbers.")
    rows = [numbers(row, 4, f"{here}[{i}]") for i, row in enumerate(matrix)]
    if len(rows) == 4 and any(abs(a - b) > 1e-6 for a, b in zip(rows[3], (0, 0, 0, 1), strict=True)):
        raise FlashWorldError(f"{here}: the last row must be 0 0 0 1; is the matrix transposed?")
    return rows[:3]


def write(path: Path, cameras: Cameras) -> None:
    """Write ``cameras``; intrinsics stand at the top if all views share them, else in each frame."""
    shared = bool((cameras.intrinsics == cameras.intrinsics[:1]).all())
    lenses = [_lens_entries(k) for k in cameras.intrinsics]
    to_file = pose(upright_rotation(UP).T, torch.zeros(3, dtype=torch.float64))
    world = (to_file @ (cameras.camera_to_world.double().cpu() * CAMERA_FLIP)).to(cameras.intrinsics.dtype)
    digits = max(4, len(str(len(cameras) - 1)))
    data = {
        "camera_model": "OPENCV",
        "w": cameras.width,
        "h": cameras.height,
        **(lenses[0] if shared else {}),
        "applied_transform": to_file[:3].tolist(),
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
