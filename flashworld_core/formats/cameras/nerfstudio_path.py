"""``camera_path.json`` as nerfstudio's viewer exports it to render a video along; read only.

``camera_path`` is a list of {camera_to_world, fov, aspect}: sixteen numbers row by row, with an OpenGL camera (x right,
y up, looking along -z), in the world of the trained scene, whose z points up; ``fov`` is vertical, in degrees.
``render_width`` and ``render_height`` are the size in pixels. Keyframes and speeds beside it are what the viewer made
these views from; they change nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ...errors import FlashWorldError
from ...geometry import pose
from .nerfstudio import CAMERA_FLIP, UP
from .parse import check_count, check_size, number, numbers, rotations_from_matrices
from .views import FileViews

KEY = "camera_path"
_ASPECT_AGREES = 0.01  # relative


def parse(data: dict, where: str, notify: Callable[[str], None]) -> FileViews:
    """The views of a parsed file.

    Args:
        notify: told what is ignored.

    Raises:
        FlashWorldError: a panorama or fisheye path, damaged or missing values.
    """
    kind = data.get("camera_type", "perspective")
    if kind != "perspective":
        raise FlashWorldError(
            f"{where}: camera_type {str(kind)[:40]!r} is no pinhole camera; set it to perspective in nerfstudio's "
            "viewer and export the path anew."
        )
    entries = data[KEY]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise FlashWorldError(f"{where}: {KEY} must be a list of objects.")
    check_count(len(entries), where)
    width, height = check_size(data.get("render_width"), data.get("render_height"), where)
    rows, lenses, stretched = [], [], 0
    for i, entry in enumerate(entries):
        here = f"{where}: {KEY}[{i}]"
        matrix = numbers(entry.get("camera_to_world"), 16, f"{here}.camera_to_world")
        if any(abs(a - b) > 1e-6 for a, b in zip(matrix[12:], (0, 0, 0, 1), strict=True)):
            raise FlashWorldError(f"{here}.camera_to_world: the last row must be 0 0 0 1; is the matrix transposed?")
        rows.append(matrix[:12])
        fov = number(entry.get("fov"), f"{here}.fov")
        if not 0 < fov < 180:
            raise FlashWorldError(f"{here}.fov must be degrees between 0 and 180, got {fov:g}.")
        focal = height / 2 / math.tan(math.radians(fov) / 2)
        lenses.append([focal, focal, width / 2, height / 2])
        aspect = entry.get("aspect")
        stretched += isinstance(aspect, (int, float)) and abs(aspect * height / width - 1) > _ASPECT_AGREES
    if stretched:
        notify(f"{where}: aspect of {stretched} views differs from {width}x{height}; it is ignored, pixels are square.")
    if data.get("crop"):
        notify(f"{where}: crop is ignored; Clean Scene and convert crop scenes.")
    matrices = torch.tensor(rows, dtype=torch.float64).view(-1, 3, 4)
    turned = rotations_from_matrices(
        matrices[:, :, :3].contiguous(), lambda i: f"{where}: {KEY}[{i}].camera_to_world: the 3x3 part"
    )
    poses = pose(turned, matrices[:, :, 3]) * CAMERA_FLIP
    return FileViews(
        poses, torch.tensor(lenses, dtype=torch.float64), [(width, height)] * len(entries), up=UP, trained=True
    )
