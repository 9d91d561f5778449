"""One chunk of a preview stream: numbers to bytes and back (the layout is described in `stream`)."""

from __future__ import annotations

import math

import numpy as np

from ..errors import FlashWorldError
from ..gaussians import SH_COEFFICIENTS

HEADER = np.dtype(
    [
        ("count", "<u4"),
        ("reserved", "<u4"),
        ("log_scale_min", "<f4"),
        ("log_scale_step", "<f4"),
        ("dc_min", "<f4", 3),
        ("dc_step", "<f4", 3),
        ("sh_step", "<f4", 3),  # degrees 1, 2, 3
        ("box_min", "<f4", 3),
        ("box_max", "<f4", 3),
        ("padding", "<u4"),
    ]
)
HARMONICS_BYTES = (0, 16, 24, 48)  # by degree
_LOG_SCALE_RANGE = 14.0  # e^14: thinner than a millionth of the chunk's largest Gaussian counts as that thin
_OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])  # components without the largest one


def encode_rows(
    means: np.ndarray, quats: np.ndarray, scales: np.ndarray, opacities: np.ndarray, sh: np.ndarray, degree: int
) -> list[memoryview]:
    """The bytes of a chunk of n >= 1 finite Gaussians, float32; sh is [n, (degree + 1)^2, 3].

    Returns:
        Header and tables, in the order of the file.
    """
    n = len(means)
    header = np.zeros((), HEADER)
    header["count"] = n
    header["box_min"], header["box_max"] = means.min(0), means.max(0)

    geometry = np.empty((n, 4), "<u4")
    geometry[:, :3] = means.view("<u4") if means.flags.c_contiguous else np.ascontiguousarray(means).view("<u4")
    geometry[:, 3] = _encode_quats(quats)

    look = np.empty((n, 2), "<u4")
    largest = max(float(scales.max()), 1e-30)
    with np.errstate(divide="ignore"):  # a scale of 0 becomes the smallest
        logs = np.maximum(np.log(scales), np.float32(math.log(largest) - _LOG_SCALE_RANGE))
    low, step = _range(logs.min(), logs.max(), 1023)
    header["log_scale_min"], header["log_scale_step"] = low, step
    codes = _quantise(logs, low, step)
    opacity = np.rint(np.clip(opacities, 0, 1) * np.float32(1023)).astype(np.uint32)
    look[:, 0] = codes[:, 0] | codes[:, 1] << 10 | codes[:, 2] << 20 | opacity >> 8 << 30
    look[:, 1] = (opacity & 255) << 24
    for c in range(3):
        low, step = _range(sh[:, 0, c].min(), sh[:, 0, c].max(), 255)
        header["dc_min"][c], header["dc_step"][c] = low, step
        look[:, 1] |= _quantise(sh[:, 0, c], low, step) << np.uint32(8 * c)

    harmonics = np.zeros((n, HARMONICS_BYTES[degree]), np.int8)
    for band in range(1, degree + 1):
        first, last = SH_COEFFICIENTS[band - 1], SH_COEFFICIENTS[band]
        values = sh[:, first:last].reshape(n, -1)
        step = np.float32(max(float(values.max()), -float(values.min())) / 127)
        header["sh_step"][band - 1] = step
        if step > 0:
            scaled = values * (np.float32(1) / step)
            harmonics[:, 3 * first - 3 : 3 * last - 3] = np.clip(np.rint(scaled, out=scaled), -127, 127)
    return [memoryview(part.reshape(-1).view(np.uint8)) for part in (header, geometry, look, harmonics)]


def decode_rows(content: np.ndarray, degree: int, where: str) -> tuple[tuple[np.ndarray, ...], int]:
    """The chunk at the start of ``content`` (uint8): (means, quats, scales, opacities, sh), and its size in bytes.

    Raises:
        FlashWorldError: the chunk is cut short or empty.
    """
    if len(content) < HEADER.itemsize:
        raise FlashWorldError(f"{where}: a chunk header is cut short.")
    header = content[: HEADER.itemsize].view(HEADER)[0]
    n = int(header["count"])
    ends = HEADER.itemsize + n * np.cumsum([16, 8, HARMONICS_BYTES[degree]])
    if not n or ends[-1] > len(content):
        raise FlashWorldError(f"{where}: a chunk of {n} rows needs {ends[-1]} bytes, {len(content)} are left.")
    geometry = content[HEADER.itemsize : ends[0]].view("<u4").reshape(n, 4)
    look = content[ends[0] : ends[1]].view("<u4").reshape(n, 2)
    harmonics = content[ends[1] : ends[2]].view(np.int8).reshape(n, HARMONICS_BYTES[degree])

    codes = np.stack([look[:, 0] >> shift & 1023 for shift in (0, 10, 20)], -1).astype(np.float32)
    scales = np.exp(header["log_scale_min"] + codes * header["log_scale_step"])
    opacities = (look[:, 0] >> 30 << 8 | look[:, 1] >> 24).astype(np.float32) / np.float32(1023)
    sh = np.empty((n, SH_COEFFICIENTS[degree], 3), np.float32)
    colour = np.stack([look[:, 1] >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.float32)
    sh[:, 0] = header["dc_min"] + colour * header["dc_step"]
    for band in range(1, degree + 1):
        first, last = SH_COEFFICIENTS[band - 1], SH_COEFFICIENTS[band]
        values = harmonics[:, 3 * first - 3 : 3 * last - 3].reshape(n, last - first, 3)
        sh[:, first:last] = values * header["sh_step"][band - 1]
    means = geometry[:, :3].copy().view("<f4")
    return (means, _decode_quats(geometry[:, 3]), scales, opacities, sh), int(ends[-1])


def _range(low, high, codes: int) -> tuple[np.float32, np.float32]:
    return np.float32(low), np.float32((float(high) - float(low)) / codes)


def _quantise(values: np.ndarray, low: np.float32, step: np.float32) -> np.ndarray:
    if step <= 0:
        return np.zeros(values.shape, np.uint32)
    return np.rint((values - low) * (np.float32(1) / step)).astype(np.uint32)


def _encode_quats(quats: np.ndarray) -> np.ndarray:
    """[n] uint32 of quaternions [n, 4] wxyz of any length."""
    length = np.sqrt(np.einsum("ij,ij->i", quats, quats))
    largest = np.abs(quats).argmax(1)
    rows = np.arange(len(quats))
    # Dividing by the signed length makes the largest component positive. A zero quaternion is the identity.
    signed = np.copysign(np.maximum(length, 1e-30), quats[rows, largest])
    factor = np.float32(511 * math.sqrt(2)) / signed
    others = quats[rows[:, None], _OTHERS[largest]] * factor[:, None].astype(np.float32)
    codes = (np.clip(np.rint(others), -511, 511) + 511).astype(np.uint32)
    return largest.astype(np.uint32) << 30 | codes[:, 0] << 20 | codes[:, 1] << 10 | codes[:, 2]


def _decode_quats(words: np.ndarray) -> np.ndarray:
    others = np.stack([words >> shift & 1023 for shift in (20, 10, 0)], -1).astype(np.float32)
    others = (others - 511) / np.float32(511 * math.sqrt(2))
    largest = (words >> 30).astype(np.int64)
    quats = np.empty((len(words), 4), np.float32)
    rows = np.arange(len(words))
    quats[rows, largest] = np.sqrt(np.maximum(0, 1 - (others * others).sum(1)))
    quats[rows[:, None], _OTHERS[largest]] = others
    return quats
