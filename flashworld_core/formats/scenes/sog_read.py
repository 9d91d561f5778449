"""Reading SOG, versions 1 and 2, from a ZIP or a folder (`sog` describes the pictures)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import FlashWorldError, check_stop
from ...gaussians import FILTER, KIND, SH_COEFFICIENTS, Gaussians
from .quaternions import from_smallest_three
from .rows import Rows, RowTable, check_expansion, ordered_map, ranges, signs_of_frame
from .sog import ROW_ENTRIES
from .sog_bundle import SogBundle
from .webp import decode_webp, webp_size

_CHUNK_ROWS = 1 << 16
_SQRT2 = np.float32(np.sqrt(2))


def read_sog(
    path: str | os.PathLike,
    *,
    frame: Literal["auto", "opencv", "opengl"] = "auto",
    invalid: Literal["drop", "error"] = "drop",
    progress=None,
    should_stop=None,
) -> Gaussians:
    """Read a SOG bundle (.sog, .zip), or its folder, or the meta.json in it.

    Args:
        path: file or folder.
        frame: its world axes. "auto": y down, unless the file says otherwise in our own words. "opencv": y down, as
            they are. "opengl": y up, z backward, turned by half a turn around x.
        invalid: rows with a number that is not finite are dropped and counted in the log, or an error.
        progress: called as ``progress(done, total)`` in Gaussians.
        should_stop: asked before each picture and chunk.

    Returns:
        float32 CPU `Gaussians` with the metadata this package wrote, if any.

    Raises:
        FlashWorldError: no file, no SOG, a picture that is missing, too small or damaged, or a name that leaves the
            folder.
        Cancelled: ``should_stop`` answered True.
    """
    where = Path(path).name
    signs_of_frame(frame)
    try:
        with SogBundle(path) as bundle:
            meta = _opened(bundle, where)
            table = RowTable(meta.count, meta.sh_degree, bundle.size, where)
            sections = ("means", "quats", "scales", "sh0", *(["shN"] if meta.sh_degree else []))
            for done, section in enumerate(sections, start=1):
                check_stop(should_stop)
                images = _images(bundle, meta, section)

                def decode(piece, section=section, images=images):
                    rows = table.part(*piece)
                    _DECODERS[section](meta, [image[slice(*piece)] for image in images], rows)
                    table.mark(*_FILLED[section](rows))

                if section == "shN":
                    meta.read_palette(bundle)
                for _ in ordered_map(decode, ranges(meta.count, _CHUNK_ROWS), should_stop):
                    pass
                if progress is not None:
                    progress(meta.count * done // len(sections), meta.count)
    except OSError as error:
        raise FlashWorldError(f"{where}: cannot be read: {error.strerror or error}.") from error
    return table.gaussians(meta.metadata(), signs_of_frame(frame, meta.signs()), invalid)


def sog_info(path: str | os.PathLike) -> dict:
    """What a SOG holds, from its meta.json.

    Returns:
        dict of JSON values: ``format``, ``bytes``, ``gaussians``, ``sh_degree``, ``palette`` (entries for the higher
        coefficients), ``filter``, ``kind``, ``generator``, ``metadata``.

    Raises:
        FlashWorldError: no file or no SOG.
    """
    where = Path(path).name
    try:
        with SogBundle(path) as bundle:
            meta = _opened(bundle, where)
            size = bundle.size
    except OSError as error:
        raise FlashWorldError(f"{where}: cannot be read: {error.strerror or error}.") from error
    metadata = meta.metadata()
    return {
        "format": f"SOG version {meta.version}",
        "bytes": size,
        "gaussians": meta.count,
        "sh_degree": meta.sh_degree,
        "palette": meta.entries,
        "filter": metadata.get(FILTER, "classic"),
        "kind": metadata.get(KIND, "3dgs"),
        "generator": str(meta.asset.get("generator", "")),
        "metadata": metadata,
    }


def recognizes_sog(head: bytes) -> bool:
    """Whether the first kilobytes of a file are a ZIP of pictures, or a SOG's meta.json."""
    if head.startswith(b"PK\x03\x04"):
        return b".webp" in head or b"meta.json" in head
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and b'"means"' in head and b'"quats"' in head


class _Meta:
    """meta.json, checked: what a picture's numbers mean.

    Raises:
        FlashWorldError: an entry that is missing or out of range.
    """

    def __init__(self, content: dict, where: str):
        self._content, self._where = content, where
        if "means" not in content and ("lodLevels" in content or "filenames" in content):
            raise FlashWorldError(f"{where}: is a streamed SOG of many parts; only single scenes can be read.")
        version = content.get("version", 1)
        if version not in (1, 2) or isinstance(version, bool):
            raise FlashWorldError(f"{where}: is SOG version {str(version)[:20]}; versions 1 and 2 can be read.")
        self.version = int(version)
        count = content.get("count") if version == 2 else self._list("means", "shape", None)[0]
        if isinstance(count, bool) or not isinstance(count, int) or not 0 < count < 1 << 29:
            raise FlashWorldError(f"{where}: meta.json names {str(count)[:20]} Gaussians.")
        self.count, self.asset = count, content["asset"] if isinstance(content.get("asset"), dict) else {}
        self.mins, self.maxs = self._numbers("means", "mins", 3), self._numbers("means", "maxs", 3)
        if self.version == 2:
            self.scales, self.colors = self._numbers("scales", "codebook", 256), self._numbers("sh0", "codebook", 256)
        else:
            self.scales = self._ramps("scales", 3)
            self.colors = self._ramps("sh0", 4)
        self.sh_degree, self.entries, self.palette = 0, 0, None
        if content.get("shN") is not None:
            self._read_sh()

    def files(self, section: str, count: int) -> list[str]:
        """Names of a section's pictures."""
        names = self._list(section, "files", count)
        if not all(isinstance(name, str) for name in names):
            raise FlashWorldError(f"{self._where}: meta.json names no files for {section}.")
        return names

    def metadata(self) -> dict:
        """What this package wrote into a file, and the filter and kind in anyone's."""
        extras = self.asset.get("extras")
        own = extras.get("flashworld") if isinstance(extras, dict) else None
        metadata = dict(own) if isinstance(own, dict) else {}
        model = self._content.get("model")
        if model == "antialiased" or self._content.get("antialias") is True:
            metadata[FILTER] = "antialiased"
        if model == "2dgs":
            metadata[KIND] = "2dgs"
        return metadata

    def signs(self) -> tuple[float, float, float] | None:
        """What turns axes into ours that our writer named."""
        extras = self.asset.get("extras")
        return (1.0, -1.0, -1.0) if isinstance(extras, dict) and extras.get("axes") == "y-up" else None

    def read_palette(self, bundle: SogBundle) -> None:
        """Decode the centroid picture: `palette` is [entries + 1, K - 1, 3], the last one zeros."""
        data = bundle.read(self.files("shN", 2)[0])
        k = SH_COEFFICIENTS[self.sh_degree] - 1 if self.sh_degree else 0
        width, height = webp_size(data, self._where)
        check_expansion(16 * width * height, bundle.size, f"{self._where}: the SH palette")
        if self.version == 1 and width % ROW_ENTRIES == 0:
            self.entries = height * ROW_ENTRIES
        if width < ROW_ENTRIES * k or height * ROW_ENTRIES < self.entries:
            raise FlashWorldError(
                f"{self._where}: {width} x {height} pixels hold no {self.entries} sets of SH degree {self.sh_degree}."
            )
        pixels = decode_webp(data, f"{self._where}: the SH palette")[:, : ROW_ENTRIES * k, :3]
        codes = pixels.reshape(height * ROW_ENTRIES, k, 3)[: self.entries]
        self.palette = np.concatenate([self._sh_book[codes], np.zeros((1, k, 3), np.float32)])

    def _read_sh(self) -> None:
        if self.version == 2:
            bands, entries = self._section("shN").get("bands"), self._section("shN").get("count")
            if bands not in (1, 2, 3) or isinstance(entries, bool) or not isinstance(entries, int):
                raise FlashWorldError(
                    f"{self._where}: meta.json names {str(bands)[:20]} SH bands of {str(entries)[:20]} entries."
                )
            self.sh_degree, self.entries = int(bands), min(max(entries, 0), 1 << 16)
            self._sh_book = self._numbers("shN", "codebook", 256)
        else:
            low, high = self._number("shN", "mins"), self._number("shN", "maxs")
            with np.errstate(all="ignore"):
                self._sh_book = (low + (high - low) * np.arange(256) / 255).astype(np.float32)

    @property
    def has_sh(self) -> bool:
        return self._content.get("shN") is not None

    def find_degree(self, width: int) -> None:
        """Version 1 does not name the degree: it follows from the width of the centroid picture."""
        ks = [k - 1 for k in SH_COEFFICIENTS]
        if width % ROW_ENTRIES or width // ROW_ENTRIES not in ks[1:]:
            raise FlashWorldError(f"{self._where}: a palette {width} pixels wide fits no SH degree.")
        self.sh_degree = ks.index(width // ROW_ENTRIES)

    def _section(self, name: str) -> dict:
        section = self._content.get(name)
        if not isinstance(section, dict):
            raise FlashWorldError(f"{self._where}: meta.json has no {name!r}.")
        return section

    def _list(self, section: str, key: str, size: int | None) -> list:
        value = self._section(section).get(key)
        if not isinstance(value, list) or not value or (size is not None and len(value) != size):
            raise FlashWorldError(f"{self._where}: {section}.{key} in meta.json must list {size or 'some'} entries.")
        return value

    def _numbers(self, section: str, key: str, size: int) -> np.ndarray:
        values = self._list(section, key, size)
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
            raise FlashWorldError(f"{self._where}: {section}.{key} in meta.json must be numbers.")
        try:
            with np.errstate(over="ignore"):
                return np.array(values, np.float64).astype(np.float32)
        except OverflowError:
            raise FlashWorldError(f"{self._where}: {section}.{key} in meta.json holds a number out of range.") from None

    def _number(self, section: str, key: str) -> float:
        value = self._section(section).get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise FlashWorldError(f"{self._where}: {section}.{key} in meta.json must be a number.")
        return float(value)

    def _ramps(self, section: str, channels: int) -> np.ndarray:
        """[channels, 256] values of version 1's bytes."""
        low, high = (self._numbers(section, key, channels).astype(np.float64)[:, None] for key in ("mins", "maxs"))
        with np.errstate(all="ignore"):
            return (low + (high - low) * np.arange(256) / 255).astype(np.float32)


def _opened(bundle: SogBundle, where: str) -> _Meta:
    meta = _Meta(bundle.meta(), where)
    if meta.version == 1 and meta.has_sh:
        meta.find_degree(webp_size(bundle.read(meta.files("shN", 2)[0]), where)[0])
    return meta


def _images(bundle: SogBundle, meta: _Meta, section: str) -> list[np.ndarray]:
    """The pictures of a section with a pixel for each Gaussian, [w * h, 4] each."""
    names = meta.files(section, 2 if section in ("means", "shN") else 1)
    images = []
    for name in names[1:] if section == "shN" else names:
        data = bundle.read(name)
        width, height = webp_size(data, f"{bundle.where}: {name[:80]}")
        check_expansion(8 * width * height, bundle.size, f"{bundle.where}: {name[:80]}")
        if width * height < meta.count:
            raise FlashWorldError(f"{bundle.where}: {name[:80]!r} has too few pixels for {meta.count} Gaussians.")
        images.append(decode_webp(data, f"{bundle.where}: {name[:80]}").reshape(-1, 4))
    return images


# ---- pixels -> rows -----------------------------------------------------------------------------------------


def _means(meta: _Meta, images: list[np.ndarray], rows: Rows) -> None:
    codes = images[0][:, :3] | images[1][:, :3].astype(np.uint16) << 8
    low, high = meta.mins.astype(np.float64), meta.maxs.astype(np.float64)
    with np.errstate(all="ignore"):
        extent = high - low
        logs = low + np.where(extent == 0, 1.0, extent) * codes / 65535
        rows.means[...] = np.sign(logs) * np.expm1(np.abs(logs))


def _quats(meta: _Meta, images: list[np.ndarray], rows: Rows) -> None:
    image = images[0]
    largest = image[:, 3].astype(np.int64) - 252
    others = (image[:, :3] * np.float32(1 / 255) - np.float32(0.5)) * _SQRT2
    from_smallest_three(np.maximum(largest, 0), others, rows.quats)
    rows.quats[largest < 0] = (1, 0, 0, 0)


def _scales(meta: _Meta, images: list[np.ndarray], rows: Rows) -> None:
    codes = images[0][:, :3]
    logs = meta.scales[codes] if meta.version == 2 else np.stack([meta.scales[i][codes[:, i]] for i in range(3)], 1)
    with np.errstate(over="ignore"):
        np.exp(logs, out=rows.scales)


def _colors(meta: _Meta, images: list[np.ndarray], rows: Rows) -> None:
    image = images[0]
    if meta.version == 2:
        rows.sh[:, 0] = meta.colors[image[:, :3]]
        rows.opacities[...] = image[:, 3] * np.float32(1 / 255)
        return
    for channel in range(3):
        rows.sh[:, 0, channel] = meta.colors[channel][image[:, channel]]
    with np.errstate(over="ignore"):
        rows.opacities[...] = 1 / (1 + np.exp(-meta.colors[3][image[:, 3]].astype(np.float64)))


def _harmonics(meta: _Meta, images: list[np.ndarray], rows: Rows) -> None:
    labels = images[0][:, 0] | images[0][:, 1].astype(np.int64) << 8
    # What is not in the palette has no higher coefficients: the zeros at its end.
    rows.sh[:, 1:] = meta.palette[np.minimum(labels, len(meta.palette) - 1)]


# What may hold numbers that are not finite after a section is read.
_FILLED = {
    "means": lambda rows: (rows.means,),
    "quats": lambda rows: (),
    "scales": lambda rows: (rows.scales,),
    "sh0": lambda rows: (rows.opacities, rows.sh[:, 0]),
    "shN": lambda rows: (rows.sh,),
}
_DECODERS = {"means": _means, "quats": _quats, "scales": _scales, "sh0": _colors, "shN": _harmonics}
