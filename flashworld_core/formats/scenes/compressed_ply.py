"""Gaussian scenes as compressed PLY files (PlayCanvas, SuperSplat): 16 bytes a Gaussian and one for each SH number.

Elements of the PLY: ``chunk``, a row of 18 floats for each 256 Gaussians: the ranges of position, logarithm of the
scales, and color (files of 12 floats have no color range); ``vertex``, four packed words; ``sh`` if there are higher
coefficients, bytes f_rest_* in channel-major order. Axes unchanged (x right, y down, z forward).

position, scale   11, 10 and 11 bits for x, y, z from the highest bit down: low + (high - low) code / (2^bits - 1)
rotation          2 bits for the largest of w, x, y, z; 10 bits for each other: (code / 1023 - 0.5) sqrt(2)
color             8 bits for red, green, blue: low + (high - low) code / 255, and opacity code / 255
SH                (code + 0.5) / 32 - 4; 0 is -4, 255 is 4

Metadata travel in the comments. What a file cannot hold: SH beyond +-4 (cut, and said once in the log).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from ...errors import FlashWorldError, check_stop
from ...gaussians import FILTER, SH_COEFFICIENTS, Gaussians
from ...sh import C0
from ..files import atomic_writer
from .morton import morton_order
from .ply_header import (
    AXES_COMMENTS,
    PlyElement,
    PlyHeader,
    metadata_comments,
    metadata_from_comments,
    parse_ply_header,
    told_by_comments,
)
from .quaternions import from_smallest_three, smallest_three
from .rows import (
    Losses,
    Rows,
    RowTable,
    check_rows,
    compiled,
    log_scales,
    ordered_map,
    ranges,
    signs_of_axes,
    signs_of_frame,
    take_rows,
    written_degree,
)

CHUNK = 256
_PIECE_CHUNKS = 96
_AXIS_BITS = ((21, 2047), (11, 1023), (0, 2047))  # shift and largest code of x, y, z
_GEOMETRY = [f"{side}_{what}{axis}" for what in ("", "scale_") for side in ("min", "max") for axis in "xyz"]
_COLOR = [f"{side}_{axis}" for side in ("min", "max") for axis in "rgb"]
_CUT_HARMONICS = "SH coefficients beyond +-4 were cut to that"
_WORDS = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]
_LOG_SCALE_LIMIT = 20.0
_SQRT2 = np.float32(np.sqrt(2))
_HARMONIC = ((np.arange(256) + 0.5) / 32 - 4).astype(np.float32)
_HARMONIC[0], _HARMONIC[255] = -4, 4


def write_compressed_ply(
    path: str | os.PathLike,
    gaussians: Gaussians,
    *,
    sh_degree: int | None = None,
    axes: Literal["source", "y-up"] = "source",
    progress=None,
    should_stop=None,
) -> None:
    """Write a compressed PLY, 18 floats a chunk, its rows along a Morton curve.

    A position is rounded to 1/2047 (y: 1/1023) of the box of its 256 neighbors on the curve. Needs 12 bytes a Gaussian
    beside the scene.

    Args:
        path: the file; replaced only when the new one is complete.
        gaussians: at least one; any float dtype, any device.
        sh_degree: cut or fill the color coefficients to this degree; None keeps the scene's own.
        axes: "source" keeps them; "y-up" writes x right, y up, z backward and says so in a comment.
        progress: called as ``progress(done, total)`` in Gaussians.
        should_stop: asked before each piece; True leaves nothing behind.

    Raises:
        FlashWorldError: an empty scene, a number that is not finite, metadata that is no JSON, or a file that cannot be
            written.
        Cancelled: ``should_stop`` answered True.
    """
    where, total = Path(path).name, len(gaussians)
    signs, degree = signs_of_axes(axes), written_degree(gaussians, sh_degree)
    if not total:
        raise FlashWorldError(f"{where}: a compressed PLY cannot hold an empty scene.")
    rest = 3 * (SH_COEFFICIENTS[degree] - 1)
    chunks = -(-total // CHUNK)
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {text}" for text in (AXES_COMMENTS[axes], *metadata_comments(gaussians.metadata, where))),
        *(["comment SplatRenderMode: mip"] if gaussians.metadata.get(FILTER) == "antialiased" else []),
        f"element chunk {chunks}",
        *(f"property float {name}" for name in (*_GEOMETRY, *_COLOR)),
        f"element vertex {total}",
        *(f"property uint {name}" for name in _WORDS),
        *([f"element sh {total}"] if rest else []),
        *(f"property uchar f_rest_{i}" for i in range(rest)),
        "end_header\n",
    ]
    losses = Losses()
    order = morton_order(gaussians, where, should_stop)

    def pack(piece: tuple[int, int]):
        index = order[slice(*piece)]
        rows = take_rows(gaussians, index, degree, signs)
        check_rows(rows, piece[0], where, index)
        return pack_rows(rows, losses)

    with atomic_writer(path) as stream:
        start = stream.write("\n".join(header).encode("ascii"))
        words = start + 4 * (len(_GEOMETRY) + len(_COLOR)) * chunks
        bytes_ = words + 16 * total
        pieces = list(ranges(total, _PIECE_CHUNKS * CHUNK))
        for (first, last), packed in zip(pieces, ordered_map(pack, pieces, should_stop), strict=True):
            places = (start + 72 * (first // CHUNK), words + 16 * first, bytes_ + rest * first)
            for place, part in zip(places, packed, strict=True):
                if part.size:
                    stream.seek(place)
                    stream.write(memoryview(part).cast("B"))
            if progress is not None:
                progress(last, total)
        check_stop(should_stop)
    losses.report(where)


def read_compressed_ply(
    path: str | os.PathLike,
    *,
    frame: Literal["auto", "opencv", "opengl"] = "auto",
    invalid: Literal["drop", "error"] = "drop",
    progress=None,
    should_stop=None,
) -> Gaussians:
    """Read a compressed PLY of 12 or 18 floats a chunk.

    Args:
        path: the file.
        frame: its world axes. "auto": y down, unless a comment of ours says otherwise. "opencv": y down, as they are.
            "opengl": y up, z backward, turned by half a turn around x.
        invalid: rows of a chunk with a range that is not finite are dropped and counted in the log, or an error.
        progress: called as ``progress(done, total)`` in Gaussians.
        should_stop: asked before each piece.

    Returns:
        float32 CPU `Gaussians` with the metadata this package wrote, if any.

    Raises:
        FlashWorldError: no file, no compressed PLY, or fewer bytes than the header promises.
        Cancelled: ``should_stop`` answered True.
    """
    where = Path(path).name
    signs_of_frame(frame)
    try:
        with open(path, "rb") as stream:
            layout = _Layout(parse_ply_header(stream, where), os.path.getsize(path), where)
            table = RowTable(layout.count, layout.sh_degree, os.path.getsize(path), where)

            def decode(piece):
                start, stop, (ranges_, words, sh) = piece
                rows = table.part(start, stop)
                unpack_rows(ranges_, words, sh, rows)
                table.mark(rows.means, rows.scales, rows.sh[:, 0])
                return stop

            for done in ordered_map(decode, layout.pieces(stream), should_stop):
                if progress is not None:
                    progress(done, layout.count)
    except OSError as error:
        raise FlashWorldError(f"{where}: cannot be read: {error.strerror or error}.") from error
    comments = layout.header.comments
    metadata = metadata_from_comments(comments, where)
    told = told_by_comments(comments)
    told.pop("up", None)
    metadata.update(told)
    own = (1.0, -1.0, -1.0) if AXES_COMMENTS["y-up"] in comments else None
    return table.gaussians(metadata, signs_of_frame(frame, own), invalid)


def compressed_ply_info(path: str | os.PathLike) -> dict:
    """What a compressed PLY holds, from its header.

    Returns:
        dict of JSON values: ``format``, ``bytes``, ``gaussians``, ``sh_degree``, ``filter``, ``comments``,
        ``metadata``.

    Raises:
        FlashWorldError: no file or no compressed PLY.
    """
    where = Path(path).name
    try:
        with open(path, "rb") as stream:
            layout = _Layout(parse_ply_header(stream, where), os.path.getsize(path), where)
    except OSError as error:
        raise FlashWorldError(f"{where}: cannot be read: {error.strerror or error}.") from error
    return {
        "format": "compressed PLY",
        "bytes": os.path.getsize(path),
        "gaussians": layout.count,
        "sh_degree": layout.sh_degree,
        "filter": told_by_comments(layout.header.comments).get("filter", "classic"),
        "comments": list(layout.header.comments),
        "metadata": metadata_from_comments(layout.header.comments, where),
    }


def recognizes_compressed_ply(head: bytes) -> bool:
    """Whether the first kilobytes of a file are the header of a compressed PLY."""
    return head.startswith(b"ply") and b" packed_position" in head.split(b"end_header", 1)[0]


class _Layout:
    """Where the three elements lie in the file, checked against its size.

    Raises:
        FlashWorldError: no compressed PLY, or fewer bytes than the header promises.
    """

    def __init__(self, header: PlyHeader, size: int, where: str):
        self.header, self._where = header, where
        if header.format != "binary_little_endian":
            raise FlashWorldError(f"{where}: a compressed PLY is binary_little_endian, this one says {header.format}.")
        places, at = {}, header.data_offset
        for element in header.elements:
            row = element.row_dtype("<")
            if row is None:
                raise FlashWorldError(f"{where}: element {element.name!r} holds lists, which cannot be skipped.")
            places[element.name] = (element, row, at)
            at += element.count * row.itemsize
        if at > size:
            raise FlashWorldError(
                f"{where}: truncated, or a wrong count in the header: its rows would end at byte {at}, the file "
                f"ends at byte {size}."
            )
        self._vertex, self._chunk = (self._element(places, name) for name in ("vertex", "chunk"))
        self._sh = places.get("sh")
        self.count = self._vertex[0].count
        self._need(self._vertex[0], _WORDS, "u4")
        self._need(self._chunk[0], _GEOMETRY, "f4")
        self._columns = list(_GEOMETRY)
        if set(_COLOR) <= set(self._chunk[0].names):
            self._need(self._chunk[0], _COLOR, "f4")
            self._columns += _COLOR
        if self._chunk[0].count * CHUNK < self.count:
            raise FlashWorldError(
                f"{where}: {self._chunk[0].count} chunks are too few for {self.count} Gaussians of 256 a chunk."
            )
        self.sh_degree = 0 if self._sh is None else self._harmonics(self._sh[0])

    def _element(self, places: dict, name: str) -> tuple:
        if name not in places:
            raise FlashWorldError(f"{self._where}: is no compressed PLY: it has no element {name!r}.")
        return places[name]

    def _need(self, element: PlyElement, names: list[str], kind: str) -> None:
        types = {p.name: p.type for p in element.properties}
        wrong = next((name for name in names if types.get(name) != kind), None)
        if wrong is not None:
            what = "float" if kind == "f4" else "uint" if kind == "u4" else "uchar"
            raise FlashWorldError(f"{self._where}: element {element.name!r} has no property {wrong!r} of type {what}.")

    def _harmonics(self, element: PlyElement) -> int:
        numbers = [3 * (k - 1) for k in SH_COEFFICIENTS]
        found = sum(name.startswith("f_rest_") for name in element.names)
        if element.count < self.count or found not in numbers[1:]:
            raise FlashWorldError(
                f"{self._where}: {element.count} rows of {found} f_rest_* fit no SH degree of {self.count} Gaussians."
            )
        self._need(element, [f"f_rest_{i}" for i in range(found)], "u1")
        return numbers.index(found)

    def pieces(self, stream: BinaryIO) -> Iterator[tuple]:
        """(start, stop, (ranges [chunks, 18], words [n, 4], sh [n, 3 (K - 1)])) with 0..1 for ranges without color."""
        names = [f"f_rest_{i}" for i in range(3 * (SH_COEFFICIENTS[self.sh_degree] - 1))]
        for start, stop in ranges(self.count, _PIECE_CHUNKS * CHUNK):
            chunks = self._read(stream, self._chunk, start // CHUNK, -(-stop // CHUNK), self._columns, "<f4")
            if chunks.shape[1] == len(_GEOMETRY):
                chunks = np.concatenate([chunks, np.tile(np.float32([0, 0, 0, 1, 1, 1]), (len(chunks), 1))], axis=1)
            words = self._read(stream, self._vertex, start, stop, _WORDS, "<u4")
            sh = self._read(stream, self._sh, start, stop, names, "u1") if names else np.zeros((stop - start, 0), "u1")
            yield start, stop, (chunks, words, sh)

    def _read(self, stream: BinaryIO, place: tuple, start: int, stop: int, names: list[str], kind: str) -> np.ndarray:
        element, row, at = place
        stream.seek(at + start * row.itemsize)
        data = stream.read((stop - start) * row.itemsize)
        if len(data) < (stop - start) * row.itemsize:
            raise FlashWorldError(f"{self._where}: the file became shorter while reading.")
        if element.names == names:
            return np.frombuffer(data, kind).reshape(stop - start, len(names))
        records = np.frombuffer(data, row)
        return np.stack([records[name] for name in names], axis=1)


# ---- rows ---------------------------------------------------------------------------------------------------


def pack_rows(rows: Rows, losses: Losses) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n Gaussians as ranges [chunks of 256, 18] float32, words [n, 4] uint32 and sh [n, 3 (K - 1)] uint8."""
    n = len(rows.means)
    fast = compiled(n)
    scales = np.clip(log_scales(rows.scales), -_LOG_SCALE_LIMIT, _LOG_SCALE_LIMIT)
    color = rows.sh[:, 0] * np.float32(C0) + np.float32(0.5)
    table = np.empty((-(-n // CHUNK), 18), "<f4")
    words = np.zeros((n, 4), "<u4")
    for column, (values, word, bits) in enumerate(
        ((rows.means, 0, _AXIS_BITS), (scales, 2, _AXIS_BITS), (color, 3, ((24, 255), (16, 255), (8, 255))))
    ):
        starts = np.arange(0, n, CHUNK)
        low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
        table[:, 6 * column : 6 * column + 3], table[:, 6 * column + 3 : 6 * column + 6] = low, high
        extent = high - low
        with np.errstate(divide="ignore"):
            inverse = np.where(extent > 0, 1 / extent, np.float32(0))
        if fast is not None:
            shifts, tops = np.array(bits, np.uint32).T.copy()
            fast.ply_pack_words(values, low, inverse * tops.astype(np.float32), shifts, tops, words[:, word])
            continue
        for axis, (shift, top) in enumerate(bits):
            per_row = np.repeat(np.stack([low[:, axis], inverse[:, axis] * top]), CHUNK, axis=1)[:, :n]
            codes = np.minimum((values[:, axis] - per_row[0]) * per_row[1] + np.float32(0.5), np.float32(top))
            words[:, word] |= codes.astype(np.uint32) << np.uint32(shift)
    words[:, 3] |= (rows.opacities * np.float32(255) + np.float32(0.5)).astype(np.uint32)
    if fast is not None:
        fast.ply_pack_rotations(rows.quats, words[:, 1])
        harmonics = np.empty((n, 3 * (rows.sh.shape[1] - 1)), np.uint8)
        losses.add(_CUT_HARMONICS, fast.ply_pack_harmonics(rows.sh[:, 1:], harmonics))
        return table, words, harmonics
    largest, others = smallest_three(rows.quats)
    codes = ((others / _SQRT2 + np.float32(0.5)) * np.float32(1023) + np.float32(0.5)).clip(0, 1023).astype(np.uint32)
    words[:, 1] = largest.astype(np.uint32) << 30 | codes[:, 0] << 20 | codes[:, 1] << 10 | codes[:, 2]
    rest = rows.sh[:, 1:].transpose(0, 2, 1).reshape(n, -1)
    harmonics = rest * np.float32(32) + np.float32(128)
    if harmonics.size and (harmonics.min() < 0 or harmonics.max() > 256):
        losses.add(_CUT_HARMONICS, np.count_nonzero(np.abs(rest) > 4))
    return table, words, np.clip(harmonics, 0, 255).astype(np.uint8)


def unpack_rows(table: np.ndarray, words: np.ndarray, sh: np.ndarray, rows: Rows) -> None:
    """Fill ``rows`` with what `pack_rows` gave."""
    n = len(words)
    fast = compiled(n)
    with np.errstate(all="ignore"):
        for values, column, word, bits in (
            (rows.means, 0, 0, _AXIS_BITS),
            (rows.scales, 6, 2, _AXIS_BITS),
            (rows.sh[:, 0], 12, 3, ((24, 255), (16, 255), (8, 255))),
        ):
            low, extent = (
                table[:, column : column + 3],
                table[:, column + 3 : column + 6] - table[:, column : column + 3],
            )
            if fast is not None:
                shifts, tops = np.array(bits, np.uint32).T.copy()
                fast.ply_unpack_words(words[:, word], low, extent / tops.astype(np.float32), shifts, tops, values)
                continue
            for axis, (shift, top) in enumerate(bits):
                per_row = np.repeat(np.stack([low[:, axis], extent[:, axis] / np.float32(top)]), CHUNK, axis=1)[:, :n]
                codes = ((words[:, word] >> np.uint32(shift)) & np.uint32(top)).astype(np.float32)
                values[:, axis] = per_row[0] + per_row[1] * codes
        np.exp(rows.scales, out=rows.scales)
        rows.sh[:, 0] = (rows.sh[:, 0] - np.float32(0.5)) * np.float32(1 / C0)
    np.multiply(words[:, 3] & np.uint32(255), np.float32(1 / 255), out=rows.opacities, casting="unsafe")
    if fast is not None:
        fast.ply_unpack_rotations(words[:, 1], rows.quats)
        return fast.ply_unpack_harmonics(sh, _HARMONIC, rows.sh[:, 1:])
    others = np.stack([words[:, 1] >> shift & 1023 for shift in (20, 10, 0)], axis=1).astype(np.float32)
    others = (others * np.float32(1 / 1023) - np.float32(0.5)) * _SQRT2
    from_smallest_three((words[:, 1] >> 30).astype(np.int64), others, rows.quats)
    if sh.shape[1]:
        rows.sh[:, 1:] = _HARMONIC[sh].reshape(n, 3, -1).transpose(0, 2, 1)
