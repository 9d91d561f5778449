"""Gaussian scenes as .splat files (antimatter15): 32 bytes a Gaussian, for web viewers.

No header, a row each: f32 x y z, f32 scales (linear), u8 red green blue alpha, u8 quaternion wxyz (128 is 0). Little
endian, axes unchanged (x right, y down, z forward). A file is known only by its name and a size that 32 divides.

What a file cannot hold: view-dependent color (SH), colors outside 0..1, metadata, the antialiased filter. Colors are
cut and both losses are said once in the log.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import FlashWorldError, check_stop
from ...gaussians import Gaussians
from ...sh import C0
from ..files import atomic_writer
from .rows import (
    Losses,
    Rows,
    RowTable,
    check_rows,
    ordered_map,
    ranges,
    signs_of_axes,
    signs_of_frame,
    take,
    take_rows,
    unit_quats,
)

ROW = np.dtype([("means", "<f4", 3), ("scales", "<f4", 3), ("color", "u1", 4), ("quats", "u1", 4)])
_CHUNK_ROWS = 1 << 16
_COLOR = ((np.arange(256) / 255 - 0.5) / C0).astype(np.float32)
_OPACITY = (np.arange(256) / 255).astype(np.float32)


def write_splat(
    path: str | os.PathLike,
    gaussians: Gaussians,
    *,
    axes: Literal["source", "y-up"] = "source",
    progress=None,
    should_stop=None,
) -> None:
    """Write a .splat file, the largest and most opaque Gaussians first, as viewers that draw while loading want it.

    Args:
        path: the file; replaced only when the new one is complete.
        gaussians: any float dtype, any device.
        axes: "source" keeps them; "y-up" writes x right, y up, z backward. The file cannot say which.
        progress: called as ``progress(done, total)`` in Gaussians, after each chunk.
        should_stop: asked before each chunk; True leaves nothing behind.

    Raises:
        FlashWorldError: an empty scene, a number that is not finite, or a file that cannot be written.
        Cancelled: ``should_stop`` answered True.
    """
    where, total = Path(path).name, len(gaussians)
    signs = signs_of_axes(axes)
    if not total:
        raise FlashWorldError(f"{where}: a .splat file cannot hold an empty scene.")
    losses = Losses()
    if gaussians.sh_degree:
        losses.add("Gaussians keep only the color of SH degree 0, .splat files hold no more", total)
    order = _falling_size(gaussians)

    def pack(piece: tuple[int, int]) -> np.ndarray:
        index = order[slice(*piece)]
        rows = take_rows(gaussians, index, 0, signs)
        check_rows(rows, piece[0], where, index)
        return _pack(rows, losses)

    with atomic_writer(path) as stream:
        done = 0
        for packed in ordered_map(pack, ranges(total, _CHUNK_ROWS), should_stop):
            stream.write(memoryview(packed).cast("B"))
            done += len(packed)
            if progress is not None:
                progress(done, total)
        check_stop(should_stop)
    losses.report(where)


def read_splat(
    path: str | os.PathLike,
    *,
    frame: Literal["auto", "opencv", "opengl"] = "auto",
    invalid: Literal["drop", "error"] = "drop",
    progress=None,
    should_stop=None,
) -> Gaussians:
    """Read a .splat file.

    Args:
        path: the file.
        frame: its world axes. "auto" and "opencv": y down, as they are. "opengl": y up, z backward, turned.
        invalid: rows with a NaN or an infinite number are dropped and counted in the log, or an error.
        progress: called as ``progress(done, total)`` in Gaussians, after each chunk.
        should_stop: asked before each chunk.

    Returns:
        float32 CPU `Gaussians` of SH degree 0.

    Raises:
        FlashWorldError: no file, or a size that 32 does not divide.
        Cancelled: ``should_stop`` answered True.
    """
    where = Path(path).name
    signs = signs_of_frame(frame)
    try:
        with open(path, "rb", buffering=0) as stream:
            total = _count(path, where)
            table = RowTable(total, 0, os.path.getsize(path), where)

            def decode(piece):
                start, stop, data = piece
                _unpack(np.frombuffer(data, ROW), table.part(start, stop))
                table.mark(table.rows.means[start:stop], table.rows.scales[start:stop])
                return stop

            for done in ordered_map(decode, _chunks(stream, total, where), should_stop):
                if progress is not None:
                    progress(done, total)
    except OSError as error:
        raise FlashWorldError(f"{where}: cannot be read: {error.strerror or error}.") from error
    return table.gaussians({}, signs, invalid)


def splat_info(path: str | os.PathLike) -> dict:
    """What a .splat file holds: dict of JSON values ``format``, ``bytes``, ``gaussians``, ``sh_degree``, ``axes``,
    ``metadata``.

    Raises:
        FlashWorldError: no file, or a size that 32 does not divide.
    """
    count = _count(path, Path(path).name)
    return {
        "format": ".splat",
        "bytes": os.path.getsize(path),
        "gaussians": count,
        "sh_degree": 0,
        "axes": "not named",
        "metadata": {},
    }


def _count(path: str | os.PathLike, where: str) -> int:
    try:
        size = os.path.getsize(path)
    except OSError as error:
        raise FlashWorldError(f"{where}: cannot be read: {error.strerror or error}.") from error
    if not size or size % ROW.itemsize:
        raise FlashWorldError(f"{where}: is no .splat file: its {size} bytes are no whole number of 32-byte rows.")
    return size // ROW.itemsize


def _chunks(stream, total: int, where: str):
    for start, stop in ranges(total, _CHUNK_ROWS):
        data = stream.read((stop - start) * ROW.itemsize)
        if len(data) < (stop - start) * ROW.itemsize:
            raise FlashWorldError(f"{where}: the file became shorter while reading.")
        yield start, stop, data


def _falling_size(gaussians: Gaussians) -> np.ndarray:
    """[N] uint32: rows by falling product of scales and opacity.

    Product and row number share one integer, which is sorted in place: 12 bytes a Gaussian. What is not finite comes
    somewhere and is refused later.
    """
    keys = np.empty(len(gaussians), np.uint64)
    with np.errstate(all="ignore"):
        for start, stop in ranges(len(gaussians), _CHUNK_ROWS):
            rows = slice(start, stop)
            scales = take(gaussians, "scales", rows)
            weight = np.abs(scales[:, 0] * scales[:, 1] * scales[:, 2] * take(gaussians, "opacities", rows))
            falling = (np.uint32(0xFFFFFFFF) - weight.view(np.uint32)).astype(np.uint64)
            keys[rows] = falling << np.uint64(32) | np.arange(start, stop, dtype=np.uint64)
    keys.sort()
    return keys.astype(np.uint32)  # the lower half


def _pack(rows: Rows, losses: Losses) -> np.ndarray:
    packed = np.empty(len(rows.means), ROW)
    packed["means"], packed["scales"] = rows.means, rows.scales
    color = rows.sh[:, 0] * np.float32(255 * C0) + np.float32(128)  # 127.5, and 0.5 to round
    if color.min() < 0 or color.max() >= 256:
        losses.add("colors outside 0..1 were cut to that", np.count_nonzero((color < 0) | (color >= 256)))
        np.clip(color, 0, 255, out=color)
    packed["color"][:, :3] = color
    packed["color"][:, 3] = rows.opacities * np.float32(255) + np.float32(0.5)
    packed["quats"] = np.minimum(rows.quats * np.float32(128) + np.float32(128.5), np.float32(255))
    return packed


def _unpack(packed: np.ndarray, rows: Rows) -> None:
    rows.means[...] = packed["means"]
    # A Gaussian is the same for a negative scale; some trainers leave them.
    np.abs(packed["scales"], out=rows.scales)
    rows.sh[:, 0] = _COLOR[packed["color"][:, :3]]
    rows.opacities[...] = _OPACITY[packed["color"][:, 3]]
    rows.quats[...] = unit_quats((packed["quats"].astype(np.float32) - np.float32(128)) * np.float32(1 / 128))
