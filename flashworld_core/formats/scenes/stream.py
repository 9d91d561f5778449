"""The preview stream: a scene as a browser can start drawing it while it still arrives.

What nobody would see goes (not finite, negative scales, or fainter than the renderers' 1/255), then a budget by
importance applies, and the most important Gaussians come first, in chunks that can be drawn as soon as they are
complete. Lossy, for viewing only; `read_stream` undoes exactly what the writer does. World axes are the scene's own
(x right, y down, z forward). Everything is little endian.

File      16 bytes: the magic ``FWSPLAT1``, u32 Gaussians in the file, u32 bytes of JSON
          JSON in UTF-8, filled up with spaces to a multiple of 16 bytes: ``sh_degree``, ``total`` (Gaussians of the
          scene before the budget), ``center`` and ``radius`` (of the bulk of the scene), ``metadata``
          chunks until the number of Gaussians is complete
Chunk     80 bytes (`stream_rows.HEADER`), then three tables of ``count`` rows each:
          geometry   16 bytes: x, y, z float32; u32 rotation
          look        8 bytes: u32 scales and opacity; u32 opacity and color
          harmonics   0, 16, 24 or 48 bytes for degree 0, 1, 2, 3
          All chunks but the last hold a multiple of `ALIGN` rows, so that they fill whole rows of a texture.

rotation  bits 31-30: which of w, x, y, z is the largest (made positive, left out); then 10 bits for each of the others
          in the order w, x, y, z, the first one highest: code = 511 + 511 * sqrt(2) * value
scales    10 bits each, x lowest: scale = exp(log_scale_min + code * log_scale_step)
opacity   10 bits, code / 1023: the upper two in bits 31-30 of the first word, the others in bits 31-24 of the second
color    k = 0 of the spherical harmonics, 8 bits each, red lowest: dc_min + code * dc_step
harmonics k >= 1, int8, for each k red, green, blue; times the chunk's sh_step of their degree; zeros at the end
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ...cameras import Cameras
from ...errors import FlashWorldError, check_stop
from ...gaussians import SH_COEFFICIENTS, Gaussians
from ...ops.select import importance
from ...rendering.constants import ALPHA_MIN
from ..files import atomic_writer

MAGIC = b"FWSPLAT1"
ALIGN = 2048
FIRST_CHUNK = 8 * ALIGN  # small: something to look at early
CHUNK = 64 * ALIGN
DEFAULT_BUDGET = 1_500_000
_HEADER_LIMIT = 1 << 24  # bytes of JSON
_SAMPLE = 50_000  # Gaussians looked at to find the scene's center and radius


@dataclasses.dataclass(frozen=True)
class StreamInfo:
    """What a stream holds: Gaussians in the file, in the scene it was made from, degree, center and radius."""

    count: int
    total: int
    sh_degree: int
    center: tuple[float, float, float]
    radius: float
    metadata: dict


def write_stream(
    path: str | os.PathLike,
    gaussians: Gaussians,
    *,
    budget: int = DEFAULT_BUDGET,
    sh_degree: int | None = None,
    metadata: dict | None = None,
    viewpoints: torch.Tensor | None = None,
    should_stop=None,
) -> StreamInfo:
    """Write the most important Gaussians of a scene for the viewer.

    A scene with nothing to see becomes a valid file of 0 Gaussians.

    Args:
        path: the file; replaced only when the new one is complete.
        gaussians: any float dtype, any device. Quaternions of any length; a zero one is the identity.
        budget: Gaussians to write at most.
        sh_degree: color bands to keep, at most the scene's own; None for all.
        metadata: JSON values that travel in the file; None for the scene's own.
        viewpoints: [P, 3] where the scene will be looked at from, which makes what is near more important.
        should_stop: asked before each chunk.

    Raises:
        FlashWorldError: a negative budget, a degree outside 0..3, metadata that is no JSON, a file that cannot be
            written.
        Cancelled: ``should_stop`` answered True; nothing is left behind.
    """
    where = Path(path).name
    if budget < 0:
        raise FlashWorldError(f"{where}: budget must be 0 or more, got {budget}.")
    if sh_degree is not None and sh_degree not in range(len(SH_COEFFICIENTS)):
        raise FlashWorldError(f"{where}: sh_degree must be 0, 1, 2 or 3, got {sh_degree!r}.")
    degree = min(gaussians.sh_degree, 3 if sh_degree is None else sh_degree)
    gaussians = gaussians.detach()
    order = _most_important_first(gaussians, budget, viewpoints)
    center, radius = _bulk(gaussians.means, order)
    info = StreamInfo(
        count=len(order),
        total=len(gaussians),
        sh_degree=degree,
        center=center,
        radius=radius,
        metadata=dict(gaussians.metadata if metadata is None else metadata),
    )
    with atomic_writer(path) as stream:
        stream.write(_file_header(info, where))
        for rows in _chunks(order):
            check_stop(should_stop)
            # Within a chunk the order does not matter: the scene's own reads memory forwards.
            index = torch.from_numpy(np.sort(rows)).to(gaussians.device)
            parts = (t[index].to("cpu", torch.float32).numpy() for t in _tensors(gaussians, degree))
            stream.writelines(encode_rows(*parts, degree))
        check_stop(should_stop)
    return info


def read_stream(path: str | os.PathLike) -> tuple[Gaussians, StreamInfo]:
    """Read a preview stream back, in the order of the file; the metadata is also the scene's.

    Raises:
        FlashWorldError: no file, no stream, or not as long as it says; checked before memory is taken.
    """
    where = str(Path(path))
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise FlashWorldError(f"{where}: cannot be read: {error.strerror or error}.") from error
    info, offset = _read_file_header(content, where)
    smallest = info.count * (24 + HARMONICS_BYTES[info.sh_degree])
    if len(content) - offset < smallest:
        raise FlashWorldError(f"{where}: {info.count} Gaussians need {smallest} bytes, {len(content) - offset} follow.")
    chunks, done = [], 0
    while done < info.count:
        rows, size = decode_rows(content[offset:], info.sh_degree, f"{where}, byte {offset}")
        if done + len(rows[0]) > info.count or (len(rows[0]) % ALIGN and done + len(rows[0]) < info.count):
            raise FlashWorldError(f"{where}: the chunk at byte {offset} has {len(rows[0])} rows, which do not fit.")
        chunks.append(rows)
        done, offset = done + len(rows[0]), offset + size
    if offset != len(content):
        raise FlashWorldError(f"{where}: {len(content) - offset} bytes follow the last chunk.")
    if not chunks:
        empty = (np.zeros((0, *shape), np.float32) for shape in ((3,), (4,), (3,), (), (1, 3)))
        return Gaussians(*map(torch.from_numpy, empty), info.metadata), info
    joined = (torch.from_numpy(np.concatenate(column)) for column in zip(*chunks, strict=True))
    return Gaussians(*joined, info.metadata), info


def poses_of(cameras: Cameras) -> list[dict]:
    """Every view as the browser takes it: a camera-to-world pose in OpenCV axes and a vertical field of view."""
    from ...geometry import matrices_to_quats, vertical_fov_degrees

    c2w = cameras.camera_to_world.double().cpu()
    quats = matrices_to_quats(c2w[:, :3, :3])
    fovs = vertical_fov_degrees(cameras.intrinsics.double().cpu(), cameras.height)
    rows = zip(c2w[:, :3, 3].tolist(), quats.tolist(), fovs.tolist(), strict=True)
    return [{"position": p, "quaternion": q, "vertical_fov_degrees": fov} for p, q, fov in rows]


def _tensors(gaussians: Gaussians, degree: int):
    yield from (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities)
    yield gaussians.sh[:, : SH_COEFFICIENTS[degree]]


def _most_important_first(gaussians: Gaussians, budget: int, viewpoints: torch.Tensor | None) -> np.ndarray:
    """[at most budget] int64: visible Gaussians by falling `scene.importance`.

    Sorted by the upper half of the float only: numpy sorts 16-bit keys by counting, many times faster than
    floats, and 1 % more or less important makes no difference.
    """
    # One sum per row tells NaN and infinity in a fraction of the time a test of every number takes.
    total = sum(t.flatten(1).sum(1, dtype=torch.float32) for t in (gaussians.means, gaussians.quats, gaussians.sh))
    visible = torch.isfinite(total + gaussians.scales.sum(1, dtype=torch.float32)) & (gaussians.scales >= 0).all(1)
    visible &= (gaussians.opacities >= ALPHA_MIN) & (gaussians.opacities < math.inf)
    weight = importance(gaussians, viewpoints).float().clamp_max(torch.finfo(torch.float32).max)
    index = visible.cpu().nonzero()[:, 0].numpy()
    key = weight.cpu().numpy()[index].view(np.uint32) >> 16
    falling = (np.uint16(0xFFFF) - key.astype(np.uint16)).argsort(kind="stable")
    return index[falling[:budget]]


def _bulk(means: torch.Tensor, order: np.ndarray) -> tuple[tuple[float, float, float], float]:
    """Median position, and the distance from it that 90 % of the Gaussians keep; world units."""
    if not len(order):
        return (0.0, 0.0, 0.0), 1.0
    sample = torch.from_numpy(order[:: -(-len(order) // _SAMPLE)].copy()).to(means.device)
    points = means[sample].double().cpu().numpy()
    center = np.median(points, axis=0)
    radius = float(np.quantile(np.linalg.norm(points - center, axis=1), 0.9))
    return tuple(float(v) for v in center), radius or 1.0


def _chunks(order: np.ndarray) -> Iterator[np.ndarray]:
    start, size = 0, FIRST_CHUNK
    while start < len(order):
        yield order[start : start + size]
        start, size = start + size, CHUNK


def _file_header(info: StreamInfo, where: str) -> bytes:
    fields = {k: v for k, v in dataclasses.asdict(info).items() if k != "count"}
    try:
        text = json.dumps(fields, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise FlashWorldError(f"{where}: metadata must be JSON values: {error}.") from error
    text += b" " * (-len(text) % 16)
    if len(text) > _HEADER_LIMIT:
        raise FlashWorldError(f"{where}: metadata of {len(text)} bytes is too large.")
    return MAGIC + np.array([info.count, len(text)], "<u4").tobytes() + text


def _read_file_header(content: np.ndarray, where: str) -> tuple[StreamInfo, int]:
    if len(content) < 16 or content[:8].tobytes() != MAGIC:
        raise FlashWorldError(f"{where}: is no preview stream (it does not start with {MAGIC.decode()}).")
    count, size = (int(v) for v in content[8:16].view("<u4"))
    if size > min(_HEADER_LIMIT, len(content) - 16):
        raise FlashWorldError(f"{where}: ends within its header.")
    try:
        fields = json.loads(content[16 : 16 + size].tobytes())
        info = StreamInfo(count=count, **fields)
        center = tuple(float(v) for v in info.center)
        good = info.sh_degree in range(len(SH_COEFFICIENTS)) and len(center) == 3 and math.isfinite(info.radius)
    except (TypeError, ValueError) as error:
        raise FlashWorldError(f"{where}: its header cannot be read: {error}.") from error
    if not good or not isinstance(info.metadata, dict):
        raise FlashWorldError(f"{where}: its header holds values out of range.")
    return dataclasses.replace(info, center=center), 16 + size


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
    codes = _quantize(logs, low, step)
    opacity = np.rint(np.clip(opacities, 0, 1) * np.float32(1023)).astype(np.uint32)
    look[:, 0] = codes[:, 0] | codes[:, 1] << 10 | codes[:, 2] << 20 | opacity >> 8 << 30
    look[:, 1] = (opacity & 255) << 24
    for c in range(3):
        low, step = _range(sh[:, 0, c].min(), sh[:, 0, c].max(), 255)
        header["dc_min"][c], header["dc_step"][c] = low, step
        look[:, 1] |= _quantize(sh[:, 0, c], low, step) << np.uint32(8 * c)

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
    color = np.stack([look[:, 1] >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.float32)
    sh[:, 0] = header["dc_min"] + color * header["dc_step"]
    for band in range(1, degree + 1):
        first, last = SH_COEFFICIENTS[band - 1], SH_COEFFICIENTS[band]
        values = harmonics[:, 3 * first - 3 : 3 * last - 3].reshape(n, last - first, 3)
        sh[:, first:last] = values * header["sh_step"][band - 1]
    means = geometry[:, :3].copy().view("<f4")
    return (means, _decode_quats(geometry[:, 3]), scales, opacities, sh), int(ends[-1])


def _range(low, high, codes: int) -> tuple[np.float32, np.float32]:
    return np.float32(low), np.float32((float(high) - float(low)) / codes)


def _quantize(values: np.ndarray, low: np.float32, step: np.float32) -> np.ndarray:
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
