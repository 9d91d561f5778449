"""``cameras.json`` as the 3DGS trainer writes it beside its scenes, and other trainers after it.

A list of {id, img_name, width, height, position, rotation, fx, fy}: ``rotation`` is the 3x3 camera-to-world rotation,
row by row, ``position`` the camera's center, both in OpenCV axes and in the world of the scene's PLY. The principal
point is the image's center, unless an entry has cx and cy.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ...cameras import Cameras
from ...errors import FlashWorldError
from ...geometry import pose
from ..files import exact
from .parse import check_count, check_focal, check_size, number, numbers, rotations_from_matrices, write_texts
from .views import FileViews

KEYS = ("position", "rotation", "fx", "fy")


def recognizes(data) -> bool:
    """Whether parsed JSON is such a list."""
    return isinstance(data, list) and bool(data) and isinstance(data[0], dict) and "rotation" in data[0]


def parse(data: list, where: str) -> FileViews:
    """The views of a parsed file."""
    check_count(len(data), where)
    rotations, positions, lenses, sizes = [], [], [], []
    for i, entry in enumerate(data):
        here = f"{where}: [{i}]"
        if not isinstance(entry, dict):
            raise FlashWorldError(f"{here} must be an object with {', '.join(KEYS)}.")
        for key in KEYS:
            if key not in entry:
                raise FlashWorldError(f"{here}.{key} is missing.")
        if not isinstance(entry["rotation"], list) or len(entry["rotation"]) != 3:
            raise FlashWorldError(f"{here}.rotation must be a list of 3 rows of 3 numbers.")
        rotations.append([numbers(row, 3, f"{here}.rotation[{k}]") for k, row in enumerate(entry["rotation"])])
        positions.append(numbers(entry["position"], 3, f"{here}.position"))
        width, height = check_size(entry.get("width"), entry.get("height"), here)
        fx, fy = (number(entry[key], f"{here}.{key}") for key in ("fx", "fy"))
        check_focal(fx, fy, here)
        cx, cy = number(entry.get("cx", width / 2), f"{here}.cx"), number(entry.get("cy", height / 2), f"{here}.cy")
        lenses.append([fx, fy, cx, cy])
        sizes.append((width, height))
    turned = rotations_from_matrices(torch.tensor(rotations, dtype=torch.float64), lambda i: f"{where}: [{i}].rotation")
    poses = pose(turned, torch.tensor(positions, dtype=torch.float64))
    names = [entry.get("img_name") for entry in data]
    return FileViews(poses, torch.tensor(lenses, dtype=torch.float64), sizes, names)


def write(path: Path, cameras: Cameras) -> None:
    """Write ``cameras``; cx and cy only where they are not the image's center."""
    digits = max(4, len(str(len(cameras) - 1)))
    entries = []
    for i, (matrix, k) in enumerate(zip(cameras.camera_to_world, cameras.intrinsics, strict=True)):
        fx, fy, cx, cy = exact(torch.stack([k[0, 0], k[1, 1], k[0, 2], k[1, 2]]))
        off_center = {} if (cx, cy) == (cameras.width / 2, cameras.height / 2) else {"cx": cx, "cy": cy}
        rotation = exact(matrix[:3, :3])
        entries.append(
            {
                "id": i,
                "img_name": f"view_{i:0{digits}d}",
                "width": cameras.width,
                "height": cameras.height,
                "position": exact(matrix[:3, 3]),
                "rotation": [rotation[0:3], rotation[3:6], rotation[6:9]],
                "fy": fy,
                "fx": fx,
                **off_center,
            }
        )
    write_texts({path: json.dumps(entries) + "\n"})
