"""Gaussian scenes as .ksplat files (GaussianSplats3D, version 0.1): for that viewer and those built on it.

A header of 4096 bytes, headers of 1024 bytes for each section, then the sections. Level 0 holds 32-bit floats, levels 1
and 2 half floats with positions as 16-bit steps from the center of a bucket, level 2 also SH in bytes. Color and opacity
are bytes at every level. Axes unchanged (x right, y down, z forward). Little endian.

What a file cannot hold: SH degree 3, colors outside 0..1, metadata, the antialiased filter; at level 1 also scales below
6e-8 and above 65504. Said once in the log.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import FlashWorldError, check_stop
from ...gaussians import SH_COEFFICIENTS, Gaussians
from ...sh import C0
from ..atomic import atomic_writer
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
    written_degree,
)

HEADER_BYTES, SECTION_BYTES = 4096, 1024
_CHUNK_ROWS = 1 << 15
_BLOCK, _BUCKET_ROWS, _SCALE_RANGE = 5.0, 256, 32767
_HALF_MAX = 65504.0
_SMALLEST = 1e-38  # a scale of 0
_COLOR = ((np.arange(256) / 255 - 0.5) / C0).astype(np.float32)
_OPACITY = (np.arange(256) / 255).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _Section:
    """Where a section lies in the file, and how its rows are to be read."""

    level: int
    count: int
    capacity: int
    bucket_rows: int
    full_buckets: int
    lengths: int  # byte at which the row counts of the partial buckets begin
    partial_buckets: int
    centers: int  # byte at which the bucket centers begin
    buckets: int
    data: int
    block: float
    scale_range: int
    sh_degree: int
    sh_range: tuple[float, float]

    @property
    def row(self) -> np.dtype:
        return _row_dtype(self.level, self.sh_degree)

    @property
    def end(self) -> int:
        return self.data + self.capacity * self.row.itemsize


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
    dtype = _row_dtype(level, degree)
    bucket_of = _bucket_of_rows(total, _BUCKET_ROWS, full, lengths)

    def pack(piece: tuple[int, int]) -> np.ndarray:
        index = slice(*piece) if order is None else order[slice(*piece)]
        rows = take_rows(gaussians, index, degree, signs)
        check_rows(rows, piece[0], where, order if order is None else index)
        return _pack(rows, dtype, centers[bucket_of(*piece)] if level else None, losses)

    with atomic_writer(path, "write_ksplat") as stream:
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


def read_ksplat(
    path: str | os.PathLike,
    *,
    frame: Literal["auto", "opencv", "opengl"] = "auto",
    invalid: Literal["drop", "error"] = "drop",
    progress=None,
    should_stop=None,
) -> Gaussians:
    """Read a .ksplat file of level 0, 1 or 2 with any number of sections.

    Args:
        path: the file.
        frame: its world axes. "auto" and "opencv": y down, as they are. "opengl": y up, z backward, turned.
        invalid: rows with a NaN or an infinite number are dropped and counted in the log, or an error.
        progress: called as ``progress(done, total)`` in Gaussians, after each chunk.
        should_stop: asked before each chunk.

    Returns:
        float32 CPU `Gaussians` of the highest SH degree of any section.

    Raises:
        FlashWorldError: no file, no .ksplat, or fewer bytes than the headers promise.
        Cancelled: ``should_stop`` answered True.
    """
    where, signs = Path(path).name, signs_of_frame(frame)
    try:
        with open(path, "rb") as stream:
            size = os.path.getsize(path)
            sections = _read_headers(stream, size, where)
            total = sum(s.count for s in sections)
            table = RowTable(total, max((s.sh_degree for s in sections), default=0), size, where)

            def decode(piece):
                section, centers, start, stop, data = piece
                rows = table.part(start, stop)
                _unpack(np.frombuffer(data, section.row), rows, section, centers)
                table.mark(*rows)
                return stop

            for done in ordered_map(decode, _chunks(stream, sections, where), should_stop):
                if progress is not None:
                    progress(done, total)
    except OSError as error:
        raise FlashWorldError(f"{where}: cannot be read: {error.strerror or error}.") from error
    return table.gaussians({}, signs, invalid)


def ksplat_info(path: str | os.PathLike) -> dict:
    """What a .ksplat file holds, from its headers.

    Returns:
        dict of JSON values: ``format``, ``bytes``, ``gaussians``, ``sh_degree``, ``sections``, ``axes``, ``metadata``.

    Raises:
        FlashWorldError: no file or no .ksplat.
    """
    where = Path(path).name
    try:
        with open(path, "rb") as stream:
            sections = _read_headers(stream, os.path.getsize(path), where)
            level = _level(stream)
    except OSError as error:
        raise FlashWorldError(f"{where}: cannot be read: {error.strerror or error}.") from error
    return {
        "format": f".ksplat level {level}",
        "bytes": os.path.getsize(path),
        "gaussians": sum(s.count for s in sections),
        "sh_degree": max((s.sh_degree for s in sections), default=0),
        "sections": len(sections),
        "axes": "not named",
        "metadata": {},
    }


def recognizes_ksplat(head: bytes) -> bool:
    """Whether the first 32 bytes of a file can be those of a .ksplat: version 0.1 or later, sensible counts."""
    if len(head) < 32 or head[0] != 0 or head[1] < 1 or head[2:4] != b"\0\0":
        return False
    most, sections, capacity, count, level = struct.unpack_from("<IIIIH", head, 4)
    return level <= 2 and 0 < most < 1 << 16 and sections <= most and count <= capacity


# ---- headers ------------------------------------------------------------------------------------------------


def _row_dtype(level: int, sh_degree: int) -> np.dtype:
    position, number = ("<f4", "<f4") if level == 0 else ("<u2", "<f2")
    fields = [("means", position, 3), ("scales", number, 3), ("quats", number, 4), ("color", "u1", 4)]
    rest = 3 * (SH_COEFFICIENTS[sh_degree] - 1)
    return np.dtype([*fields, ("sh", "u1" if level == 2 else number, rest)] if rest else fields)


def _headers(level: int, total: int, degree: int, buckets: int, full: int, partial: int, row_bytes: int) -> bytes:
    head = bytearray(HEADER_BYTES)
    struct.pack_into("<BBxxIIIIH", head, 0, 0, 1, 1, 1, total, total, level)
    section = bytearray(SECTION_BYTES)
    bucket_bytes = 12 if level else 0
    storage = 4 * partial + bucket_bytes * buckets + row_bytes * total
    numbers = (total, total, _BUCKET_ROWS if level else 0, buckets, _BLOCK if level else 0.0, bucket_bytes, 0)
    struct.pack_into("<IIIIfHH", section, 0, *numbers)
    # The size does not fit 32 bits beyond 4 GB; readers recompute it.
    values = (_SCALE_RANGE if level else 1, storage & 0xFFFFFFFF, full, partial, degree)
    struct.pack_into("<IIIIH", section, 24, *values)
    return bytes(head + section)


def _level(stream) -> int:
    stream.seek(20)
    return struct.unpack("<H", stream.read(2))[0]


def _read_headers(stream, size: int, where: str) -> list[_Section]:
    stream.seek(0)
    head = stream.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES or not recognizes_ksplat(head):
        raise FlashWorldError(f"{where}: is no .ksplat file of version 0.1 (its header holds impossible numbers).")
    most, count, _, promised, level = struct.unpack_from("<IIIIH", head, 4)
    low, high = struct.unpack_from("<ff", head, 36)
    sh_range = (low or -1.5, high or 1.5)
    start = HEADER_BYTES + most * SECTION_BYTES
    if start > size or not np.isfinite(sh_range).all():
        raise FlashWorldError(f"{where}: {most} section headers do not fit its {size} bytes, or its SH range is no number.")
    sections = []
    for number in range(count):
        section = _read_section(stream.read(SECTION_BYTES), level, start, sh_range, f"{where}: section {number}")
        if section.end > size:
            raise FlashWorldError(
                f"{where}: truncated, or a wrong count: section {number} of {section.capacity} rows would end at byte "
                f"{section.end}, the file ends at byte {size}."
            )
        sections.append(section)
        start = section.end
    found = sum(s.count for s in sections)
    if found < promised:
        raise FlashWorldError(f"{where}: its sections hold {found} Gaussians, the header promises {promised}.")
    return sections


def _read_section(data: bytes, level: int, start: int, sh_range: tuple[float, float], where: str) -> _Section:
    count, capacity, bucket_rows, buckets, block, bucket_bytes = struct.unpack_from("<IIIIfH", data, 0)
    scale_range, _, full, partial, degree = struct.unpack_from("<IIIIH", data, 24)
    scale_range = scale_range or (1 if level == 0 else _SCALE_RANGE)
    if degree > 3:
        raise FlashWorldError(f"{where}: there is no SH degree {degree}.")
    if count > capacity:
        raise FlashWorldError(f"{where}: {count} Gaussians in {capacity} rows cannot be.")
    if level and count and (bucket_bytes < 12 or not np.isfinite(block)):
        raise FlashWorldError(f"{where}: buckets of {bucket_bytes} bytes and size {block} cannot be.")
    if level and (full + partial > buckets or full * bucket_rows > count):
        raise FlashWorldError(f"{where}: {full} full and {partial} partial buckets do not fit {buckets}.")
    centers = start + 4 * partial
    return _Section(
        level, count, capacity, bucket_rows, full, start, partial, centers, buckets, centers + bucket_bytes * buckets,
        block, scale_range, degree, sh_range,
    )  # fmt: skip


def _chunks(stream, sections: list[_Section], where: str) -> Iterator[tuple]:
    begin = 0
    for section in sections:
        centers, bucket_of = None, None
        if section.level:
            stream.seek(section.lengths)
            lengths = np.frombuffer(stream.read(4 * section.partial_buckets), "<u4")
            table = np.frombuffer(stream.read(section.data - section.centers), np.uint8)
            table = table.reshape(section.buckets, -1)[:, :12].copy().view("<f4") if section.buckets else None
            if section.full_buckets * section.bucket_rows + int(lengths.sum(dtype=np.int64)) < section.count:
                raise FlashWorldError(f"{where}: the buckets of a section hold fewer rows than its {section.count}.")
            bucket_of = _bucket_of_rows(section.count, section.bucket_rows, section.full_buckets, lengths)
        stream.seek(section.data)
        for start, stop in ranges(section.count, _CHUNK_ROWS):
            data = stream.read((stop - start) * section.row.itemsize)
            if len(data) < (stop - start) * section.row.itemsize:
                raise FlashWorldError(f"{where}: the file became shorter while reading.")
            if bucket_of is not None:
                centers = table[bucket_of(start, stop)]
            yield section, centers, begin + start, begin + stop, data
        begin += section.count


def _bucket_of_rows(count: int, bucket_rows: int, full: int, lengths: np.ndarray):
    """(start, stop) -> [stop - start] bucket of each row: full buckets first, then the partial ones by length."""
    ends = full * bucket_rows + np.cumsum(lengths, dtype=np.int64)

    def bucket_of(start: int, stop: int) -> np.ndarray:
        row = np.arange(start, stop)
        partial = full + np.searchsorted(ends, row, side="right")
        return np.where(row < full * bucket_rows, row // max(1, bucket_rows), partial)

    return bucket_of


# ---- rows ---------------------------------------------------------------------------------------------------


def _buckets(gaussians: Gaussians, signs, where: str):
    """Rows grouped by cells of a grid of `_BLOCK` units from the scene's lowest corner, and those into buckets.

    Returns:
        order [N] of the rows, full buckets first; lengths of the partial buckets; centers of all; number of full ones.
    """
    total = len(gaussians)
    means = np.empty((total, 3), np.float32)
    for start, stop in ranges(total, _CHUNK_ROWS):
        means[start:stop] = take(gaussians, "means", slice(start, stop))
    if signs is not None:
        means *= np.array(signs, np.float32)
    low = means.min(axis=0).astype(np.float64)
    high = means.max(axis=0).astype(np.float64)
    if not np.isfinite(low).all() or not np.isfinite(high).all():
        raise FlashWorldError(f"{where}: a Gaussian has no finite position; scene.prune(...) drops such ones.")
    size = np.floor((high - low) / _BLOCK).astype(np.int64) + 1
    if np.prod(size.astype(np.float64)) > 2**62:
        raise FlashWorldError(f"{where}: the scene is too large for the 5-unit cells of level 1; use level=0.")
    cell = np.zeros(total, np.int64)
    for start, stop in ranges(total, _CHUNK_ROWS):
        at = np.minimum(((means[start:stop] - low) / _BLOCK).astype(np.int64), size - 1)
        cell[start:stop] = (at[:, 0] * size[1] + at[:, 1]) * size[2] + at[:, 2]
    del means
    by_cell = cell.argsort(kind="stable")
    cells, first, counts = np.unique(cell[by_cell], return_index=True, return_counts=True)
    full_rows = counts // _BUCKET_ROWS * _BUCKET_ROWS
    within = np.arange(total) - np.repeat(first, counts)
    in_full = within < np.repeat(full_rows, counts)
    order = np.concatenate([by_cell[in_full], by_cell[~in_full]])
    lengths = (counts - full_rows).astype("<u4")
    grid = np.stack([cells // (size[1] * size[2]), cells // size[2] % size[1], cells % size[2]], axis=1)
    center = (low + (grid + 0.5) * _BLOCK).astype("<f4")
    centers = np.concatenate([np.repeat(center, full_rows // _BUCKET_ROWS, axis=0), center[lengths > 0]])
    return order, lengths[lengths > 0], centers, int(full_rows.sum()) // _BUCKET_ROWS


def _pack(rows: Rows, dtype: np.dtype, centers: np.ndarray | None, losses: Losses) -> np.ndarray:
    n, k = len(rows.means), rows.sh.shape[1]
    packed = np.empty(n, dtype)
    if centers is None:
        packed["means"], packed["scales"] = rows.means, rows.scales
    else:
        # In double precision: a step is hardly larger than what float32 tells apart at a few units.
        steps = (rows.means - centers.astype(np.float64)) * (_SCALE_RANGE / (_BLOCK / 2)) + (_SCALE_RANGE + 0.5)
        packed["means"] = np.clip(steps, 0, 2 * _SCALE_RANGE + 1)
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


def _unpack(packed: np.ndarray, rows: Rows, section: _Section, centers: np.ndarray | None) -> None:
    n = len(packed)
    with np.errstate(all="ignore"):
        if centers is None:
            rows.means[...] = packed["means"]
        else:
            steps = packed["means"].astype(np.float64) - section.scale_range
            rows.means[...] = steps * (section.block / 2 / section.scale_range) + centers
        # Half floats below 6e-8 are 0, which other readers take for this, too: its logarithm is finite.
        np.maximum(np.abs(packed["scales"]), np.float32(_SMALLEST), out=rows.scales)
        rows.quats[...] = unit_quats(packed["quats"].astype(np.float32))
        rows.sh[...] = 0
        rows.sh[:, 0] = _COLOR[packed["color"][:, :3]]
        rows.opacities[...] = _OPACITY[packed["color"][:, 3]]
        if not section.sh_degree:
            return
        values, at = packed["sh"].astype(np.float32), 0
        if section.level == 2:
            low, high = section.sh_range
            values = np.float32(low) + values * np.float32((high - low) / 255)
        for first, last in zip(SH_COEFFICIENTS, SH_COEFFICIENTS[1 : section.sh_degree + 1], strict=False):
            size = 3 * (last - first)
            rows.sh[:, first:last] = values[:, at : at + size].reshape(n, 3, -1).transpose(0, 2, 1)
            at += size
