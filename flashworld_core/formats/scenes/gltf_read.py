"""Reading Gaussian splats from glTF and GLB: float or quantized, several nodes, transforms, SPZ inside (`gltf`)."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ...errors import FlashWorldError, check_stop
from ...gaussians import FILTER, SH_COEFFICIENTS, Gaussians
from ...ops.transform import similarity_from_matrix, transform
from ...sh import with_sh_degree
from .gltf import EXTENSION, Y_UP, coefficient_names
from .gltf_document import Accessor, Document
from .rows import RowTable, check_expansion, log, quat_signs, ranges, sh_signs, signs_of_frame, unit_quats
from .spz import read_spz_stream, spz_header

_PIECE_ROWS = 1 << 16
_SPZ_DRAFTS = (
    "KHR_gaussian_splatting_compression_spz_2",
    "KHR_gaussian_splatting_compression_spz",
    "KHR_spz_gaussian_splats_compression",
)


def read_gltf(
    path: str | os.PathLike,
    *,
    frame: Literal["auto", "opencv", "opengl"] = "auto",
    invalid: Literal["drop", "error"] = "drop",
    progress=None,
    should_stop=None,
) -> Gaussians:
    """Read all Gaussian splats of a .glb, or of a .gltf with its buffers beside it or in data URIs.

    Args:
        path: the file.
        frame: its world axes. "auto" and "opengl": glTF's, y up, z backward, turned into ours. "opencv": as they are.
        invalid: rows with a number that is not finite are dropped and counted in the log, or an error.
        progress: called as ``progress(done, total)`` in Gaussians.
        should_stop: asked before each piece.

    Returns:
        float32 CPU `Gaussians`: all primitives with splats in the default scene, moved by their nodes.

    Raises:
        FlashWorldError: no file, no glTF, no splats in it, numbers that do not fit one another, a buffer outside of the
            file's folder, or a node that stretches axes differently.
        Cancelled: ``should_stop`` answered True.
    """
    where = Path(path).name
    signs = signs_of_frame(frame, Y_UP)
    try:
        with Document(path) as document:
            parts = _splats(document)
            total, done, scenes = sum(part.count for part in parts), 0, []
            for part in parts:

                def told(amount: int, _, before=done):
                    if progress is not None:
                        progress(before + amount, total)

                scene = part.read(document, invalid, told, should_stop)
                scenes.append(_moved(scene, part.matrix, where))
                done += part.count
            metadata = _metadata(document)
    except OSError as error:
        raise FlashWorldError(f"{where}: cannot be read: {error.strerror or error}.") from error
    scene = _joined(scenes, metadata)
    if signs is not None:  # in place: nobody else has these tensors
        scene.means.mul_(torch.tensor(signs))
        scene.quats.mul_(torch.from_numpy(quat_signs(signs)))
        scene.sh.mul_(torch.from_numpy(sh_signs(signs, scene.sh.shape[1]))[:, None])
    return scene


def gltf_info(path: str | os.PathLike) -> dict:
    """What a glTF holds, from its JSON.

    Returns:
        dict of JSON values: ``format``, ``bytes``, ``gaussians``, ``sh_degree`` (None within SPZ), ``parts``, ``axes``,
        ``filter``, ``generator``, ``metadata``.

    Raises:
        FlashWorldError: no file, no glTF, or no splats in it.
    """
    where = Path(path).name
    try:
        with Document(path) as document:
            parts, metadata = _splats(document), _metadata(document)
    except OSError as error:
        raise FlashWorldError(f"{where}: cannot be read: {error.strerror or error}.") from error
    degrees = [part.sh_degree for part in parts]
    return {
        "format": "glTF",
        "bytes": os.path.getsize(path),
        "gaussians": sum(part.count for part in parts),
        "sh_degree": None if None in degrees else max(degrees),
        "parts": len(parts),
        "axes": "x right, y up, z backward (glTF)",
        "filter": metadata.get(FILTER, "classic"),
        "generator": str(document.entry("asset").get("generator", "")),
        "metadata": metadata,
    }


@dataclasses.dataclass(frozen=True)
class _Splats:
    """One primitive with splats: its attributes, or an SPZ blob (buffer, offset, bytes); where its node puts it."""

    count: int
    sh_degree: int | None
    accessors: dict[str, Accessor]
    blob: tuple[int, int, int] | None
    matrix: np.ndarray

    def read(self, document: Document, invalid: str, progress, should_stop) -> Gaussians:
        where = document.where
        if self.blob is not None:
            data = document.read(*self.blob)
            return read_spz_stream(
                io.BytesIO(data), len(data), f"{where}: SPZ", "opencv", invalid, progress, should_stop
            )
        table = RowTable(self.count, self.sh_degree, document.size, where)
        coefficients = list(coefficient_names(self.sh_degree))
        for start, stop in ranges(self.count, _PIECE_ROWS):
            check_stop(should_stop)
            rows = table.part(start, stop)

            def values(name: str, start=start, stop=stop) -> np.ndarray:
                return document.values(self.accessors[name], start, stop)

            rows.means[...] = values("POSITION")
            rows.quats[...] = unit_quats(np.roll(values(f"{EXTENSION}:ROTATION"), 1, axis=1))
            rows.scales[...] = np.abs(values(f"{EXTENSION}:SCALE"))
            rows.opacities[...] = np.clip(values(f"{EXTENSION}:OPACITY")[:, 0], 0, 1)
            for number, name in enumerate(coefficients):
                rows.sh[:, number] = values(name)
            table.mark(*rows)
            progress(stop, self.count)
        return table.gaussians({}, None, invalid)


def _splats(document: Document) -> list[_Splats]:
    """All primitives with splats, in the order of the nodes.

    Raises:
        FlashWorldError: none, or attributes that do not fit one another.
    """
    found = []
    for mesh, matrix in document.placed_meshes():
        for primitive in document.list_of(document.item("meshes", mesh), "primitives"):
            extensions = primitive.get("extensions") if isinstance(primitive, dict) else None
            if isinstance(extensions, dict) and {EXTENSION, *_SPZ_DRAFTS} & extensions.keys():
                found.append(_primitive(document, primitive, extensions, matrix))
    if not found:
        raise FlashWorldError(f"{document.where}: holds no Gaussian splats ({EXTENSION}); a mesh is none.")
    check_expansion(sum(100 * part.count for part in found), document.size, document.where)
    return found


def _primitive(document: Document, primitive: dict, extensions: dict, matrix: np.ndarray) -> _Splats:
    splat = extensions.get(EXTENSION)
    inner = splat.get("extensions") if isinstance(splat, dict) else None
    for draft in _SPZ_DRAFTS:
        for holder in (inner, extensions):
            if isinstance(holder, dict) and isinstance(holder.get(draft), dict):
                view = document.view(holder[draft].get("bufferView"))
                count = spz_header(io.BytesIO(document.read(*view[:3])), view[2], f"{document.where}: SPZ").count
                return _Splats(count, None, {}, view[:3], matrix)
    if isinstance(splat, dict) and splat.get("colorSpace") == "lin_rec709_display":
        log.warning("%s: its colors are linear and are read as they are, so they will look too dark.", document.where)
    attributes = primitive.get("attributes")
    if not isinstance(attributes, dict):
        raise FlashWorldError(f"{document.where}: a primitive with splats has no attributes.")
    degree = -1
    for band in range(len(SH_COEFFICIENTS)):
        names = list(coefficient_names(band))[band * band :]
        if not all(name in attributes for name in names):
            if any(name in attributes for name in names):
                log.warning("%s: SH degree %d is not complete and is left out.", document.where, band)
            break
        degree = band
    wanted = {"POSITION": 3, f"{EXTENSION}:ROTATION": 4, f"{EXTENSION}:SCALE": 3, f"{EXTENSION}:OPACITY": 1}
    wanted |= dict.fromkeys(coefficient_names(max(degree, 0)), 3)
    missing = next((name for name in wanted if name not in attributes), None)
    if missing is not None:
        raise FlashWorldError(f"{document.where}: a primitive with splats has no attribute {missing}.")
    accessors = {name: document.accessor(attributes[name], width, name) for name, width in wanted.items()}
    counts = {accessor.count for accessor in accessors.values()}
    if len(counts) > 1:
        raise FlashWorldError(f"{document.where}: the attributes of one primitive have {sorted(counts)[:4]} rows.")
    return _Splats(counts.pop(), degree, accessors, None, matrix)


def _metadata(document: Document) -> dict:
    """What this package wrote into ``asset.extras``."""
    extras = document.entry("asset").get("extras")
    own = extras.get("flashworld") if isinstance(extras, dict) else None
    return dict(own) if isinstance(own, dict) else {}


def _moved(scene: Gaussians, matrix: np.ndarray, where: str) -> Gaussians:
    """The scene where its node puts it."""
    if np.array_equal(matrix, np.eye(4)):
        return scene
    try:
        return transform(scene, **similarity_from_matrix(torch.from_numpy(matrix)))
    except FlashWorldError:
        raise FlashWorldError(
            f"{where}: a node mirrors, shears or scales axes differently, which Gaussians cannot follow."
        ) from None


def _joined(scenes: list[Gaussians], metadata: dict) -> Gaussians:
    if len(scenes) == 1:
        return dataclasses.replace(scenes[0], metadata={**scenes[0].metadata, **metadata})
    degree = max(scene.sh_degree for scene in scenes)
    fields = [torch.cat([getattr(s, name) for s in scenes]) for name in ("means", "quats", "scales", "opacities")]
    return Gaussians(*fields, torch.cat([with_sh_degree(s.sh, degree) for s in scenes]), metadata)
