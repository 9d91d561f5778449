"""Gaussian scenes as SPZ files (Niantic's packed Gaussians): about a sixth of a PLY, for delivery.

Versions 1 to 3 are one gzip member: a header of 16 bytes (u32 magic "NGSP", version, count; u8 SH degree, fractional
bits, flags, 0), then whole arrays: positions, opacities, colors, scales, rotations, SH (`spz_layout`), then extension
records if flag 2 is set. Version 4 is a header of 32 bytes, the extensions, a table of sizes and a zstd frame for each
array. Little endian.

What a file cannot hold: metadata of any kind, logarithms of scales outside -10..5.94, colors beyond +-3.33 and SH
coefficients beyond +-1 (cut, and said once in the log).

The format's document has x right, y up, z back, most programs write the axes of the PLY they had. So nothing is turned
here unless the file names its axes in the coordinate-system extension, or a caller asks for it.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from ...errors import FlashWorldError, check_stop
from ...gaussians import FILTER, Gaussians
from ..files import atomic_writer
from . import spz_layout as layout
from .compression import Zstd, gzip_pieces
from .rows import (
    Losses,
    RowTable,
    check_field,
    log,
    log_scales,
    ordered_map,
    quat_signs,
    ranges,
    signs_of_axes,
    signs_of_frame,
    take,
    take_sh,
    unit_quats,
    written_degree,
)
from .spz_layout import SpzHeader
from .spz_source import AXES, COORDINATES, GZIP_MAGIC, MAGIC, open_spz, pieces_of

QUALITIES = {"default": (5, 4), "high": (8, 8)}  # bits of SH degree 1 and of the higher ones
_ZSTD_LEVEL = 3  # 12, the official one, takes ten times as long for about a percent


def write_spz(
    path: str | os.PathLike,
    gaussians: Gaussians,
    *,
    version: Literal[2, 3, 4] = 3,
    quality: Literal["default", "high"] = "default",
    sh_degree: int | None = None,
    axes: Literal["source", "y-up"] = "source",
    progress=None,
    should_stop=None,
) -> None:
    """Write an SPZ file. The metadata of the scene are lost, except for the antialiased filter.

    Positions get as many fractional bits as the scene's size allows, at least those that keep 14 bits of its largest
    coordinate; the official encoder always takes 12 and wraps around beyond 2048 units.

    Args:
        path: the file; replaced only when the new one is complete.
        gaussians: at least one; any float dtype, any device.
        version: 3 is what viewers read today. 2 for older ones: its rotations are off by up to 12 degrees. 4 needs a
            zstd package and newer viewers.
        quality: "high" keeps SH to 1/256 instead of 1/16, and finer positions; the file is a quarter larger.
        sh_degree: cut or fill the color coefficients to this degree; None keeps the scene's own.
        axes: "source" keeps x right, y down, z forward, which ComfyUI and most viewers expect of any splat file.
            "y-up" writes x right, y up, z back, as the format's document has it, and says so in an extension.
        progress: called as ``progress(done, total)`` in Gaussians.
        should_stop: asked before each piece; True leaves nothing behind.

    Raises:
        FlashWorldError: an empty scene, a number that is not finite, coordinates beyond 8.3 million units, or a file
            that cannot be written.
        Cancelled: ``should_stop`` answered True.
    """
    where = Path(path).name
    if version not in (2, 3, 4):
        raise FlashWorldError(f"SPZ can be written as version 2, 3 or 4, got {version!r}.")
    if quality not in QUALITIES:
        raise FlashWorldError(f"quality must be one of {', '.join(QUALITIES)}, got {quality!r}.")
    signs, degree = signs_of_axes(axes), written_degree(gaussians, sh_degree)
    if not len(gaussians):
        raise FlashWorldError(f"{where}: an SPZ file cannot hold an empty scene; readers refuse it.")
    losses = Losses()
    bits = _fractional_bits(gaussians, quality, where)
    if bits < 12:
        losses.add(f"coordinates were rounded to {2.0**-bits:g} units, the scene is that large", 3 * len(gaussians))
    flags = layout.FLAG_ANTIALIASED if gaussians.metadata.get(FILTER) == "antialiased" else 0
    extensions = b"" if signs is None else struct.pack("<III", COORDINATES, 4, 1 + AXES.index("RUB"))
    header = SpzHeader(version, len(gaussians), degree, bits, flags | (layout.FLAG_EXTENSIONS if extensions else 0))
    if version == 2:
        log.warning("%s: SPZ version 2 turns Gaussians by up to 12 degrees; version 3 does not.", where)
    pack = _Pack(gaussians, header, signs, QUALITIES[quality], losses, where)
    report = _Report(progress, header)
    with atomic_writer(path) as stream:
        if version == 4:
            _write_frames(stream, header, pack, extensions, report, should_stop)
        else:
            pieces = [("header", 0, 0), *pieces_of(header), ("extensions", 0, 0)]
            fixed = {"header": _packed_header(header), "extensions": extensions}
            made = gzip_pieces(pieces, lambda p: fixed[p[0]] if p[0] in fixed else pack(p), should_stop)
            for number, part in enumerate(made):
                stream.write(part)
                if 2 <= number < len(pieces):  # after gzip's own header and ours
                    report(pieces[number - 1])
        check_stop(should_stop)
    losses.report(where)


def read_spz(
    path: str | os.PathLike,
    *,
    frame: Literal["auto", "opencv", "opengl"] = "auto",
    invalid: Literal["drop", "error"] = "drop",
    progress=None,
    should_stop=None,
) -> Gaussians:
    """Read an SPZ file of version 1 to 4; version 4 needs a zstd package.

    Args:
        path: the file.
        frame: its world axes. "auto": as they are, unless the coordinate-system extension names others. "opencv": y
            down, as they are. "opengl": y up, z backward, turned by half a turn around x.
        invalid: rows with a number that is not finite (version 1 only) are dropped and counted in the log, or an error.
        progress: called as ``progress(done, total)`` in Gaussians.
        should_stop: asked before each piece.

    Returns:
        float32 CPU `Gaussians`. Degree 4 is cut to 3, with a warning.

    Raises:
        FlashWorldError: no file, no SPZ, damaged or cut short, or no zstd package.
        Cancelled: ``should_stop`` answered True.
    """
    where = Path(path).name
    signs_of_frame(frame)
    try:
        with open(path, "rb") as stream:
            return read_spz_stream(stream, os.path.getsize(path), where, frame, invalid, progress, should_stop)
    except OSError as error:
        raise FlashWorldError(f"{where}: cannot be read: {error.strerror or error}.") from error


def read_spz_stream(stream: BinaryIO, size: int, where: str, frame, invalid, progress, should_stop) -> Gaussians:
    """`read_spz` of ``size`` bytes in a stream; ``where`` opens the messages."""
    source = open_spz(stream, size, where)
    header = source.header
    if header.sh_degree > 3:
        log.warning("%s: SH degree %d was cut to 3.", where, header.sh_degree)
    table = RowTable(header.count, min(header.sh_degree, 3), size, where)
    report, done = _Report(progress, header), pieces_of(header)

    def decode(piece):
        name, start, stop, data = piece
        rows = table.part(start, stop)
        layout.decode(name, np.frombuffer(data, np.uint8), rows, header)
        if header.version == 1 and name == "positions":
            table.mark(rows.means)

    for _ in ordered_map(decode, source.pieces(), should_stop):
        report(next(done))
    signs = signs_of_frame(frame, source.finish())
    if header.flags & layout.FLAG_SPARK_TREE:
        log.warning("%s: holds a level-of-detail tree; all its Gaussians are read as one scene.", where)
    metadata = {FILTER: "antialiased"} if header.flags & layout.FLAG_ANTIALIASED else {}
    return table.gaussians(metadata, signs, invalid)


def spz_header(stream: BinaryIO, size: int, where: str) -> SpzHeader:
    """The checked header of an SPZ of ``size`` bytes."""
    return open_spz(stream, size, where).header


def spz_info(path: str | os.PathLike) -> dict:
    """What an SPZ file holds, from its header.

    Returns:
        dict of JSON values: ``format``, ``bytes``, ``gaussians``, ``sh_degree``, ``filter``, ``axes``,
        ``position_step`` in units, ``metadata`` (none).

    Raises:
        FlashWorldError: no file or no SPZ.
    """
    where = Path(path).name
    try:
        with open(path, "rb") as stream:
            header = spz_header(stream, os.path.getsize(path), where)
    except OSError as error:
        raise FlashWorldError(f"{where}: cannot be read: {error.strerror or error}.") from error
    return {
        "format": f"SPZ version {header.version}",
        "bytes": os.path.getsize(path),
        "gaussians": header.count,
        "sh_degree": header.sh_degree,
        "filter": "antialiased" if header.flags & layout.FLAG_ANTIALIASED else "classic",
        "axes": "named in the file" if header.flags & layout.FLAG_EXTENSIONS else "not named",
        "position_step": None if header.version == 1 else 2.0**-header.fractional_bits,
        "metadata": {},
    }


def recognizes_spz(head: bytes) -> bool:
    """Whether the first bytes of a file (some hundred) are those of an SPZ."""
    if head.startswith(MAGIC):
        return True
    if not head.startswith(GZIP_MAGIC):
        return False
    import zlib

    try:
        return zlib.decompressobj(31).decompress(head, 4) == MAGIC
    except zlib.error:
        return False


# ---- writing ------------------------------------------------------------------------------------------------


def _fractional_bits(gaussians: Gaussians, quality: str, where: str) -> int:
    largest = 0.0
    for start, stop in ranges(len(gaussians), 1 << 16):
        means = take(gaussians, "means", slice(start, stop))
        check_field("means", means, start, where)
        largest = max(largest, float(means.max()), -float(means.min()))
    if largest > layout.POSITION_LIMIT:
        raise FlashWorldError(f"{where}: SPZ holds coordinates up to 8.3 million units, the scene has {largest:g}.")
    if largest == 0:
        return 12
    fitting = math.floor(math.log2(layout.POSITION_LIMIT / largest))
    wanted, least = (18, 16) if quality == "high" else (14, 12)
    return max(0, min(20, fitting, max(least, wanted - math.floor(math.log2(largest)))))


class _Pack:
    """Piece (array, start, stop) -> its bytes; called from any thread."""

    def __init__(self, gaussians, header: SpzHeader, signs, bits: tuple[int, int], losses: Losses, where: str):
        self._gaussians, self._header, self._signs = gaussians, header, signs
        self._bits, self._losses, self._where = bits, losses, where

    def __call__(self, piece: tuple[str, int, int]) -> bytes:
        name, start, stop = piece
        if name == "positions":
            return layout.encode_positions(self._field("means", start, stop), self._header.fractional_bits)
        if name == "alphas":
            return layout.encode_opacities(self._field("opacities", start, stop))
        if name == "scales":
            return layout.encode_scales(log_scales(self._field("scales", start, stop)), self._losses)
        if name == "rotations":
            quats = unit_quats(self._field("quats", start, stop))
            if self._signs is not None:
                quats = quats * quat_signs(self._signs)
            return layout.encode_rotations(quats, self._header.version)
        sh = take_sh(self._gaussians, slice(start, stop), self._header.sh_degree, self._signs)
        sh = sh[:, :1] if name == "colors" else sh[:, 1:]
        check_field("sh", sh, start, self._where)
        if name == "colors":
            return layout.encode_colors(sh[:, 0], self._losses)
        return layout.encode_harmonics(sh, self._bits, self._losses)

    def _field(self, field: str, start: int, stop: int) -> np.ndarray:
        values = take(self._gaussians, field, slice(start, stop))
        check_field(field, values, start, self._where)
        return values * np.array(self._signs, np.float32) if field == "means" and self._signs is not None else values


def _packed_header(header: SpzHeader) -> bytes:
    numbers = (header.version, header.count, header.sh_degree, header.fractional_bits, header.flags, 0)
    return MAGIC + struct.pack("<IIBBBB", *numbers)


def _write_frames(stream: BinaryIO, header: SpzHeader, pack: _Pack, extensions: bytes, report, should_stop) -> None:
    """Version 4: a frame for each array behind a table of their sizes, which is filled in at the end."""
    zstd = Zstd(Path(stream.name).name)
    arrays = header.arrays()
    table = 32 + len(extensions)
    start = _packed_header(header)[:15] + struct.pack("<BI", len(arrays), table) + bytes(12)
    stream.write(start + extensions + bytes(16 * len(arrays)))
    sizes, pieces = [], list(pieces_of(header))
    for name, size in arrays:
        own = [piece for piece in pieces if piece[0] == name]
        begin, compressor = stream.tell(), zstd.compressor(_ZSTD_LEVEL)
        for piece, raw in zip(own, ordered_map(pack, own, should_stop), strict=True):
            stream.write(compressor.compress(raw))
            report(piece)
        stream.write(compressor.flush())
        sizes.append((stream.tell() - begin, size * header.count))
    stream.seek(table)
    stream.write(b"".join(struct.pack("<QQ", *pair) for pair in sizes))


class _Report:
    """Bytes of all arrays, told as Gaussians."""

    def __init__(self, progress, header: SpzHeader):
        self._progress, self._header, self._sizes = progress, header, dict(header.arrays())
        self._done = 0

    def __call__(self, piece: tuple[str, int, int]) -> None:
        name, start, stop = piece
        self._done += (stop - start) * self._sizes[name]
        if self._progress is not None:
            self._progress(self._done // self._header.row_bytes, self._header.count)
