"""nerfstudio's ``dataparser_transforms.json``: how the world of a dataset became the world of the trained scene.

``transform`` is a 3x4 matrix [R | t] and ``scale`` a number: trained = scale * (R x + t). Where the dataset's
transforms.json names an ``applied_transform`` (and ``applied_scale``), x is in the world before that one was applied,
the world of the reconstruction: nerfstudio folds it into the matrix it stores. The trained world has its z up.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ...errors import FlashWorldError
from .parse import number, numbers, parse_json, read_text, rotations_from_matrices

NAME = "dataparser_transforms.json"
UP = "z"


def find(*places: Path) -> Path | None:
    """The file beside one of ``places`` (files or folders), the first that has one."""
    for place in places:
        folder = place if place.is_dir() else place.parent
        if (folder / NAME).is_file():
            return folder / NAME
    return None


def read(path: Path, applied: tuple[Tensor, float] | None = None) -> tuple[Tensor, float, Tensor]:
    """(rotation [3, 3], scale, shift [3]) in float64 with trained = scale * (rotation @ x) + shift.

    Args:
        path: the file.
        applied: the matrix [4, 4] and the scale of the transforms.json that x is in; None if x is in the world of the
            reconstruction, or the transforms.json names none.

    Raises:
        FlashWorldError: not this file, or no similarity.
    """
    data = parse_json(read_text(path), str(path))
    if not isinstance(data, dict) or "transform" not in data or "scale" not in data:
        raise FlashWorldError(f"{path} is no {NAME}: it needs the keys transform and scale.")
    matrix = matrix_3x4(data["transform"], f"{path}: transform")
    scale = number(data["scale"], f"{path}: scale")
    if applied is not None:
        matrix = matrix @ torch.linalg.inv(applied[0])
        scale /= applied[1]
    if not scale > 0:
        raise FlashWorldError(f"{path}: scale must be above 0, got {scale:g}.")
    rotation = rotations_from_matrices(matrix[None, :3, :3], lambda _: f"{path}: the 3x3 part of transform")[0]
    return rotation, scale, scale * matrix[:3, 3]


def inverse(matrix: Tensor, scale: float) -> tuple[Tensor, float, Tensor]:
    """The similarity that undoes x -> scale * (R x + t) of a [4, 4] matrix [R | t], in the form of `read`."""
    rotation = matrix[:3, :3].T
    return rotation, 1 / scale, -(rotation @ matrix[:3, 3])


def matrix_3x4(value, where: str) -> Tensor:
    """[4, 4] float64 of 3 (or 4) rows of 4 JSON numbers."""
    if not isinstance(value, list) or len(value) not in (3, 4):
        raise FlashWorldError(f"{where} must be a list of 4 rows of 4 numbers.")
    rows = torch.tensor([numbers(row, 4, f"{where}[{i}]") for i, row in enumerate(value)], dtype=torch.float64)
    return torch.cat([rows[:3], rows.new_tensor([[0, 0, 0, 1]])])
