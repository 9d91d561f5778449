"""What every trajectory file needs: bounded reading, checked numbers, exact printing, writing in one go."""

from __future__ import annotations

import contextlib
import json
import math
import re
from pathlib import Path

import torch
from torch import Tensor

from ...cameras import Cameras
from ...errors import FlashWorldError
from ...geometry import checked_rotations, quats_to_matrices
from ..files import atomic_writer, exact

MAX_BYTES = 100 * 2**20
MAX_CAMERAS = 100_000
MAX_SIDE = 1 << 16  # pixels


def read_text(path: Path) -> str:
    """The UTF-8 text of a file of at most `MAX_BYTES`."""
    try:
        if not path.is_file():
            raise FlashWorldError(f"read_cameras: {path} is not an ordinary file.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise FlashWorldError(
                f"read_cameras: {path} has {size >> 20} MiB, more than the {MAX_BYTES >> 20} MiB read."
            )
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)  # bounded also for devices and files that grow
    except OSError as error:
        raise FlashWorldError(f"read_cameras: {path} cannot be read: {error.strerror or error}.") from error
    if len(data) > MAX_BYTES:
        raise FlashWorldError(f"read_cameras: {path} holds more than {MAX_BYTES >> 20} MiB.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FlashWorldError(
            f"read_cameras: {path} is not a text file (byte {error.start} is not UTF-8); expected a request or "
            "transforms.json, a RealEstate10K text, or COLMAP's images.txt."
        ) from error


def parse_json(text: str, where: str) -> dict:
    """A JSON object."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise FlashWorldError(
            f"read_cameras: {where} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from error
    except (ValueError, RecursionError) as error:  # integers of thousands of digits, nesting without end
        raise FlashWorldError(f"read_cameras: {where} is not usable JSON: {error}.") from error
    if not isinstance(data, dict):
        raise FlashWorldError(f"read_cameras: {where} must hold a JSON object, not a {type(data).__name__}.")
    return data


def number(value, where: str) -> float:
    """``value`` (a JSON number, or the text of one) as a finite float."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise FlashWorldError(f"read_cameras: {where} must be a number, got {_short(value)}.")
    try:
        result = float(value)
    except (ValueError, OverflowError) as error:
        raise FlashWorldError(f"read_cameras: {where} must be a number, got {_short(value)}.") from error
    # Poses become float32, where lengths are squared; no sane scene comes near this bound.
    if not math.isfinite(result) or abs(result) > 1e15:
        raise FlashWorldError(f"read_cameras: {where} must be finite and of sensible size, got {_short(value)}.")
    return result


def numbers(value, count: int, where: str) -> list[float]:
    """A list of exactly ``count`` JSON numbers."""
    if not isinstance(value, list) or len(value) != count:
        got = f"{len(value)} entries" if isinstance(value, list) else _short(value)
        raise FlashWorldError(f"read_cameras: {where} must be a list of {count} numbers, got {got}.")
    return [number(item, f"{where}[{i}]") for i, item in enumerate(value)]


def whole_number(value, low: int, high: int, where: str) -> int:
    """``value`` as an int in [low, high]."""
    result = number(value, where)
    if result != int(result) or not low <= result <= high:
        raise FlashWorldError(
            f"read_cameras: {where} must be a whole number from {low} to {high}, got {_short(value)}."
        )
    return int(result)


def rotation_from_quaternion(wxyz: list[float], where: str) -> Tensor:
    """[3, 3] float64; the quaternion may have any length but zero."""
    quaternion = torch.tensor(wxyz, dtype=torch.float64)
    if float(quaternion.norm()) < 1e-8:
        raise FlashWorldError(f"read_cameras: {where} is a quaternion of length zero, which is no rotation.")
    return quats_to_matrices(quaternion)


def pinhole(fx: float, fy: float, cx: float, cy: float, where: str) -> Tensor:
    """[3, 3] float64 intrinsics."""
    if not (fx > 0 and fy > 0):
        raise FlashWorldError(f"read_cameras: {where}: focal lengths must be positive, got {fx} and {fy}.")
    return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)


def check_count(count: int, where: str) -> None:
    if count == 0:
        raise FlashWorldError(f"read_cameras: {where} holds no cameras.")
    if count > MAX_CAMERAS:
        raise FlashWorldError(f"read_cameras: {where} holds {count} cameras, more than {MAX_CAMERAS}.")


def check_size(width, height, where: str) -> tuple[int, int]:
    """A caller's or a file's image size as two ints, refused if it is missing or absurd."""
    if width is None or height is None:
        raise FlashWorldError(
            f"read_cameras: {where} does not say how large its images are; pass width and height in pixels."
        )
    return whole_number(width, 1, MAX_SIDE, f"{where}: width"), whole_number(height, 1, MAX_SIDE, f"{where}: height")


def check_writable(cameras: Cameras) -> None:
    """Refuse what no file can hold: no views or too many, skew, poses that are not rigid."""
    if not 1 <= len(cameras) <= MAX_CAMERAS:
        raise FlashWorldError(f"write_cameras: a file holds 1 to {MAX_CAMERAS} cameras, not {len(cameras)}.")
    fixed = torch.tensor([[0, 1, 0], [1, 0, 0], [1, 1, 1]], device=cameras.device).bool()
    if not torch.equal(
        cameras.intrinsics[:, fixed], cameras.intrinsics.new_tensor([0, 0, 0, 0, 1]).expand(len(cameras), 5)
    ):
        raise FlashWorldError(
            "write_cameras: intrinsics must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]; no file holds skew."
        )
    checked_rotations(cameras.camera_to_world[:, :3, :3], "write_cameras: the rotation of views")


def line_of(values: Tensor) -> str:
    """`exact` as space-separated text."""
    return " ".join(repr(value) for value in exact(values))


def write_texts(texts: dict[Path, str]) -> None:
    """Write files, all of one folder, which is made if missing. None takes its name before all are complete.

    Raises:
        FlashWorldError: the folder cannot be written to, or a folder has a file's name.
    """
    folder = next(iter(texts)).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FlashWorldError(f"write_cameras: {folder} cannot be made: {error.strerror or error}.") from error
    with contextlib.ExitStack() as renamed_at_the_end:
        for path, text in texts.items():
            renamed_at_the_end.enter_context(atomic_writer(path)).write(text.encode())


def _short(value) -> str:
    text = repr(value) if isinstance(value, (str, int, float, bool, type(None))) else f"a {type(value).__name__}"
    return text if len(text) <= 40 else text[:37] + "..."


def by_name(names: list) -> list[int]:
    """Indices that put views into the natural order of their image names (2 before 10).

    Reconstruction programs list pictures in the order they were registered; the order along the path is only in the
    names. Where a name is missing, not a string or used twice, the views stay as listed.
    """
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return list(range(len(names)))
    return sorted(range(len(names)), key=lambda i: _natural(names[i]))


def _natural(name: str) -> list:
    """Text and digit runs alternate; digits compare by value, without turning them into (unbounded) integers."""
    parts = re.split(r"([0-9]+)", name)
    return [(len(p.lstrip("0")), p.lstrip("0")) if i % 2 else p for i, p in enumerate(parts)]
