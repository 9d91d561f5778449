"""Reading .ksplat files of any level, any number of sections (`ksplat` describes them)."""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import FlashWorldError
from ...gaussians import SH_COEFFICIENTS, Gaussians
from ...sh import C0
from .ksplat import HEADER_BYTES, SCALE_RANGE, SECTION_BYTES, bucket_of_rows, row_dtype
from .rows import Rows, RowTable, ordered_map, ranges, signs_of_frame, unit_quats

_CHUNK_ROWS = 1 << 15
_SMALLEST = 1e-38  # a scale of 0
_COLOR = ((np.arange(256) / 255 - 0.5) / C0).astype(np.float32)
_OPACITY = (np.arange(256) / 255).astype(np.float32)


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
        return row_dtype(self.level, self.sh_degree)

    @property
    def end(self) -> int:
        return self.data + self.capacity * self.row.itemsize


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
        raise FlashWorldError(
            f"{where}: {most} section headers do not fit its {size} bytes, or its SH range is no number."
        )
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
    scale_range = scale_range or (1 if level == 0 else SCALE_RANGE)
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
            bucket_of = bucket_of_rows(section.count, section.bucket_rows, section.full_buckets, lengths)
        stream.seek(section.data)
        for start, stop in ranges(section.count, _CHUNK_ROWS):
            data = stream.read((stop - start) * section.row.itemsize)
            if len(data) < (stop - start) * section.row.itemsize:
                raise FlashWorldError(f"{where}: the file became shorter while reading.")
            if bucket_of is not None:
                centers = table[bucket_of(start, stop)]
            yield section, centers, begin + start, begin + stop, data
        begin += section.count


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
