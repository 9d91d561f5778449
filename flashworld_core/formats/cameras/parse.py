"""What every camera file reader and writer needs: bounded reading, checked numbers, exact printing, one write."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Sequence
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
LARGEST = 1e15  # poses become float32, where lengths are squared; no sane scene comes near this bound


def open_file(path: Path, limit: int):
    """An ordinary file of at most ``limit`` bytes, opened for reading bytes; pipes and devices are not waited for.

    Raises:
        FlashWorldError: missing, no ordinary file, too large, or not readable.
    """
    try:
        if not path.is_file():
            problem = "is not an ordinary file" if path.exists() else "cannot be read: there is no such file"
            raise FlashWorldError(f"{path} {problem}.")
        if path.stat().st_size > limit:
            raise FlashWorldError(f"{path} has {path.stat().st_size >> 20} MiB, more than the {limit >> 20} MiB read.")
        return path.open("rb")
    except OSError as error:
        raise FlashWorldError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_text(path: Path) -> str:
    """The text of a file of at most `MAX_BYTES`, see `decode`."""
    with open_file(path, MAX_BYTES) as stream:
        try:
            data = stream.read(MAX_BYTES + 1)  # bounded also for files that grow
        except OSError as error:
            raise FlashWorldError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(data) > MAX_BYTES:
        raise FlashWorldError(f"{path} holds more than {MAX_BYTES >> 20} MiB.")
    if b"\0" in data[:4096] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FlashWorldError(
            f"{path} is not a text file, so no camera path; those are a request or transforms.json, the 3DGS trainer's "
            "cameras.json, RealEstate10K text, or a COLMAP model."
        )
    return decode(data)


def decode(data: bytes) -> str:
    """Text in UTF-8 or, with its byte order mark, UTF-16; any other bytes become the characters of the same numbers.

    Numbers are ASCII in all of these; only image names and comments can hold other letters, and names only need to
    stay different from one another.
    """
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            return data.decode("utf-16")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def parse_json(text: str, where: str) -> dict | list:
    """A JSON object or list."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise FlashWorldError(
            f"{where} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from error
    except (ValueError, RecursionError) as error:  # integers of thousands of digits, nesting without end
        raise FlashWorldError(f"{where} is not usable JSON: {str(error)[:100]}.") from error
    if not isinstance(data, (dict, list)):
        raise FlashWorldError(f"{where} must hold a JSON object, not a {type(data).__name__}.")
    return data


def number(value, where: str) -> float:
    """``value`` (a JSON number, or the text of one) as a finite float."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise FlashWorldError(f"{where} must be a number, got {short(value)}.")
    try:
        result = float(value)
    except (ValueError, OverflowError) as error:
        raise FlashWorldError(f"{where} must be a number, got {short(value)}.") from error
    if not math.isfinite(result) or abs(result) > LARGEST:
        raise FlashWorldError(f"{where} must be finite and of sensible size, got {short(value)}.")
    return result


def numbers(value, count: int, where: str) -> list[float]:
    """A list of exactly ``count`` JSON numbers."""
    if not isinstance(value, list) or len(value) != count:
        got = f"{len(value)} entries" if isinstance(value, list) else short(value)
        raise FlashWorldError(f"{where} must be a list of {count} numbers, got {got}.")
    if all(type(item) is float and -LARGEST <= item <= LARGEST for item in value):  # NaN fails; nearly every list
        return value
    return [number(item, f"{where}[{i}]") for i, item in enumerate(value)]


def columns_to_numbers(columns: Sequence[str], where: str) -> list[float]:
    """The columns of a text line as numbers."""
    try:
        values = [float(column) for column in columns]
    except ValueError:
        values = [math.nan]
    if all(-LARGEST <= value <= LARGEST for value in values):
        return values
    return [number(column, f"{where}, column {i}") for i, column in enumerate(columns, start=1)]


def whole_number(value, low: int, high: int, where: str) -> int:
    """``value`` as an int in [low, high]."""
    result = number(value, where)
    if result != int(result) or not low <= result <= high:
        raise FlashWorldError(f"{where} must be a whole number from {low} to {high}, got {short(value)}.")
    return int(result)


def rotations_from_quaternions(wxyz: Sequence[Sequence[float]], place: Callable[[int], str]) -> Tensor:
    """[V, 3, 3] float64 rotations of [V][4] quaternions of any length but zero; ``place`` names one for the message."""
    quaternions = torch.tensor(wxyz, dtype=torch.float64).reshape(-1, 4)
    zero = quaternions.norm(dim=1) < 1e-8
    if bool(zero.any()):
        raise FlashWorldError(f"{place(int(zero.nonzero()[0]))} is a quaternion of length zero, which is no rotation.")
    return quats_to_matrices(quaternions)


def rotations_from_matrices(matrices: Tensor, place: Callable[[int], str]) -> Tensor:
    """[V, 3, 3] float64 rotations, made exactly orthogonal; ``place`` names one for the message."""
    try:
        return checked_rotations(matrices, "")
    except FlashWorldError:
        for i, matrix in enumerate(matrices):
            checked_rotations(matrix, place(i))
        raise


def check_focal(fx: float, fy: float, where: str) -> None:
    if not (fx > 0 and fy > 0):
        raise FlashWorldError(f"{where}: focal lengths must be positive, got {fx:g} and {fy:g}.")


def check_count(count: int, where: str) -> None:
    if count == 0:
        raise FlashWorldError(f"{where} holds no cameras.")
    if count > MAX_CAMERAS:
        raise FlashWorldError(f"{where} holds more than {MAX_CAMERAS} cameras ({count}).")


def check_size(width, height, where: str) -> tuple[int, int]:
    """A caller's or a file's image size as two ints, refused if it is missing or absurd."""
    if width is None or height is None:
        raise FlashWorldError(
            f"{where} does not say how large its images are; give their size (width and height in pixels)."
        )
    return whole_number(width, 1, MAX_SIDE, f"{where}: width"), whole_number(height, 1, MAX_SIDE, f"{where}: height")


def check_writable(cameras: Cameras) -> None:
    """Refuse what no file can hold: no views or too many, skew, poses that are not rigid."""
    if not 1 <= len(cameras) <= MAX_CAMERAS:
        raise FlashWorldError(f"A camera file holds 1 to {MAX_CAMERAS} cameras, not {len(cameras)}.")
    fixed = torch.tensor([[0, 1, 0], [1, 0, 0], [1, 1, 1]], device=cameras.device).bool()
    if not torch.equal(
        cameras.intrinsics[:, fixed], cameras.intrinsics.new_tensor([0, 0, 0, 0, 1]).expand(len(cameras), 5)
    ):
        raise FlashWorldError("Intrinsics must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]; no camera file holds skew.")
    checked_rotations(cameras.camera_to_world[:, :3, :3], "The rotation of views")


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
        raise FlashWorldError(f"{folder} cannot be made: {error.strerror or error}.") from error
    with contextlib.ExitStack() as renamed_at_the_end:
        for path, text in texts.items():
            renamed_at_the_end.enter_context(atomic_writer(path)).write(text.encode())


def short(value) -> str:
    """``value`` for a message: at most 40 characters."""
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
