"""SPZ: which arrays a file holds, and the numbers in them (rows to bytes and back, plain numpy).

`spz` says what the file looks like around these arrays. "Round" is half away from zero, as in the official library.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ...errors import FlashWorldError
from ...gaussians import SH_COEFFICIENTS
from .quaternions import XYZW, from_smallest_three, smallest_three
from .rows import Losses, Rows, compiled

FLAG_ANTIALIASED, FLAG_EXTENSIONS, FLAG_SPARK_TREE = 1, 2, 0x80
POSITION_LIMIT = (1 << 23) - 1  # largest 24-bit position code
_SQRT2 = np.float32(np.sqrt(2))
_COEFFICIENTS = (*SH_COEFFICIENTS, 25)  # version 4 knows degree 4

_CUT_HARMONICS = "SH coefficients beyond +-1 were cut to that"
_BYTE = np.arange(256, dtype=np.float32)
_OPACITY = _BYTE / 255
_OPACITY_TREE = np.minimum(_BYTE / 255 * 2, 1)
_COLOR = (_BYTE / 255 - np.float32(0.5)) / np.float32(0.15)
_SCALE = np.exp((_BYTE / 16 - 10).astype(np.float64)).astype(np.float32)
_HARMONIC = (_BYTE - 128) / 128


@dataclasses.dataclass(frozen=True)
class SpzHeader:
    """The numbers at the start of an SPZ file; ``sh_degree`` is the file's own and may be 4."""

    version: int
    count: int
    sh_degree: int
    fractional_bits: int
    flags: int

    def arrays(self) -> list[tuple[str, int]]:
        """Name and bytes per Gaussian of each array, in file order; without the empty ones."""
        sizes = {
            "positions": 6 if self.version == 1 else 9,
            "alphas": 1,
            "colors": 3,
            "scales": 3,
            "rotations": 3 if self.version < 3 else 4,
            "sh": 3 * (_COEFFICIENTS[self.sh_degree] - 1),
        }
        return [(name, size) for name, size in sizes.items() if size]

    @property
    def row_bytes(self) -> int:
        return sum(size for _, size in self.arrays())

    def check(self, where: str) -> None:
        """Raises:
        FlashWorldError: a number no reader could make sense of."""
        if self.version not in (1, 2, 3, 4):
            raise FlashWorldError(f"{where}: is SPZ version {self.version}; versions 1 to 4 can be read.")
        if self.sh_degree > (4 if self.version == 4 else 3):
            raise FlashWorldError(f"{where}: an SPZ of version {self.version} has no SH degree {self.sh_degree}.")
        if self.version > 1 and self.fractional_bits > 30:
            raise FlashWorldError(f"{where}: {self.fractional_bits} fractional bits do not fit positions of 24 bits.")


# ---- bytes -> rows ------------------------------------------------------------------------------------------


def decode(name: str, data: np.ndarray, rows: Rows, header: SpzHeader) -> None:
    """Fill one field of ``rows`` (n of them) with an array's bytes [n * size] uint8."""
    n = len(rows.means)
    if name == "positions":
        _decode_positions(data, rows.means, header)
    elif name == "alphas":
        table = _OPACITY_TREE if header.flags & FLAG_SPARK_TREE else _OPACITY
        np.take(table, data, out=rows.opacities, mode="clip")
    elif name == "colors":
        rows.sh[:, 0] = _COLOR[data].reshape(n, 3)
    elif name == "scales":
        np.take(_SCALE, data.reshape(n, 3), out=rows.scales, mode="clip")
    elif name == "rotations":
        decode_rotations(data, rows.quats, header.version)
    elif name == "sh":
        stored = data.reshape(n, -1, 3)[:, : rows.sh.shape[1] - 1]
        if (fast := compiled(n)) is not None:
            return fast.spz_decode_harmonics(stored, rows.sh[:, 1:])
        np.subtract(stored, np.float32(128), out=rows.sh[:, 1:], dtype=np.float32)
        rows.sh[:, 1:] *= np.float32(1 / 128)


def _decode_positions(data: np.ndarray, out: np.ndarray, header: SpzHeader) -> None:
    if header.version == 1:
        out[...] = data.view("<f2").reshape(out.shape)
        return
    words = np.zeros((out.size, 4), np.uint8)
    words[:, 1:] = data.reshape(-1, 3)
    # The three bytes fill the upper bits, so that the shift brings the sign along.
    np.multiply(
        words.view("<i4").reshape(out.shape) >> 8, np.float32(2.0**-header.fractional_bits), out=out, casting="unsafe"
    )


def decode_rotations(data: np.ndarray, out: np.ndarray, version: int) -> None:
    """Fill ``out`` [n, 4] wxyz: three bytes xyz below version 3, else 32 bits without the largest component."""
    if version < 3:
        xyz = data.reshape(-1, 3).astype(np.float32) * np.float32(1 / 127.5) - np.float32(1)
        squares = np.einsum("ij,ij->i", xyz, xyz)
        out[:, 1:] = xyz
        out[:, 0] = np.sqrt(np.maximum(np.float32(0), 1 - squares))
        if len(squares) and squares.max() > 1:
            out /= np.sqrt(np.maximum(squares, np.float32(1)))[:, None]
        return
    words = data.view("<u4")
    if (fast := compiled(len(words))) is not None:
        return fast.spz_decode_rotations(words, out)
    others = np.empty((len(words), 3), np.float32)
    for column, shift in enumerate((20, 10, 0)):
        bits = (words >> shift).view("<i4")
        others[:, column] = bits & 511
        np.negative(others[:, column], out=others[:, column], where=(bits & 512) != 0)
    others *= np.float32(1) / (511 * _SQRT2)
    from_smallest_three((words >> 30).astype(np.int64), others, out, XYZW)


# ---- rows -> bytes ------------------------------------------------------------------------------------------


def encode_positions(means: np.ndarray, fractional_bits: int) -> bytes:
    """[n, 3] coordinates as signed 24-bit numbers of 2^-fractional_bits units."""
    codes = _rounded(means * np.float32(2.0**fractional_bits)).astype("<i4")
    return codes.reshape(-1, 1).view(np.uint8)[:, :3].tobytes()


def encode_opacities(opacities: np.ndarray) -> bytes:
    return (opacities * np.float32(255) + np.float32(0.5)).astype(np.uint8).tobytes()


def encode_colors(dc: np.ndarray, losses: Losses) -> bytes:
    """[n, 3] coefficients k = 0; beyond +-3.33 they are cut."""
    codes = dc * np.float32(38.25) + np.float32(127.5)
    return _bytes(codes, losses, "color coefficients beyond +-3.33 were cut to that")


def encode_scales(log_scales: np.ndarray, losses: Losses) -> bytes:
    """[n, 3] natural logarithms of standard deviations; outside -10..5.94 they are cut."""
    codes = (log_scales + np.float32(10)) * np.float32(16)
    return _bytes(codes, losses, "scales outside 0.000045 .. 379 units were cut to that")


def encode_rotations(quats: np.ndarray, version: int) -> bytes:
    """[n, 4] unit quaternions wxyz; the counterpart of `decode_rotations`."""
    if version < 3:
        xyz = quats[:, 1:] * np.copysign(np.float32(127.5), quats[:, :1]) + np.float32(127.5)
        return np.clip(_rounded(xyz), 0, 255).astype(np.uint8).tobytes()
    if (fast := compiled(len(quats))) is not None:
        words = np.empty(len(quats), np.uint32)
        fast.spz_encode_rotations(quats, words)
        return words.astype("<u4", copy=False).tobytes()
    largest, others = smallest_three(quats, XYZW)
    magnitude = np.minimum((511 * _SQRT2) * np.abs(others) + np.float32(0.5), np.float32(511)).astype(np.uint32)
    magnitude |= (others < 0).astype(np.uint32) << 9
    words = largest.astype(np.uint32) << 30 | magnitude[:, 0] << 20 | magnitude[:, 1] << 10 | magnitude[:, 2]
    return words.astype("<u4").tobytes()


def encode_harmonics(sh: np.ndarray, bits: tuple[int, int], losses: Losses) -> bytes:
    """[n, K - 1, 3] coefficients k >= 1, ``bits`` of them kept for degree 1 and for the others; cut at +-1."""
    if (fast := compiled(len(sh))) is not None:
        out = np.empty(sh.shape, np.uint8)
        losses.add(_CUT_HARMONICS, fast.spz_encode_harmonics(sh, 8 - bits[0], 8 - bits[1], out))
        return out.tobytes()
    codes = _rounded(sh * np.float32(128))
    codes += 128
    for band, kept in ((slice(0, 3), bits[0]), (slice(3, None), bits[1])):
        step = 1 << (8 - kept)
        if step > 1:
            part = codes[:, band]
            part += np.float32(step // 2)
            part *= np.float32(1 / step)
            np.floor(part, out=part)
            part *= np.float32(step)
    if codes.size and (codes.min() < 0 or codes.max() > 255):
        # What would have become 256 is still within half a step of 255.
        out = np.abs(sh) > np.float32(1 + 1 / 256)
        losses.add(_CUT_HARMONICS, np.count_nonzero(out))
        np.clip(codes, 0, 255, out=codes)
    return codes.astype(np.uint8).tobytes()


def _bytes(codes: np.ndarray, losses: Losses, what: str) -> bytes:
    if codes.size and (codes.min() < -0.5 or codes.max() > 255.5):
        losses.add(what, np.count_nonzero((codes < -0.5) | (codes > 255.5)))
    return np.clip(codes + np.float32(0.5), 0, 255).astype(np.uint8).tobytes()


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.trunc(values + np.copysign(np.float32(0.5), values))
