"""RealEstate10K / CameraCtrl text: one line per view.

The first line is a URL or any other remark. Each further line holds 19 numbers: timestamp in microseconds, focal
lengths fx fy and principal point cx cy as fractions of the image's width and height, two zeros, and the 3x4
world-to-camera matrix row by row, in OpenCV axes. The format has no image size; this writer puts it into the remark,
as ``width=704 height=480``, and this reader looks there.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import torch

from ...cameras import Cameras
from ...errors import FlashWorldError
from ...geometry import checked_rotations, invert_pose, pose
from .parse import check_count, check_size, line_of, number, pinhole, write_texts

logger = logging.getLogger(__name__)

COLUMNS = 19
FRAMES_PER_SECOND = 30  # a `Cameras` has no clock; timestamps are written as those of a video of this rate


def recognizes(text: str) -> bool:
    """Whether one of the first two lines that are not remarks holds 19 numbers."""
    lines = [line.split() for line in text[:20_000].splitlines() if line.strip() and not line.startswith("#")]
    return any(len(line) == COLUMNS and _is_number(line[0]) for line in lines[:2])


def parse(text: str, where: str, width: int | None, height: int | None) -> Cameras:
    """`Cameras` from the text of a file; ``width`` and ``height`` in pixels are used where it does not say."""
    poses, lenses = [], []
    lines = text.splitlines()
    for line_number, line in enumerate(lines, start=1):
        columns = line.split()
        is_remark = line_number == 1 and not (len(columns) == COLUMNS and _is_number(columns[0]))
        if not columns or columns[0].startswith("#") or is_remark:
            continue
        here = f"{where}, line {line_number}"
        if len(columns) != COLUMNS:
            raise FlashWorldError(
                f"read_cameras: {here}: expected {COLUMNS} numbers (timestamp, fx fy cx cy, 0 0, 3x4 world-to-camera), "
                f"got {len(columns)}."
            )
        values = [number(column, f"{here}, column {i}") for i, column in enumerate(columns, start=1)]
        if any(values[5:7]):
            logger.warning("%s: lens distortion is ignored; the pinhole camera of the same focal length is used.", here)
        lenses.append(pinhole(*values[1:5], here))
        matrix = torch.tensor(values[7:], dtype=torch.float64).view(3, 4)
        poses.append(pose(checked_rotations(matrix[:, :3], f"read_cameras: {here}: the 3x3 matrix"), matrix[:, 3]))
        check_count(len(poses), where)
    check_count(len(poses), where)
    remark = re.search(r"\bwidth=(\d{1,6}) height=(\d{1,6})\b", lines[0])
    width, height = check_size(*(remark.groups() if remark else (width, height)), where)
    scale = torch.tensor([width, height, 1.0], dtype=torch.float64)
    intrinsics = torch.stack(lenses) * scale[:, None]
    return Cameras(invert_pose(torch.stack(poses)).float(), intrinsics.float(), width, height)


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
