"""The bytes of an SPZ file's arrays, one piece after the other, whatever they are compressed with (`spz`)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from ...errors import FlashWorldError
from .compression import GzipReader, Zstd
from .rows import ranges
from .spz_layout import FLAG_EXTENSIONS, FLAG_SPARK_TREE, SpzHeader

MAGIC = b"NGSP"
GZIP_MAGIC = b"\x1f\x8b"
COORDINATES = 0xADBE0003  # extension: which way x, y and z point
AXES = ("LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF")  # its numbers 1 to 8
_MOST_EXTENSIONS = 1 << 20  # bytes
_PIECE_BYTES = 1 << 20


def pieces_of(header: SpzHeader) -> Iterator[tuple[str, int, int]]:
    """(array, start, stop): all rows of all arrays in file order, about a megabyte each."""
    for name, size in header.arrays():
        for start, stop in ranges(header.count, max(1, _PIECE_BYTES // size)):
            yield name, start, stop


def open_spz(stream: BinaryIO, size: int, where: str) -> _GzipSource | _FrameSource:
    """The arrays of an SPZ of ``size`` bytes, its header read and checked.

    Raises:
        FlashWorldError: no SPZ, a version that cannot be read, or sizes that do not fit one another.
    """
    magic = stream.read(4)
    stream.seek(0)
    if magic[:2] == GZIP_MAGIC:
        return _GzipSource(stream, where)
    if magic == MAGIC:
        return _FrameSource(stream, size, where)
    raise FlashWorldError(f"{where}: is no SPZ file (it starts with neither gzip nor 'NGSP').")


class _GzipSource:
    """Versions 1 to 3: everything in one gzip stream."""

    def __init__(self, stream: BinaryIO, where: str):
        self._gzip, self._where = GzipReader(stream, where), where
        head = self._gzip.read(16)
        if len(head) < 16 or head[:4] != MAGIC:
            raise FlashWorldError(f"{where}: is no SPZ file (its gzip data do not start with 'NGSP').")
        self.header = SpzHeader(*struct.unpack("<IIBBB", head[4:15]))
        self.header.check(where)
        if self.header.version == 4:
            raise FlashWorldError(f"{where}: SPZ version 4 within gzip is not possible; the file is damaged.")

    def pieces(self) -> Iterator[tuple[str, int, int, bytearray]]:
        for name, start, stop in pieces_of(self.header):
            data = self._gzip.read((stop - start) * dict(self.header.arrays())[name])
            if len(data) < (stop - start) * dict(self.header.arrays())[name]:
                raise FlashWorldError(
                    f"{self._where}: the data end within the {name} of Gaussian {start} and following; "
                    f"the header promises {self.header.count}."
                )
            yield name, start, stop, data

    def finish(self) -> tuple[float, float, float] | None:
        """Signs of the axes from the extensions, if they name any; the checksum is looked at."""
        signs = None
        if self.header.flags & FLAG_EXTENSIONS and not self.header.flags & FLAG_SPARK_TREE:
            signs = _signs_of_extensions(bytes(self._gzip.read(_MOST_EXTENSIONS)), self._where)
        self._gzip.drain(self.header.count * self.header.row_bytes + (64 << 20))
        return signs


class _FrameSource:
    """Version 4: a zstd frame for each array."""

    def __init__(self, stream: BinaryIO, size: int, where: str):
        self._stream, self._where = stream, where
        head = stream.read(32)
        version = struct.unpack_from("<I", head, 4)[0] if len(head) >= 8 else 0
        if version != 4:
            raise FlashWorldError(
                f"{where}: is SPZ version {version}; versions 1 to 4 can be read."
                if version > 4
                else f"{where}: is a damaged SPZ file (version {version} without gzip)."
            )
        if len(head) < 32:
            raise FlashWorldError(f"{where}: the SPZ header is cut short.")
        self.header = SpzHeader(*struct.unpack("<IIBBB", head[4:15]))
        self.header.check(where)
        streams, table = struct.unpack("<BI", head[15:20])
        arrays = self.header.arrays()
        if streams != len(arrays) or not 32 <= table <= min(size - 16 * streams, 32 + _MOST_EXTENSIONS):
            raise FlashWorldError(f"{where}: the SPZ table of {streams} arrays at byte {table} cannot be right.")
        self._extensions = stream.read(table - 32)
        entries = struct.unpack(f"<{2 * streams}Q", stream.read(16 * streams))
        self._frames, begin = [], table + 16 * streams
        for (name, row), packed, raw in zip(arrays, entries[::2], entries[1::2], strict=True):
            if raw != row * self.header.count:
                raise FlashWorldError(
                    f"{where}: its {name} have {raw} bytes, {self.header.count} rows need {row * self.header.count}."
                )
            self._frames.append((name, row, begin))
            begin += packed
        if begin != size:
            raise FlashWorldError(f"{where}: its arrays end at byte {begin}, the file at byte {size}.")
        self._zstd: Zstd | None = None

    def pieces(self) -> Iterator[tuple[str, int, int, bytes]]:
        zstd = self._zstd = Zstd(self._where)
        for name, row, begin in self._frames:
            self._stream.seek(begin)
            reader = zstd.reader(self._stream)
            for start, stop in ranges(self.header.count, max(1, _PIECE_BYTES // row)):
                yield name, start, stop, self._read(reader, (stop - start) * row, name)

    def _read(self, reader, size: int, name: str) -> bytes:
        out = bytearray()
        try:
            while len(out) < size:
                part = reader.read(size - len(out))
                if not part:
                    raise EOFError("cut short")
                out += part
        except self._zstd.errors as error:
            raise FlashWorldError(f"{self._where}: the zstd data of its {name} are damaged ({error}).") from None
        return out

    def finish(self) -> tuple[float, float, float] | None:
        if not self.header.flags & FLAG_EXTENSIONS:
            return None
        return _signs_of_extensions(self._extensions, self._where)


def _signs_of_extensions(data: bytes, where: str) -> tuple[float, float, float] | None:
    """What turns the file's axes into ours, if an extension record names them; other records are skipped."""
    position = 0
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<II", data, position)
        position += 8
        if position + length > len(data):
            break
        if kind == COORDINATES and length >= 4:
            number = struct.unpack_from("<I", data, position)[0]
            if 9 <= number <= 16:
                raise FlashWorldError(f"{where}: its axes (system {number}) have z up; only systems with y up or down.")
            if 1 <= number <= 8:
                x, y, z = AXES[number - 1]
                return (1.0 if x == "R" else -1.0, 1.0 if y == "D" else -1.0, 1.0 if z == "F" else -1.0)
        position += length
    return None
