"""Gaussian scenes as PLY files: the master format, readable by every splat tool.

Rows hold positions, color coefficients (``f_dc_*``, then channel-major ``f_rest_*``), the logit of the opacity, the
logarithms of the scales and the quaternion wxyz. Both directions stream through buffers of `CHUNK_BYTES`. Packing is
plain numpy, in a few threads: blocks are moved whole, with strides, not column by column, which costs
about as much as writing the bytes into the page cache. A compiled kernel would gain little, and torch's own threads
stall for seconds on a busy machine, since each of their many small operations ends in a barrier.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch

from ...errors import FlashWorldError, check_stop
from ...gaussians import FILTER, KIND, SH_COEFFICIENTS, Gaussians
from ...ops.transform import upright
from ..files import atomic_writer
from .ply_header import (
    AXES_COMMENTS,
    PlyLayout,
    gaussian_layout,
    metadata_comments,
    metadata_from_comments,
    read_ply_header,
    told_by_comments,
    written_names,
)
from .ply_rows import RowReader, activate
from .row_store import Limit
from .rows import LOG_SCALE_FLOOR, signs_of_axes, turned

CHUNK_BYTES = 2 << 20  # small enough for a core's cache, large enough for few calls
_MAX_WORKERS = 4  # more do not help: the bytes pass through one file
LOGIT_LIMIT = 20.0  # sigmoid(20) is 1 in float32, sigmoid(-20) = 2e-9 shows nowhere


def write_ply(
    path: str | os.PathLike,
    gaussians: Gaussians,
    *,
    sh_degree: int | None = None,
    normals: bool = False,
    axes: Literal["source", "y-up"] = "source",
    progress=None,
    should_stop=None,
) -> None:
    """Write a binary little-endian 3DGS PLY, float32, with the metadata in header comments.

    Opacities 0 and 1 and scales of 0 are written as finite numbers (`LOGIT_LIMIT`, `LOG_SCALE_FLOOR`).
    Needs a few times `CHUNK_BYTES` of memory beside the scene, whatever its size.

    Args:
        path: the file; replaced only when the new one is complete.
        gaussians: the scene, any float dtype, any device.
        sh_degree: cut or fill the color coefficients to this degree (0..3). Some viewers accept only 0 or 3;
            None keeps the scene's own.
        normals: add nx ny nz, all zero, for readers that insist on them.
        axes: "source" keeps x right, y down, z forward, as all splat PLYs have it. "y-up" writes x right, y up, z
            backward and says so in a comment, which `read_ply` heeds and other programs do not.
        progress: called as ``progress(done, total)`` in Gaussians, after each chunk.
        should_stop: asked before each chunk; True leaves nothing behind.

    Raises:
        FlashWorldError: a Gaussian with no finite row (NaN, infinity, negative scale, opacity outside [0, 1]),
            metadata that is no JSON, or a file that cannot be written.
        Cancelled: ``should_stop`` answered True.
    """
    where = Path(path).name
    if sh_degree is None:
        sh_degree = gaussians.sh_degree
    if sh_degree not in range(len(SH_COEFFICIENTS)):
        raise FlashWorldError(f"{where}: sh_degree must be 0, 1, 2 or 3, got {sh_degree!r}.")
    coefficients = SH_COEFFICIENTS[sh_degree]
    names = written_names(coefficients, normals)
    signs = signs_of_axes(axes)
    comments = [AXES_COMMENTS[axes], *metadata_comments(gaussians.metadata, where)]
    if gaussians.metadata.get(FILTER) == "antialiased":
        comments.append("SplatRenderMode: mip")
    total = len(gaussians)
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {text}" for text in comments),
        f"element vertex {total}",
        *(f"property float {name}" for name in names),
        "end_header\n",
    ]
    chunk = max(1, CHUNK_BYTES // (4 * len(names)))
    with atomic_writer(path) as stream:
        stream.write("\n".join(header).encode("ascii"))
        stream.flush()
        work = _WriteWork(gaussians, names, coefficients, normals, chunk, stream.tell(), where, signs)
        helpers = min(_MAX_WORKERS, os.cpu_count() or 1, -(-total // chunk)) - 1
        with ThreadPoolExecutor(max(1, helpers), where) as pool:
            running = [pool.submit(work.run_with_own_handle, stream.name) for _ in range(helpers)]
            work.run(stream, progress, should_stop)
            for helper in running:
                helper.result()
        check_stop(should_stop)
    if progress is not None and work.reported < total:  # what the helpers finished last
        progress(total, total)


def read_ply(
    path: str | os.PathLike,
    *,
    frame: Literal["auto", "opencv", "opengl"] = "auto",
    invalid: Literal["drop", "error"] = "drop",
    limit: Limit | None = None,
    progress=None,
    should_stop=None,
) -> Gaussians:
    """Read the Gaussians of a PLY file by any writer.

    Ascii or binary of either byte order; properties in any order, of any number type, with any others between them.
    The degree follows from the number of ``f_rest_*`` (0, 9, 24, 45). Files without coefficients but with red,
    green, blue get degree 0. The layout of the official FlashWorld exporter (all coefficients in ``f_dc_*``) is
    recognized. Discs (2DGS: two scales) get a third scale of 0, spheres (one scale) three equal ones; the smoothing
    filter of mip-splatting (``filter_3D``) is applied. Quaternions are normalized; a zero one becomes the identity.

    Args:
        path: the file.
        frame: the world axes of the file. "opencv": y down, taken as is. "opengl": y up, z backward, turned by
            half a turn around x. "auto": "opengl" for the official FlashWorld layout and where our own comment says so;
            z up, turned so that -y is up, where another writer's comment says so (nerfstudio); else "opencv".
        invalid: rows with a NaN or an infinite value (after activation) are dropped and counted in the log, or
            an error.
        limit: what is to stay of the rows; memory is that of what stays, and a little, whatever the size of the file.
        progress: called as ``progress(done, total)`` in rows, after each chunk.
        should_stop: asked before each chunk.

    Returns:
        float32 CPU `Gaussians` with the metadata this package wrote, if any.

    Raises:
        FlashWorldError: no file, no PLY, no Gaussian scene, or fewer bytes than the header promises; checked before
            memory is taken.
        Cancelled: ``should_stop`` answered True.
    """
    where = str(Path(path))
    if frame not in ("auto", "opencv", "opengl"):
        raise FlashWorldError(f'{where}: frame must be "auto", "opencv" or "opengl", got {frame!r}.')
    if invalid not in ("drop", "error"):
        raise FlashWorldError(f'{where}: invalid must be "drop" or "error", got {invalid!r}.')
    try:
        with RowReader(path, where, CHUNK_BYTES) as rows:
            comments = rows.header.comments
            y_up = rows.layout.kind == "flashworld" or AXES_COMMENTS["y-up"] in comments
            turn = frame == "opengl" or (frame == "auto" and y_up)
            metadata = {**metadata_from_comments(comments, where), **_told(rows.layout, comments)}
            scene = activate(
                rows, metadata, turn=turn, invalid=invalid, limit=limit, progress=progress, should_stop=should_stop
            )
            z_up = frame == "auto" and not turn and told_by_comments(comments).get("up") in ("z", "+z")
            return upright(scene, "z") if z_up else scene
    except OSError as error:
        raise FlashWorldError(f"{where}: cannot be read: {error.strerror or error}.") from error


def ply_info(path: str | os.PathLike) -> dict:
    """What a PLY file holds, from its header alone.

    Returns:
        dict of JSON values: ``format``, ``bytes``, ``gaussians`` (None if it is no Gaussian scene, with ``reason``),
        ``layout`` ("3dgs", "flashworld" or "rgb"), ``kind`` ("3dgs", "2dgs", "isotropic"), ``filter`` ("classic",
        "antialiased"), ``up`` (the vertical axis, if a comment names one), ``sh_degree``, ``properties`` of the
        vertices, ``elements`` (rows by name), ``comments``, ``metadata``.

    Raises:
        FlashWorldError: no file or no PLY.
    """
    header = read_ply_header(path)
    vertex = header.element("vertex")
    info = {
        "format": header.format,
        "bytes": os.path.getsize(path),
        "gaussians": None,
        "layout": None,
        "sh_degree": None,
        "properties": vertex.names if vertex else [],
        "elements": {e.name: e.count for e in header.elements},
        "comments": list(header.comments),
        "metadata": metadata_from_comments(header.comments, Path(path).name),
    }
    try:
        if vertex is None:
            raise FlashWorldError(f"{Path(path)} has no vertex element.")
        layout = gaussian_layout(vertex, Path(path).name)
        info.update(gaussians=vertex.count, layout=layout.kind, sh_degree=layout.sh_degree)
        told = _told(layout, header.comments)
        info.update(kind=told.get(KIND, layout.shape), filter=told.get(FILTER, "classic"))
        info.update({"up": up} if (up := told_by_comments(header.comments).get("up")) else {})
    except FlashWorldError as error:
        info["reason"] = str(error)
    return info


def recognizes_ply(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a PLY of any kind."""
    return head.startswith((b"ply\n", b"ply\r", b"ply ", b"ply\t"))


def _told(layout: PlyLayout, comments: tuple[str, ...]) -> dict[str, str]:
    """Metadata of what changes the picture: discs, and the filter the opacities belong to."""
    told = told_by_comments(comments)
    told.pop("up", None)
    if layout.filter_3d:
        told[FILTER] = "antialiased"
    if layout.shape == "2dgs":
        told[KIND] = "2dgs"
    return told


class _WriteWork:
    """The chunks of one file, taken by any number of threads until none is left.

    Every thread packs into a buffer of its own and writes at the chunk's place through a file handle of its own,
    so that none ever waits for another: on a busy machine each hand-over would cost a time slice.
    """

    def __init__(
        self, gaussians, names: list[str], coefficients: int, normals: bool, chunk: int, body: int, where: str, signs
    ):
        self._gaussians, self._names, self._coefficients = gaussians, names, coefficients
        self._color = 6 if normals else 3
        self._chunk, self._body, self._where, self._signs = chunk, body, where, signs
        self._starts = iter(range(0, len(gaussians), chunk))
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._done = self.reported = 0

    def run(self, stream: BinaryIO, progress=None, should_stop=None) -> None:
        """Pack and write chunks; whatever goes wrong here ends the other threads too."""
        total, row_bytes = len(self._gaussians), 4 * len(self._names)
        # Zeros once: normals and coefficients above the scene's degree are never written to.
        rows = np.zeros((min(self._chunk, total), len(self._names)), "<f4")
        try:
            while (start := self._take()) is not None:
                check_stop(should_stop)
                part = self._gaussians[start : start + self._chunk].detach().to("cpu", torch.float32)
                part = part if self._signs is None else turned(part, self._signs)
                packed = _pack(part, rows, self._coefficients, self._color)
                _refuse_invalid(packed, self._names, start, self._where)
                stream.seek(self._body + start * row_bytes)
                stream.write(memoryview(packed).cast("B"))
                with self._lock:
                    self._done += len(part)
                    done = self._done
                if progress is not None:
                    self.reported = done
                    progress(done, total)
        except BaseException:
            self._stop.set()
            raise

    def run_with_own_handle(self, path: str) -> None:
        with open(path, "r+b") as stream:
            self.run(stream)

    def _take(self) -> int | None:
        with self._lock:
            return None if self._stop.is_set() else next(self._starts, None)


def _pack(part: Gaussians, rows: np.ndarray, coefficients: int, color: int) -> np.ndarray:
    """Fill rows [>= n, C] with the file's numbers; invalid Gaussians leave a NaN or infinity behind.

    Args:
        part: n float32 CPU Gaussians.
        rows: the buffer; columns that are not set keep what they hold.
        coefficients: K of the file.
        color: column of f_dc_0.

    Returns:
        The first n rows.
    """
    rows = rows[: len(part)]
    sh = part.sh.numpy()
    have = min(coefficients, sh.shape[1])
    tail = color + 3 * coefficients
    _copy_rows(rows[:, 0:3], part.means.numpy())
    _copy_rows(rows[:, color : color + 3], sh[:, 0])
    if have > 1:
        # [n, 3, K - 1] view of the f_rest columns; numpy's reshape would copy such a slice.
        row_stride, item = rows.strides
        rest = np.lib.stride_tricks.as_strided(
            rows[:, color + 3 :], (len(rows), 3, have - 1), (row_stride, (coefficients - 1) * item, item)
        )
        rest[...] = sh[:, 1:have].transpose(0, 2, 1)
    opacities = part.opacities.numpy()
    with np.errstate(all="ignore"):  # 0 and 1 become infinite and are clipped; NaN passes the clipping
        rows[:, tail] = np.clip(np.log(opacities / (1 - opacities)), -LOGIT_LIMIT, LOGIT_LIMIT)
        log_scales = np.log(part.scales.numpy())
        _copy_rows(rows[:, tail + 1 : tail + 4], np.maximum(log_scales, LOG_SCALE_FLOOR, out=log_scales))
    _copy_rows(rows[:, tail + 4 : tail + 8], part.quats.numpy())
    return rows


def _copy_rows(target: np.ndarray, source: np.ndarray) -> None:
    """``target[...] = source`` for float32 [n, w]; each row is moved as one item, two to four times faster."""
    if source.strides[1] != source.itemsize:
        source = np.ascontiguousarray(source)
    item = f"V{source.shape[1] * source.itemsize}"
    target.view(item)[...] = source.view(item)


def _refuse_invalid(packed: np.ndarray, names: list[str], start: int, where: str) -> None:
    finite = np.isfinite(packed)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise FlashWorldError(
            f"{where}: Gaussian {start + row} has no valid {names[column]} (NaN, infinite, or out of range); "
            f"scene.prune(...) drops non-finite ones, scene.validate(...) names the rule."
        )
