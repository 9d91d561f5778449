"""WildRGB-D: ``CATEGORY/scenes/SCENE/`` with ``rgb/*.png``, ``metadata`` and ``cam_poses.txt``.

``metadata`` is JSON with w, h and K, the intrinsics column by column; each line of ``cam_poses.txt`` is a frame's
number and its 4x4 camera-to-world matrix row by row, OpenCV axes, meters. Scenes without ``rgb`` are taken for their
paths.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from ..errors import FlashWorldError
from ..formats.cameras.parse import (
    check_count,
    check_focal,
    check_size,
    columns_to_numbers,
    numbers,
    parse_json,
    read_text,
    rotations_from_matrices,
    whole_number,
)
from ..formats.cameras.views import FileViews
from ..geometry import pose
from .clips import BrokenClip, Clip, Reading, folders, multiview_clip

LAYOUT = "CATEGORY/scenes/SCENE/{cam_poses.txt,metadata,rgb/*.png}"
_COLUMNS = 17


def clips(root: Path, reading: Reading) -> Iterator[Clip]:
    """All scenes, in the order of their names."""
    for category in folders(root):
        for scene in folders(category / "scenes"):
            id = f"{category.name}/{scene.name}"
            try:
                yield _clip(scene, id, category.name.replace("_", " "), reading)
            except FlashWorldError as error:
                reading.skip(id, error)


def _clip(scene: Path, id: str, category: str, reading: Reading) -> Clip:
    path = scene / "cam_poses.txt"
    if not path.is_file() or not (scene / "metadata").is_file():
        raise BrokenClip("its cameras are missing", "no cam_poses.txt or no metadata")
    size, lens = _lens(scene / "metadata")
    frames, poses = _poses(path)
    views = FileViews(poses, torch.tensor([lens] * len(poses), dtype=torch.float64), [size] * len(poses))
    if not (scene / "rgb").is_dir():
        return Clip(
            id=id, kind="multiview", prompt=reading.prompt(id, category), size=size, poses=poses, lenses=views.lenses,
            metric=True, stamp=reading.stamp(path),
        )  # fmt: skip
    digits = _digits(scene / "rgb")
    names = [f"{frame:0{digits}d}.png" for frame in frames]
    return multiview_clip(reading, id, views, scene / "rgb", names, stamp=path, prompt=category, metric=True)


def _lens(path: Path) -> tuple[tuple[int, int], list[float]]:
    data = parse_json(read_text(path), str(path))
    if not isinstance(data, dict):
        raise FlashWorldError(f"{path} must hold a JSON object.")
    k = data.get("K")
    if isinstance(k, list) and len(k) == 3 and all(isinstance(column, list) for column in k):
        k = [value for column in k for value in column]
    k = numbers(k, 9, f"{path}: K")
    size = check_size(data.get("w"), data.get("h"), str(path))
    # Column by column, so the principal point is at the end; a few copies have it row by row.
    fx, fy = k[0], k[4]
    cx, cy = (k[6], k[7]) if k[6] or k[7] else (k[2], k[5])
    check_focal(fx, fy, str(path))
    return size, [fx, fy, cx, cy]


def _poses(path: Path) -> tuple[list[int], torch.Tensor]:
    frames, rows = [], []
    for line_number, line in enumerate(read_text(path).splitlines(), start=1):
        columns = line.split()
        if not columns:
            continue
        here = f"{path}, line {line_number}"
        if len(columns) != _COLUMNS:
            raise FlashWorldError(f"{here}: expected a frame's number and 16 numbers, got {len(columns)} columns.")
        values = columns_to_numbers(columns, here)
        frames.append(whole_number(values[0], 0, 10**9, f"{here}, column 1"))
        rows.append(values[1:])
    check_count(len(rows), str(path))
    matrices = torch.tensor(rows, dtype=torch.float64).view(-1, 4, 4)
    rotations = rotations_from_matrices(
        matrices[:, :3, :3].contiguous(), lambda i: f"{path}: the matrix of frame {frames[i]}"
    )
    return frames, pose(rotations, matrices[:, :3, 3])


def _digits(folder: Path) -> int:
    """How many digits the names of frames have."""
    return next((len(path.stem) for path in folder.iterdir() if path.stem.isdigit()), 5)
