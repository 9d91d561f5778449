"""Gaussian scenes as SOG (PlayCanvas): lossless WebP pictures and a meta.json, in a ZIP or a folder; the smallest.

Pixel i of every picture belongs to Gaussian i, row by row. Axes unchanged (x right, y down, z forward). Version 2:

means_l, means_u   16 bits for x, y, z: sign(p) ln(1 + |p|) between mins and maxs, low and high bytes
quats              three components (byte / 255 - 0.5) sqrt(2) and 252 + which of w, x, y, z was left out
scales             index into a codebook of logarithms
sh0                three indices into a codebook of f_dc, and opacity / 255
shN_labels         16-bit index into a palette of all higher coefficients
shN_centroids      the palette, 64 entries a row, indices into a codebook

Version 1 has no codebooks but ranges, and the logit of the opacity. `sog_read` reads both.

Metadata travel in meta.json (``asset.extras``). What a file cannot hold: SH detail, since beyond 65 536 Gaussians they
share that many sets of higher coefficients (said once in the log), and exact values of anything.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import FlashWorldError, check_stop
from ...gaussians import FILTER, SH_COEFFICIENTS, Gaussians
from ..files import atomic_writer
from .morton import morton_order
from .palette import codebook, nearest, palette
from .quaternions import smallest_three
from .rows import (
    Losses,
    check_field,
    log_scales,
    ordered_map,
    quat_signs,
    ranges,
    signs_of_axes,
    take,
    take_sh,
    unit_quats,
    written_degree,
)
from .webp import MAX_SIDE, encode_webp

PALETTE = 1 << 16  # labels have 16 bits
ROW_ENTRIES = 64  # palette entries in a row of the centroid picture
_CHUNK_ROWS = 1 << 16
_SAMPLE = 1 << 20  # numbers a codebook is made from
_EFFORT = {"default": 30, "high": 80}  # of the WebP encoder
_SQRT2 = np.float32(np.sqrt(2))


def write_sog(
    path: str | os.PathLike,
    gaussians: Gaussians,
    *,
    sh_degree: int | None = None,
    quality: Literal["default", "high"] = "default",
    axes: Literal["source", "y-up"] = "source",
    seed: int = 0,
    progress=None,
    should_stop=None,
) -> None:
    """Write a SOG version 2 bundle, its rows along a Morton curve.

    Values are rounded to the nearest step. Needs about 40 bytes a Gaussian beside the scene, 60 with SH.

    Args:
        path: the file, .sog by habit; replaced only when the new one is complete.
        gaussians: at least one; any float dtype, any device.
        sh_degree: cut or fill the color coefficients to this degree; None keeps the scene's own. 0 is much faster.
        quality: "high" lets the WebP encoder try longer for a slightly smaller file; the values are the same.
        axes: "source" keeps them; "y-up" writes x right, y up, z backward and says so in meta.json, in our own words.
        seed: of the palette's random start; the same seed gives the same file.
        progress: called as ``progress(done, total)`` in Gaussians.
        should_stop: asked now and then; True leaves nothing behind.

    Raises:
        FlashWorldError: an empty scene, more than 268 million Gaussians, a number that is not finite, metadata
            that is no JSON, or a file that cannot be written.
        Cancelled: ``should_stop`` answered True.
    """
    where, total = Path(path).name, len(gaussians)
    if quality not in _EFFORT:
        raise FlashWorldError(f"quality must be one of {', '.join(_EFFORT)}, got {quality!r}.")
    signs, degree = signs_of_axes(axes), written_degree(gaussians, sh_degree)
    width = -(-int(np.ceil(np.sqrt(total))) // 4) * 4
    if not total or width > MAX_SIDE:
        raise FlashWorldError(f"{where}: a SOG file holds 1 to 268 million Gaussians, the scene has {total:,}.")
    losses = Losses()
    order = morton_order(gaussians, where, should_stop)
    work = _Pictures(gaussians, order, degree, signs, width, where)
    steps = [work.means, work.quats, work.scales, work.colors]
    if degree:
        steps.append(lambda: work.harmonics(seed, losses, should_stop))
    meta = {"version": 2, "count": total, "asset": {"generator": "ComfyUI-FlashWorld"}}
    if gaussians.metadata or axes != "source":
        meta["asset"]["extras"] = {**({"axes": axes} if axes != "source" else {}), "flashworld": gaussians.metadata}
    if gaussians.metadata.get(FILTER) == "antialiased":
        meta["model"] = "antialiased"

    def encode(item: tuple[str, np.ndarray]) -> tuple[str, bytes]:
        return item[0], encode_webp(item[1], _EFFORT[quality])

    def pictures():
        for step in steps:
            section, images = step()
            meta.update(section)
            yield from images

    with atomic_writer(path) as stream:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, allowZip64=False) as bundle:
            files = 7 if degree else 5
            for done, (name, data) in enumerate(ordered_map(encode, pictures(), should_stop), start=1):
                bundle.writestr(zipfile.ZipInfo(name), data)
                if progress is not None:
                    progress(total * done // files, total)
            try:
                text = json.dumps(meta, allow_nan=False, default=_plain)
            except (TypeError, ValueError) as error:
                raise FlashWorldError(f"{where}: the metadata cannot be written as JSON ({error}).") from None
            bundle.writestr(zipfile.ZipInfo("meta.json"), text)
        check_stop(should_stop)
    losses.report(where)


class _Pictures:
    """The pictures of a scene and what meta.json says about them, one subject after the other."""

    def __init__(self, gaussians, order: np.ndarray, degree: int, signs, width: int, where: str):
        self._gaussians, self._order, self._degree, self._signs = gaussians, order, degree, signs
        self._width, self._height = width, -(-len(order) // (4 * width)) * 4
        self._where = where

    def means(self):
        logs = [np.full(3, np.inf), np.full(3, -np.inf)]
        for _, values in self._chunks("means"):
            logs = [np.minimum(logs[0], values.min(axis=0)), np.maximum(logs[1], values.max(axis=0))]
        low, high = (np.sign(v) * np.log1p(np.abs(v)) for v in logs)
        extent = np.where(high > low, high - low, 1.0)
        lower, upper = self._blank(), self._blank()
        for rows, values in self._chunks("means"):
            values = values.astype(np.float64)
            logs = np.sign(values) * np.log1p(np.abs(values))
            codes = ((logs - low) / extent * 65535 + 0.5).astype(np.uint16)
            lower[rows, :3], upper[rows, :3] = codes & 255, codes >> 8
        section = {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]}
        return {"means": section}, [("means_l.webp", self._shaped(lower)), ("means_u.webp", self._shaped(upper))]

    def quats(self):
        image = self._blank()
        for rows, values in self._chunks("quats"):
            largest, others = smallest_three(unit_quats(values))
            image[rows, :3] = ((others / _SQRT2 + np.float32(0.5)) * 255 + np.float32(0.5)).clip(0, 255)
            image[rows, 3] = largest + 252
        return {"quats": {"files": ["quats.webp"]}}, [("quats.webp", self._shaped(image))]

    def scales(self):
        book = codebook(self._sample("scales", log_scales))
        image = self._blank()
        for rows, values in self._chunks("scales"):
            image[rows, :3] = nearest(book, log_scales(values))
        section = {"codebook": book.tolist(), "files": ["scales.webp"]}
        return {"scales": section}, [("scales.webp", self._shaped(image))]

    def colors(self):
        book = codebook(self._sample("sh", lambda sh: sh[:, 0]))
        image = self._blank()
        for rows, values in self._chunks("sh"):
            image[rows, :3] = nearest(book, values[:, 0])
        for rows, values in self._chunks("opacities"):
            image[rows, 3] = values * np.float32(255) + np.float32(0.5)
        section = {"codebook": book.tolist(), "files": ["sh0.webp"]}
        return {"sh0": section}, [("sh0.webp", self._shaped(image))]

    def harmonics(self, seed: int, losses: Losses, should_stop):
        total, k = len(self._order), SH_COEFFICIENTS[self._degree] - 1
        image = self._blank()
        if total <= PALETTE:
            entries = self._vectors(slice(0, total))
            labels = np.arange(total)
        else:
            losses.add(f"sets of SH coefficients became {PALETTE:,}, all the format holds", total)
            entries, labels = palette(self._vectors, total, PALETTE, seed, None, should_stop)
        image[:total, 0], image[:total, 1] = labels & 255, labels >> 8
        book = codebook(entries.ravel()[:: max(1, entries.size // _SAMPLE)])
        rows = -(-len(entries) // ROW_ENTRIES)
        centroids = np.zeros((rows * ROW_ENTRIES, k, 4), np.uint8)
        centroids[..., 3] = 255
        centroids[: len(entries), :, :3] = nearest(book, entries.reshape(len(entries), k, 3))
        files = ["shN_centroids.webp", "shN_labels.webp"]
        section = {"count": len(entries), "bands": self._degree, "codebook": book.tolist(), "files": files}
        pictures = (centroids.reshape(rows, ROW_ENTRIES * k, 4), self._shaped(image))
        return {"shN": section}, list(zip(files, pictures, strict=True))

    def _blank(self) -> np.ndarray:
        image = np.zeros((self._width * self._height, 4), np.uint8)
        image[:, 3] = 255
        return image

    def _shaped(self, image: np.ndarray) -> np.ndarray:
        return image.reshape(self._height, self._width, 4)

    def _vectors(self, rows: slice | np.ndarray) -> np.ndarray:
        """[n, 3 (K - 1)] higher coefficients of rows of the file."""
        sh = take_sh(self._gaussians, self._order[rows], self._degree, self._signs)[:, 1:]
        return sh.reshape(len(sh), -1)

    def _chunks(self, field: str):
        """(rows of the file, their values in the file's axes), checked."""
        for start, stop in ranges(len(self._order), _CHUNK_ROWS):
            index = self._order[start:stop]
            values = take(self._gaussians, field, index)
            check_field(field, values, start, self._where, index)
            if self._signs is not None and field == "means":
                values = values * np.array(self._signs, np.float32)
            if self._signs is not None and field == "quats":
                values = values * quat_signs(self._signs)
            yield slice(start, stop), values

    def _sample(self, field: str, function) -> np.ndarray:
        """Values of evenly spread rows and of the extreme ones, for a codebook."""
        step = max(1, 3 * len(self._order) // _SAMPLE)
        parts, extremes = [], []
        for _, values in self._chunks(field):
            numbers = function(values)
            parts.append(numbers[::step])
            extremes += [numbers.min(), numbers.max()]
        return np.concatenate([np.concatenate(parts).ravel(), np.array([min(extremes), max(extremes)], np.float32)])


def _plain(value):
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON value")
