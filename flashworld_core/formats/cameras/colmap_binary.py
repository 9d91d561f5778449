"""COLMAP's binary models: little-endian ``cameras.bin`` and ``images.bin``.

cameras.bin: u64 count; then u32 id, i32 model, u64 width, u64 height, f64 parameters (as many as the model has).
images.bin: u64 count; then u32 id, f64 quaternion wxyz, f64 translation xyz, u32 camera id, the name ended by a zero
byte, u64 number of 2D points, and 24 bytes for each of them, which are passed over.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import torch

from ...errors import FlashWorldError
from .lens import COLMAP_MODELS
from .parse import MAX_BYTES, MAX_CAMERAS, MAX_SIDE, check_count, columns_to_numbers, decode, open_file

MAX_IMAGES_BYTES = 16 * 2**30
_COUNT = struct.Struct("<Q")
_CAMERA = struct.Struct("<IiQQ")
_IMAGE = struct.Struct("<I7dI")
_POINT_BYTES = 24
_POINT = struct.Struct("<Q3d3BdQ")
_TRACK_BYTES = 8
_MAX_NAME = 4096  # bytes


class _Bytes:
    """A bounded file read piece by piece; a file that ends too early is an error, not a short answer."""

    def __init__(self, stream, path: Path):
        self.stream, self.path, self.size = stream, path, path.stat().st_size

    def take(self, layout: struct.Struct, what: str) -> tuple:
        data = self._read(layout.size)
        if len(data) < layout.size:
            raise FlashWorldError(f"{self.path} ends in the middle of {what}; it is damaged or not complete.")
        return layout.unpack(data)

    def text(self, what: str) -> str:
        data = bytearray()
        while (byte := self._read(1)) not in (b"\0", b""):
            data += byte
            if len(data) > _MAX_NAME:
                break
        if byte != b"\0":
            raise FlashWorldError(f"{self.path}: {what} has a name without end; the file is damaged.")
        return decode(bytes(data))

    def skip(self, count: int, what: str) -> None:
        if count > self.size - self.stream.tell():
            raise FlashWorldError(f"{self.path}: {what} has more points than the file has bytes; it is damaged.")
        self.stream.seek(count, 1)

    def _read(self, count: int) -> bytes:
        try:
            return self.stream.read(count)
        except OSError as error:
            raise FlashWorldError(f"{self.path} cannot be read: {error.strerror or error}.") from error


def read_lenses(path: Path) -> dict[str, tuple[str, str, tuple[int, int], dict[str, float]]]:
    """(place, model, image size, parameters by name) by camera id, as the text reader has them."""
    lenses = {}
    with open_file(path, MAX_BYTES) as stream:
        data = _Bytes(stream, path)
        (count,) = data.take(_COUNT, "the number of cameras")
        if count > MAX_CAMERAS:
            raise FlashWorldError(f"{path} holds {count} cameras, more than {MAX_CAMERAS}; is it a COLMAP model?")
        for i in range(count):
            number, model, width, height = data.take(_CAMERA, f"camera {i}")
            here = f"{path}: camera {number}"
            if model not in COLMAP_MODELS:
                raise FlashWorldError(f"{here}: there is no camera model number {model} in COLMAP.")
            name, names = COLMAP_MODELS[model]
            if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
                raise FlashWorldError(f"{here}: images of {width}x{height}; sides must be 1 to {MAX_SIDE} pixels.")
            values = columns_to_numbers(data.take(struct.Struct(f"<{len(names)}d"), f"camera {i}"), here)
            lenses[str(number)] = (here, name, (width, height), dict(zip(names, values, strict=True)))
    return lenses


def read_images(path: Path) -> Iterator[tuple[str, list[float], str, str]]:
    """(": image N", quaternion and translation, camera id, name) of every image."""
    with open_file(path, MAX_IMAGES_BYTES) as stream:
        data = _Bytes(stream, path)
        (count,) = data.take(_COUNT, "the number of images")
        check_count(count, str(path))
        for i in range(count):
            number, *values, camera = data.take(_IMAGE, f"image {i}")
            here = f": image {number}"
            values = columns_to_numbers(values, f"{path}{here}")
            name = data.text(f"image {number}")
            (points,) = data.take(_COUNT, f"image {number}")
            data.skip(points * _POINT_BYTES, f"image {number}")
            yield here, values, str(camera), name


def read_points(path: Path, most: int = 10_000_000) -> torch.Tensor:
    """[N, 3] float64 positions of ``points3D.bin``, world units.

    u64 count; then u64 id, f64 xyz, u8 rgb, f64 error, u64 length of the track, and 8 bytes for each entry of it.
    """
    positions = []
    with open_file(path, MAX_IMAGES_BYTES) as stream:
        data = _Bytes(stream, path)
        (count,) = data.take(_COUNT, "the number of points")
        if count > most:
            raise FlashWorldError(f"{path} holds {count} points, more than {most}; is it a COLMAP model?")
        for i in range(count):
            _, x, y, z, *_, track = data.take(_POINT, f"point {i}")
            data.skip(track * _TRACK_BYTES, f"point {i}")
            positions.append((x, y, z))
    points = torch.tensor(positions, dtype=torch.float64).reshape(-1, 3)
    return points[torch.isfinite(points).all(1)]
