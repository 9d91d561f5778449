"""Rows on their way into and out of a scene file, as plain numpy arrays: what all formats but PLY share."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch

from ...errors import FlashWorldError, check_stop
from ...gaussians import SH_COEFFICIENTS, Gaussians
from ...text import get_logger

log = get_logger(__name__)

LOG_SCALE_FLOOR = -27.631  # log(1e-12): a scale of 0 stays a finite number
_MAX_WORKERS = 4  # more do not help: the bytes pass through one file
_CHECK_ROWS = 1 << 16
_COMPILED_ROWS = 1 << 14
_OPENGL = (1.0, -1.0, -1.0)  # signs of x, y, z between our world (y down, z forward) and one with y up, z backward
_SMALL_SCENE = 256 << 20  # bytes of memory any file may ask for
_MAX_EXPANSION = 64  # bytes of memory for each byte of a larger one; real scenes stay below 20


class Rows(NamedTuple):
    """n Gaussians as float32 arrays, activated values: means [n, 3], quats [n, 4] wxyz, scales [n, 3],
    opacities [n], sh [n, K, 3]."""

    means: np.ndarray
    quats: np.ndarray
    scales: np.ndarray
    opacities: np.ndarray
    sh: np.ndarray


# ---- axes ---------------------------------------------------------------------------------------------------


def sh_signs(signs: tuple[float, float, float], coefficients: int) -> np.ndarray:
    """[K] factors of the coefficients when the axes x, y, z are multiplied by ``signs`` (each 1 or -1)."""
    sx, sy, sz = signs
    band_1, band_2 = [sy, sz, sx], [sx * sy, sy * sz, 1, sx * sz, 1]
    band_3 = [sy, sx * sy * sz, sy, sz, sx, sz, sx]
    return np.array([1, *band_1, *band_2, *band_3][:coefficients], np.float32)


def quat_signs(signs: tuple[float, float, float]) -> np.ndarray:
    """[4] factors of w, x, y, z when the axes x, y, z are multiplied by ``signs``."""
    sx, sy, sz = signs
    return np.array([1, sy * sz, sx * sz, sx * sy], np.float32)


def signs_of_axes(axes: str) -> tuple[float, float, float] | None:
    """What a writer multiplies x, y, z by: None for "source" (axes unchanged), a turn around x for "y-up".

    Raises:
        FlashWorldError: another word.
    """
    if axes not in ("source", "y-up"):
        raise FlashWorldError(f'axes must be "source" (x right, y down, z forward) or "y-up", got {axes!r}.')
    return None if axes == "source" else _OPENGL


def signs_of_frame(frame: str, own: tuple[float, float, float] | None = None) -> tuple[float, float, float] | None:
    """What a reader multiplies x, y, z by: ``own`` (what the file itself says) for "auto", nothing for "opencv",
    a turn around x for "opengl".

    Raises:
        FlashWorldError: another word.
    """
    if frame not in ("auto", "opencv", "opengl"):
        raise FlashWorldError(f'frame must be "auto", "opencv" or "opengl", got {frame!r}.')
    signs = {"auto": own, "opencv": None, "opengl": _OPENGL}[frame]
    return None if signs == (1.0, 1.0, 1.0) else signs


def turned(gaussians: Gaussians, signs: tuple[float, float, float]) -> Gaussians:
    """The scene with its axes multiplied by ``signs``; a new one."""

    def factors(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(gaussians.means)

    return dataclasses.replace(
        gaussians,
        means=gaussians.means * factors(np.array(signs, np.float32)),
        quats=gaussians.quats * factors(quat_signs(signs)),
        sh=gaussians.sh * factors(sh_signs(signs, gaussians.sh.shape[1]))[:, None],
    )


# ---- out ----------------------------------------------------------------------------------------------------


def written_degree(gaussians: Gaussians, sh_degree: int | None, limit: int = 3) -> int:
    """The degree a file gets: ``sh_degree`` (None: the scene's own), at most what the format holds.

    Raises:
        FlashWorldError: a degree outside 0..3.
    """
    if sh_degree is not None and sh_degree not in range(len(SH_COEFFICIENTS)):
        raise FlashWorldError(f"sh_degree must be 0, 1, 2 or 3, got {sh_degree!r}.")
    return min(limit, gaussians.sh_degree if sh_degree is None else sh_degree)


def take(gaussians: Gaussians, field: str, rows: slice | np.ndarray) -> np.ndarray:
    """Some rows of one tensor as float32 numpy, copied only where it is elsewhere or of another type."""
    tensor = getattr(gaussians, field).detach()
    if tensor.device.type == "cpu" and tensor.dtype == torch.float32:
        array = tensor.numpy()
        return array[rows] if isinstance(rows, slice) else np.take(array, rows, axis=0)
    index = rows if isinstance(rows, slice) else torch.from_numpy(rows.astype(np.int64)).to(tensor.device)
    return tensor[index].to("cpu", torch.float32).numpy()


def take_sh(gaussians: Gaussians, rows: slice | np.ndarray, degree: int, signs=None) -> np.ndarray:
    """[n, K, 3] coefficients cut or filled with zeros to ``degree``, axes multiplied by ``signs``."""
    sh, k = take(gaussians, "sh", rows), SH_COEFFICIENTS[degree]
    if sh.shape[1] < k:
        sh = np.concatenate([sh, np.zeros((len(sh), k - sh.shape[1], 3), np.float32)], axis=1)
    sh = sh[:, :k]
    return sh if signs is None else sh * sh_signs(signs, k)[:, None]


def take_rows(gaussians: Gaussians, rows: slice | np.ndarray, degree: int, signs=None) -> Rows:
    """All five fields of some rows; quaternions have length 1, a zero one is the identity."""
    means, quats = take(gaussians, "means", rows), unit_quats(take(gaussians, "quats", rows))
    if signs is not None:
        means, quats = means * np.array(signs, np.float32), quats * quat_signs(signs)
    scales, opacities = take(gaussians, "scales", rows), take(gaussians, "opacities", rows)
    return Rows(means, quats, scales, opacities, take_sh(gaussians, rows, degree, signs))


def check_field(field: str, values: np.ndarray, first: int, where: str, order: np.ndarray | None = None) -> None:
    """Refuse values no file can mean: not finite, a negative scale, an opacity outside [0, 1].

    Args:
        field: name in `Gaussians`.
        values: [n, ...] rows of the scene beginning with number ``first``, or those numbered ``order``.
        where: file, opens the message.

    Raises:
        FlashWorldError: naming the first such Gaussian.
    """
    if not values.size:
        return
    with np.errstate(all="ignore"):
        good = np.isfinite(values.sum(dtype=np.float32) if field == "opacities" else values.sum())
        if field in ("scales", "opacities"):
            good = good and values.min() >= 0
        if field == "opacities":
            good = good and values.max() <= 1
        if good:
            return
        bad = ~np.isfinite(values)
        if field in ("scales", "opacities"):
            bad |= values < 0
        if field == "opacities":
            bad |= values > 1
    bad = bad.reshape(len(values), -1).any(axis=1)
    if bad.any():  # else only the sum overflowed
        row = int(bad.argmax())
        number = first + row if order is None else int(order[row])
        raise FlashWorldError(
            f"{where}: Gaussian {number} has no valid {field} (NaN, infinite, or out of range); "
            f"scene.prune(...) drops non-finite ones, scene.validate(...) names the rule."
        )


def check_rows(rows: Rows, first: int, where: str, order: np.ndarray | None = None) -> None:
    """`check_field` for all five."""
    for field, values in zip(Rows._fields, rows, strict=True):
        check_field(field, values, first, where, order)


def log_scales(scales: np.ndarray) -> np.ndarray:
    """Natural logarithms of scales >= 0; at least `LOG_SCALE_FLOOR`."""
    with np.errstate(divide="ignore"):
        logs = np.log(scales)
    return np.maximum(logs, np.float32(LOG_SCALE_FLOOR), out=logs)


def unit_quats(quats: np.ndarray) -> np.ndarray:
    """[n, 4] quaternions of length 1; a zero one becomes the identity, one that is not finite stays."""
    with np.errstate(all="ignore"):
        squares = np.einsum("ij,ij->i", quats, quats)
        if len(squares) and not (squares.min() > 1e-30 and squares.max() < 1e30):
            wide = quats.astype(np.float64)
            length = np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, None]
            return np.where(length == 0, [1.0, 0.0, 0.0, 0.0], wide / length).astype(np.float32)
        return quats * (np.float32(1) / np.sqrt(squares))[:, None]


class Losses:
    """What a format could not hold, counted over all chunks (from any thread) and said once."""

    def __init__(self):
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, what: str, count: int = 1) -> None:
        """Add ``count`` values; ``what`` is the rest of a sentence that begins with their number."""
        if count:
            with self._lock:
                self._counts[what] = self._counts.get(what, 0) + int(count)

    def report(self, where: str) -> None:
        """One warning in the log, none if nothing was lost."""
        if self._counts:
            log.warning("%s: %s.", where, "; ".join(f"{count:,} {what}" for what, count in self._counts.items()))


# ---- in -----------------------------------------------------------------------------------------------------


class RowTable:
    """Memory for the Gaussians of a file, filled chunk by chunk from any thread.

    Attributes:
        rows: `Rows` over all of them, not set to anything yet.

    Raises:
        FlashWorldError: many times more memory than the file has bytes: a bomb, or a count that lies.
    """

    def __init__(self, count: int, sh_degree: int, file_bytes: int, where: str):
        k = SH_COEFFICIENTS[sh_degree]
        check_expansion(4 * count * (11 + 3 * k), file_bytes, where)
        # numpy asks Linux for huge pages where torch does not: the first touch of a scene is 40 % faster.
        shapes = ((count, 3), (count, 4), (count, 3), (count,), (count, k, 3))
        self.rows = Rows(*(np.empty(shape, np.float32) for shape in shapes))
        self._where, self._odd = where, False

    def part(self, start: int, stop: int) -> Rows:
        """Views of rows start..stop."""
        return Rows(*(array[start:stop] for array in self.rows))

    def mark(self, *arrays: np.ndarray) -> None:
        """Look at finished values: rows that are not finite are dropped in the end."""
        with np.errstate(all="ignore"):
            if not all(np.isfinite(array.sum()) for array in arrays):
                self._odd = True

    def gaussians(self, metadata: dict, signs: tuple[float, float, float] | None = None, invalid="drop") -> Gaussians:
        """The scene, its axes multiplied by ``signs``.

        Args:
            metadata: goes into the result.
            signs: of x, y, z; None leaves them.
            invalid: "drop" or "error" for rows with a number that is not finite.

        Raises:
            FlashWorldError: such a row, if asked for; or another word for ``invalid``.
        """
        if invalid not in ("drop", "error"):
            raise FlashWorldError(f'invalid must be "drop" or "error", got {invalid!r}.')
        total = len(self.rows.means)
        kept = self._drop_odd(invalid) if self._odd else total
        if kept < total:
            log.warning("%s: dropped %d of %d Gaussians that are not finite.", self._where, total - kept, total)
        rows = self.part(0, kept)
        if signs is not None:
            for start in range(0, kept, _CHECK_ROWS):
                part = Rows(*(array[start : start + _CHECK_ROWS] for array in rows))
                part.means[...] *= np.array(signs, np.float32)
                part.quats[...] *= quat_signs(signs)
                part.sh[...] *= sh_signs(signs, part.sh.shape[1])[:, None]
        return Gaussians(*map(torch.from_numpy, rows), metadata)

    def _drop_odd(self, invalid: str) -> int:
        kept, total = 0, len(self.rows.means)
        for start in range(0, total, _CHECK_ROWS):
            part = self.part(start, min(total, start + _CHECK_ROWS))
            good = np.logical_and.reduce([np.isfinite(a.reshape(len(a), -1)).all(axis=1) for a in part])
            if invalid == "error" and not good.all():
                raise FlashWorldError(
                    f"{self._where}: row {start + int(np.argmin(good))} is not finite; "
                    f'read with invalid="drop" to leave it out.'
                )
            count = int(good.sum())
            for target, source in zip(self.rows, part, strict=True):
                target[kept : kept + count] = source[good]
            kept += count
        return kept


def check_expansion(memory: int, file_bytes: int, where: str) -> None:
    """Refuse a small file that would fill the memory.

    Raises:
        FlashWorldError: more than 256 MiB and more than 64 times the size of the file.
    """
    if memory > max(_SMALL_SCENE, _MAX_EXPANSION * file_bytes):
        raise FlashWorldError(
            f"{where}: its {file_bytes:,} bytes would take {memory:,} bytes of memory, more than any real scene does; "
            f"the file is damaged or made to fill the memory."
        )


# ---- threads ------------------------------------------------------------------------------------------------


def ordered_map(function: Callable, items: Iterable, should_stop=None) -> Iterator:
    """``function(item)`` for each item, in order, worked out a few items ahead by a few threads.

    Args:
        function: called from several threads at once.
        items: read on the calling thread, only a few ahead of the results.
        should_stop: asked before each item.

    Raises:
        Cancelled: ``should_stop`` answered True. Whatever ``function`` raises comes out here too.
    """
    workers = min(_MAX_WORKERS, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers, "scene-file") as pool:
        waiting: deque = deque()
        try:
            for item in items:
                check_stop(should_stop)
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                check_stop(should_stop)
                yield waiting.popleft().result()
        finally:
            for task in waiting:
                task.cancel()


@functools.lru_cache(maxsize=1)
def _kernels() -> ModuleType | None:
    try:
        return importlib.import_module(".kernels", __package__)
    except ImportError:  # no numba: the plain functions, two to five times slower
        return None


def compiled(rows: int) -> ModuleType | None:
    """The module `kernels` for a piece of a file of so many rows; None without numba, or where compiling would not pay.

    Files of less than one full piece are written and read by the plain functions, in milliseconds.
    """
    return _kernels() if rows >= _COMPILED_ROWS else None


def ranges(count: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive pieces of at most ``size`` that cover range(count)."""
    return ((start, min(count, start + size)) for start in range(0, count, size))
