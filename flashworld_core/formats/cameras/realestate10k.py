"""RealEstate10K / CameraCtrl text: one line per view.

The first line is a URL or any other remark. Each further line holds 19 numbers: timestamp in microseconds, focal
lengths fx fy and principal point cx cy as fractions of the image's width and height, two zeros, and the 3x4
world-to-camera matrix row by row, in OpenCV axes. The format has no image size; this writer puts it into the remark,
as ``width=704 height=480``, and this reader looks there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch

from ...cameras import Cameras
from ...errors import FlashWorldError
from ...geometry import invert_pose, pose
from .parse import (
    check_count,
    check_focal,
    check_size,
    columns_to_numbers,
    line_of,
    rotations_from_matrices,
    write_texts,
)
from .views import FileViews

COLUMNS = 19
FRAMES_PER_SECOND = 30  # a `Cameras` has no clock; timestamps are written as those of a video of this rate


def recognizes(text: str) -> bool:
    """Whether one of the first two lines that are not remarks holds 19 numbers."""
    lines = [line.split() for line in text[:20_000].splitlines() if line.strip() and not line.startswith("#")]
    return any(len(line) == COLUMNS and _is_number(line[0]) for line in lines[:2])


def parse(text: str, where: str, size: tuple[int, int] | None, notify: Callable[[str], None]) -> FileViews:
    """The views of a text; ``size``, width and height in pixels, is used where it does not say."""
    rows, numbers_of_lines, distorted = [], [], None
    lines = text.splitlines()
    for line_number, line in enumerate(lines, start=1):
        columns = line.split()
        is_remark = line_number == 1 and not (len(columns) == COLUMNS and _is_number(columns[0]))
        if not columns or columns[0].startswith("#") or is_remark:
            continue
        here = f"{where}, line {line_number}"
        if len(columns) != COLUMNS:
            raise FlashWorldError(
                f"{here}: expected {COLUMNS} numbers (timestamp, fx fy cx cy, 0 0, 3x4 world-to-camera), "
                f"got {len(columns)}."
            )
        values = columns_to_numbers(columns, here)
        if values[5] or values[6]:
            distorted = distorted or here
        check_focal(values[1], values[2], here)
        rows.append(values)
        numbers_of_lines.append(line_number)
        check_count(len(rows), where)
    check_count(len(rows), where)
    if distorted:
        notify(f"{distorted}: lens distortion is ignored; pinhole cameras of the same focal lengths are used.")
    remark = re.search(r"\bwidth=(\d{1,6}) height=(\d{1,6})\b", lines[0])
    size = check_size(*(remark.groups() if remark else size or (None, None)), where)
    table = torch.tensor(rows, dtype=torch.float64)
    matrices = table[:, 7:].view(-1, 3, 4)
    rotations = rotations_from_matrices(
        matrices[:, :, :3].contiguous(), lambda i: f"{where}, line {numbers_of_lines[i]}: the 3x3 matrix"
    )
    lenses = table[:, 1:5] * torch.tensor([*size, *size], dtype=torch.float64)
    return FileViews(invert_pose(pose(rotations, matrices[:, :, 3])), lenses, [size] * len(rows))


def write(path: Path, cameras: Cameras) -> None:
    """Write ``cameras``; intrinsics may differ from view to view."""
    size = torch.tensor([[cameras.width], [cameras.height]], dtype=torch.float64)
    lines = [f"# camera path: {len(cameras)} views, width={cameras.width} height={cameras.height}"]
    world_to_camera = invert_pose(cameras.camera_to_world.double())[:, :3].to(cameras.camera_to_world)
    intrinsics = (cameras.intrinsics.double()[:, :2] / size.to(cameras.device)).to(cameras.intrinsics)
    for i in range(len(cameras)):
        lens = torch.stack([intrinsics[i, 0, 0], intrinsics[i, 1, 1], intrinsics[i, 0, 2], intrinsics[i, 1, 2]])
        timestamp = round(i * 1e6 / FRAMES_PER_SECOND)
        lines.append(f"{timestamp} {line_of(lens)} 0 0 {line_of(world_to_camera[i])}")
    write_texts({path: "\n".join(lines) + "\n"})


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
