"""gzip and zstd as SPZ needs them: read piece by piece with a bound, written by several threads into one member."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import BinaryIO

from ...errors import FlashWorldError
from .rows import ordered_map

_READ_BYTES = 1 << 18
_GZIP_HEADER = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255])  # no name, no time: the same scene gives the same bytes


def gzip_pieces(pieces: Iterable, function, should_stop=None) -> Iterator[bytes]:
    """The bytes of one gzip member, compressed in several threads.

    Splat files are quantized numbers in which longer repetitions hardly occur; runs of equal bytes do (zero
    coefficients, say). So this uses zlib's run-length strategy: Huffman codes that fit the piece, and runs. That is ten
    times faster than the usual search at level 6 and the result is no larger.

    Args:
        pieces: what `function` takes, one piece after the other; about a megabyte each.
        function: piece -> its bytes; runs in any thread.
        should_stop: asked before each piece.

    Yields:
        One part of the file for each piece, one before and one after.
    """

    def compress(piece) -> tuple[bytes, bytes]:
        raw = function(piece)
        # Ends on a byte boundary, so that what another thread made can follow.
        deflate = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_RLE)
        return raw, deflate.compress(raw) + deflate.flush(zlib.Z_SYNC_FLUSH)

    yield _GZIP_HEADER
    check, size = 0, 0
    for raw, packed in ordered_map(compress, pieces, should_stop):
        check, size = zlib.crc32(raw, check), size + len(raw)
        yield packed
    yield b"\x03\x00" + struct.pack("<II", check, size & 0xFFFFFFFF)  # an empty last block


class GzipReader:
    """Sequential bounded reads of a gzip file of any number of members.

    Args:
        stream: binary, at the start of the first member.
        where: file, opens the messages.
    """

    def __init__(self, stream: BinaryIO, where: str):
        self._stream, self._where, self._library = stream, where, _inflate_library()
        self._member, self._input = self._library.decompressobj(31), b""
        self._ended = False

    def read(self, size: int) -> bytearray:
        """Exactly ``size`` bytes, fewer only at the end of the file.

        Raises:
            FlashWorldError: the compressed data are damaged or cut short.
        """
        out = bytearray()
        while len(out) < size and not self._ended:
            out += self._some(size - len(out))
        return out

    def drain(self, limit: int) -> None:
        """Read on to the end, so that the checksum is looked at; not beyond ``limit`` bytes."""
        while limit > 0 and not self._ended:
            limit -= len(self._some(min(limit, _READ_BYTES)))

    def _some(self, size: int) -> bytes:
        if not self._input:
            self._input = self._stream.read(_READ_BYTES)
            if not self._input and not self._member.eof:
                raise FlashWorldError(f"{self._where}: the gzip data are cut short; the file is incomplete.")
        try:
            if self._member.eof:
                # Another member may follow; zeros and other padding may not.
                if not self._input.startswith(b"\x1f\x8b"):
                    self._ended = True
                    return b""
                self._member = self._library.decompressobj(31)
            part = self._member.decompress(self._input, size)
        except Exception as error:  # zlib.error, or isal's own
            raise FlashWorldError(f"{self._where}: the gzip data are damaged ({error}).") from None
        self._input = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        return part


def _inflate_library():
    """zlib, or the same functions of `isal`, three times faster, where that is installed."""
    try:
        return import_module("isal.isal_zlib")
    except ImportError:
        return zlib


class Zstd:
    """The zstd of whatever package is there: Python 3.14's own, `backports.zstd`, or `zstandard`.

    Raises:
        FlashWorldError: none of them; the message names the package to install.
    """

    def __init__(self, where: str):
        for name in ("compression.zstd", "backports.zstd", "zstandard"):
            try:
                self._library = import_module(name)
                break
            except ImportError:
                continue
        else:
            raise FlashWorldError(
                f"{where}: SPZ version 4 is compressed with zstd, which this Python has no package for; "
                f"install backports.zstd (pip install backports.zstd), or use SPZ version 3."
            )
        self._is_zstandard = name == "zstandard"

    def reader(self, stream: BinaryIO):
        """An object whose ``read(size)`` gives the uncompressed bytes of the frame at the stream's position."""
        if self._is_zstandard:
            return self._library.ZstdDecompressor(max_window_size=1 << 27).stream_reader(stream)
        return self._library.ZstdFile(stream, "rb")

    def compressor(self, level: int):
        """An object with ``compress(bytes)`` and ``flush()`` that makes one frame."""
        if self._is_zstandard:
            return self._library.ZstdCompressor(level=level).compressobj()
        return self._library.ZstdCompressor(level=level)

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What damaged data raise."""
        return (self._library.ZstdError, EOFError)
