"""Gaussian scenes as .ksplat files (GaussianSplats3D, version 0.1): for that viewer and those built on it.

A header of 4096 bytes, headers of 1024 bytes for each section, then the sections. Level 0 holds 32-bit floats, levels
1 and 2 half floats with positions as 16-bit steps from the center of a bucket, level 2 also SH in bytes. Color and
opacity are bytes at every level. Axes unchanged (x right, y down, z forward). Little endian.

What a file cannot hold: SH degree 3, colors outside 0..1, metadata, the antialiased filter; at level 1 also scales
below 6e-8 and above 65504. Said once in the log.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import FlashWorldError, check_stop
from ...gaussians import SH_COEFFICIENTS, Gaussians
from ...sh import C0
from ..files import atomic_writer
from .rows import (
    Losses,
    Rows,
    check_field,
    check_rows,
    ordered_map,
    ranges,
    signs_of_axes,
    take,
    take_rows,
    written_degree,
)

HEADER_BYTES, SECTION_BYTES = 4096, 1024
SCALE_RANGE = 32767
_CHUNK_ROWS = 1 << 15
_BLOCK, _BUCKET_ROWS = 5.0, 256
_HALF_MAX = 65504.0


def write_ksplat(
    path: str | os.PathLike,
    gaussians: Gaussians,
    *,
    level: Literal[0, 1] = 1,
    sh_degree: int | None = None,
    axes: Literal["source", "y-up"] = "source",
    progress=None,
    should_stop=None,
) -> None:
    """Write a .ksplat file of one section, with all Gaussians, also those of opacity 0.

    Args:
        path: the file; replaced only when the new one is complete.
        gaussians: any float dtype, any device.
        level: 0 for floats; 1 for half the size: positions to 0.00004 units, the rest as half floats.
        sh_degree: cut or fill the color coefficients to this degree; None keeps the scene's own. 3 becomes 2.
        axes: "source" keeps them; "y-up" writes x right, y up, z backward. The file cannot say which.
        progress: called as ``progress(done, total)`` in Gaussians, after each chunk.
        should_stop: asked before each chunk; True leaves nothing behind.

    Raises:
        FlashWorldError: an empty scene, a number that is not finite, or a file that cannot be written.
        Cancelled: ``should_stop`` answered True.
    """
    where, total = Path(path).name, len(gaussians)
    if level not in (0, 1):
        raise FlashWorldError(f"a .ksplat can be written at level 0 or 1, got {level!r}.")
    signs, degree = signs_of_axes(axes), written_degree(gaussians, sh_degree, limit=2)
    if not total:
        raise FlashWorldError(f"{where}: a .ksplat file cannot hold an empty scene.")
    losses = Losses()
    if (gaussians.sh_degree if sh_degree is None else sh_degree) > degree:
        losses.add("Gaussians lose SH degree 3, .ksplat files hold 2 at most", total)
    order, lengths, centers, full = None, np.zeros(0, "<u4"), np.zeros((0, 3), "<f4"), 0
    if level:
        order, lengths, centers, full = _buckets(gaussians, signs, where)
    dtype = row_dtype(level, degree)
    bucket_of = bucket_of_rows(total, _BUCKET_ROWS, full, lengths)

    def pack(piece: tuple[int, int]) -> np.ndarray:
        index = slice(*piece) if order is None else order[slice(*piece)]
        rows = take_rows(gaussians, index, degree, signs)
        check_rows(rows, piece[0], where, order if order is None else index)
        return _pack(rows, dtype, centers[bucket_of(*piece)] if level else None, losses)

    with atomic_writer(path) as stream:
        stream.write(_headers(level, total, degree, len(centers), full, len(lengths), dtype.itemsize))
        stream.write(lengths.tobytes() + centers.tobytes())
        done = 0
        for packed in ordered_map(pack, ranges(total, _CHUNK_ROWS), should_stop):
            stream.write(memoryview(packed).cast("B"))
            done += len(packed)
            if progress is not None:
                progress(done, total)
        check_stop(should_stop)
    losses.report(where)


def row_dtype(level: int, sh_degree: int) -> np.dtype:
    """One Gaussian at a compression level."""
    position, number = ("<f4", "<f4") if level == 0 else ("<u2", "<f2")
    fields = [("means", position, 3), ("scales", number, 3), ("quats", number, 4), ("color", "u1", 4)]
    rest = 3 * (SH_COEFFICIENTS[sh_degree] - 1)
    return np.dtype([*fields, ("sh", "u1" if level == 2 else number, rest)] if rest else fields)


def bucket_of_rows(count: int, bucket_rows: int, full: int, lengths: np.ndarray):
    """(start, stop) -> [stop - start] bucket of each row: full buckets first, then the partial ones by length."""
    ends = full * bucket_rows + np.cumsum(lengths, dtype=np.int64)

    def bucket_of(start: int, stop: int) -> np.ndarray:
        row = np.arange(start, stop)
        partial = full + np.searchsorted(ends, row, side="right")
        return np.where(row < full * bucket_rows, row // max(1, bucket_rows), partial)

    return bucket_of


def _headers(level: int, total: int, degree: int, buckets: int, full: int, partial: int, row_bytes: int) -> bytes:
    head = bytearray(HEADER_BYTES)
    struct.pack_into("<BBxxIIIIH", head, 0, 0, 1, 1, 1, total, total, level)
    section = bytearray(SECTION_BYTES)
    bucket_bytes = 12 if level else 0
    storage = 4 * partial + bucket_bytes * buckets + row_bytes * total
    numbers = (total, total, _BUCKET_ROWS if level else 0, buckets, _BLOCK if level else 0.0, bucket_bytes, 0)
    struct.pack_into("<IIIIfHH", section, 0, *numbers)
    # The size does not fit 32 bits beyond 4 GB; readers recompute it.
    values = (SCALE_RANGE if level else 1, storage & 0xFFFFFFFF, full, partial, degree)
    struct.pack_into("<IIIIH", section, 24, *values)
    return bytes(head + section)


def _buckets(gaussians: Gaussians, signs, where: str):
    """Rows grouped by cells of a grid of `_BLOCK` units from the scene's lowest corner, and those into buckets.

    Needs 13 bytes a Gaussian: cell and row number share one integer, which is sorted in place.

    Returns:
        order [N] of the rows, full buckets first; lengths of the partial buckets; centers of all; number of full ones.
    """
    total = len(gaussians)
    signs = np.ones(3, np.float32) if signs is None else np.array(signs, np.float32)
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for start, stop in ranges(total, _CHUNK_ROWS):
        means = take(gaussians, "means", slice(start, stop))
        check_field("means", means, start, where)
        low, high = np.minimum(low, (means * signs).min(axis=0)), np.maximum(high, (means * signs).max(axis=0))
    size = np.floor((high - low) / _BLOCK) + 1
    row_bits = max(1, (total - 1).bit_length())
    if np.prod(size) >= 2.0 ** (63 - row_bits):
        raise FlashWorldError(f"{where}: the scene is too large for the 5-unit cells of level 1; use level=0.")
    size = size.astype(np.int64)
    keys = np.empty(total, np.uint64)
    for start, stop in ranges(total, _CHUNK_ROWS):
        means = take(gaussians, "means", slice(start, stop)) * signs
        at = np.minimum(((means - low) / _BLOCK).astype(np.int64), size - 1)
        cell = ((at[:, 0] * size[1] + at[:, 1]) * size[2] + at[:, 2]).astype(np.uint64)
        keys[start:stop] = cell << np.uint64(row_bits) | np.arange(start, stop, dtype=np.uint64)
    keys.sort()
    firsts, cells, before = [], [], np.uint64(1 << 63)
    for start, stop in ranges(total, _CHUNK_ROWS):
        cell = keys[start:stop] >> np.uint64(row_bits)
        change = np.flatnonzero(np.concatenate([[cell[0] != before], cell[1:] != cell[:-1]]))
        firsts.append(change + start)
        cells.append(cell[change].astype(np.int64))
        before = cell[-1]
    first, cells = np.concatenate(firsts), np.concatenate(cells)
    by_cell = np.empty(total, np.uint32)
    for start, stop in ranges(total, _CHUNK_ROWS):
        by_cell[start:stop] = keys[start:stop] & np.uint64((1 << row_bits) - 1)
    del keys
    counts = np.diff(np.append(first, total))
    full_rows = counts // _BUCKET_ROWS * _BUCKET_ROWS
    in_full = np.empty(total, bool)
    for start, stop in ranges(total, _CHUNK_ROWS):
        row = np.arange(start, stop)
        own = np.searchsorted(first, row, side="right") - 1
        in_full[start:stop] = row - first[own] < full_rows[own]
    order = np.empty(total, np.uint32)
    full = int(full_rows.sum())
    np.compress(in_full, by_cell, out=order[:full])
    np.compress(np.logical_not(in_full, out=in_full), by_cell, out=order[full:])
    lengths = (counts - full_rows).astype("<u4")
    grid = np.stack([cells // (size[1] * size[2]), cells // size[2] % size[1], cells % size[2]], axis=1)
    center = (low + (grid + 0.5) * _BLOCK).astype("<f4")
    centers = np.concatenate([np.repeat(center, full_rows // _BUCKET_ROWS, axis=0), center[lengths > 0]])
    return order, lengths[lengths > 0], centers, full // _BUCKET_ROWS


def _pack(rows: Rows, dtype: np.dtype, centers: np.ndarray | None, losses: Losses) -> np.ndarray:
    n, k = len(rows.means), rows.sh.shape[1]
    packed = np.empty(n, dtype)
    if centers is None:
        packed["means"], packed["scales"] = rows.means, rows.scales
    else:
        # In double precision: a step is hardly larger than what float32 tells apart at a few units.
        steps = (rows.means - centers.astype(np.float64)) * (SCALE_RANGE / (_BLOCK / 2)) + (SCALE_RANGE + 0.5)
        packed["means"] = np.clip(steps, 0, 2 * SCALE_RANGE + 1)
        if rows.scales.max() > _HALF_MAX:
            losses.add("scales above 65504 were cut to that", np.count_nonzero(rows.scales > _HALF_MAX))
        packed["scales"] = np.minimum(rows.scales, np.float32(_HALF_MAX))
    packed["quats"] = rows.quats
    color = rows.sh[:, 0] * np.float32(255 * C0) + np.float32(128)  # 127.5, and 0.5 to round
    if color.min() < 0 or color.max() >= 256:
        losses.add("colors outside 0..1 were cut to that", np.count_nonzero((color < 0) | (color >= 256)))
        np.clip(color, 0, 255, out=color)
    packed["color"][:, :3] = color
    packed["color"][:, 3] = rows.opacities * np.float32(255) + np.float32(0.5)
    if k > 1:
        target, at = packed["sh"], 0
        for low, high in zip(SH_COEFFICIENTS, SH_COEFFICIENTS[1:], strict=False):
            if high <= k:  # band by band, all of red, then green, then blue
                band = rows.sh[:, low:high]
                if centers is not None and np.abs(band).max() > _HALF_MAX:
                    losses.add("SH coefficients above 65504 were cut to that", np.count_nonzero(abs(band) > _HALF_MAX))
                    band = np.clip(band, -_HALF_MAX, _HALF_MAX)
                target[:, at : at + 3 * (high - low)] = band.transpose(0, 2, 1).reshape(n, -1)
                at += 3 * (high - low)
    return packed
