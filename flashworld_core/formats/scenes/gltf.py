"""Gaussian scenes as glTF (KHR_gaussian_splatting): all numbers in full precision, for engines and viewers of glTF.

A mesh primitive of points: POSITION, and attributes of the extension's name for rotation (xyzw), scale (linear),
opacity and each coefficient of the spherical harmonics. COLOR_0, linear, is what viewers without the extension show.
glTF's world is x right, y up, z backward: the writer turns ours by half a turn around x, `gltf_read` turns back.

Metadata travel in ``asset.extras``. What a file cannot hold: nothing of a scene; the antialiased filter is told in
``asset.extras`` too, in our own words.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import FlashWorldError, check_stop
from ...gaussians import SH_COEFFICIENTS, Gaussians
from ...sh import C0
from ..files import atomic_writer
from .rows import check_field, ordered_map, quat_signs, ranges, sh_signs, take, take_sh, unit_quats, written_degree

EXTENSION = "KHR_gaussian_splatting"
GLB_MAGIC, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942
Y_UP = (1.0, -1.0, -1.0)  # signs of x, y, z between glTF's world and ours
_FLOAT, _BYTE = 5126, 5121
_MOST_BYTES = (1 << 32) - 1
_PIECE_ROWS = 1 << 16


def write_gltf(
    path: str | os.PathLike,
    gaussians: Gaussians,
    *,
    sh_degree: int | None = None,
    progress=None,
    should_stop=None,
) -> None:
    """Write a binary glTF (.glb), float32.

    Args:
        path: the file; replaced only when the new one is complete.
        gaussians: at least one; any float dtype, any device.
        sh_degree: cut or fill the color coefficients to this degree; None keeps the scene's own.
        progress: called as ``progress(done, total)`` in Gaussians.
        should_stop: asked before each piece; True leaves nothing behind.

    Raises:
        FlashWorldError: an empty scene, more than 4 GiB, a number that is not finite, metadata that is no JSON, or a
            file that cannot be written.
        Cancelled: ``should_stop`` answered True.
    """
    where, total = Path(path).name, len(gaussians)
    degree = written_degree(gaussians, sh_degree)
    if not total:
        raise FlashWorldError(f"{where}: a glTF accessor cannot be empty, so an empty scene cannot be written.")
    attributes = _attributes(degree)
    text = _document(gaussians, attributes, where)
    sizes = [size * total for _, size, _ in attributes]
    body = sum(sizes)
    whole = 12 + 8 + len(text) + 8 + body
    if whole > _MOST_BYTES:
        raise FlashWorldError(
            f"{where}: {total:,} Gaussians of degree {degree} take {whole / 2**30:.1f} GiB, a .glb holds 4; "
            f"write fewer, or a lower SH degree."
        )
    pieces = [(name, start, stop) for name, _, _ in attributes for start, stop in ranges(total, _PIECE_ROWS)]
    done, bytes_of = 0, {name: size for name, size, _ in attributes}

    def pack(piece: tuple[str, int, int]) -> np.ndarray:
        return _pack(gaussians, *piece, degree, where)

    with atomic_writer(path) as stream:
        stream.write(struct.pack("<III", GLB_MAGIC, 2, whole))
        stream.write(struct.pack("<II", len(text), JSON_CHUNK) + text)
        stream.write(struct.pack("<II", body, BINARY_CHUNK))
        for (name, start, stop), packed in zip(pieces, ordered_map(pack, pieces, should_stop), strict=True):
            stream.write(memoryview(packed).cast("B"))
            done += (stop - start) * bytes_of[name]
            if progress is not None:
                progress(total * done // body, total)
        check_stop(should_stop)


def recognizes_gltf(head: bytes) -> bool:
    """Whether the first kilobytes of a file are a .glb, or a .gltf that names an asset."""
    if head[:4] == struct.pack("<I", GLB_MAGIC):
        return True
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and b'"asset"' in head and b'"version"' in head


def coefficient_names(degree: int) -> Iterator[str]:
    """Attribute names of coefficients k = 0, 1, ... up to a degree."""
    for band in range(degree + 1):
        for number in range(2 * band + 1):
            yield f"{EXTENSION}:SH_DEGREE_{band}_COEF_{number}"


def _attributes(degree: int) -> list[tuple[str, int, str]]:
    """(name, bytes a Gaussian, accessor type) in file order."""
    geometry = [("POSITION", 12, "VEC3"), (f"{EXTENSION}:ROTATION", 16, "VEC4"), (f"{EXTENSION}:SCALE", 12, "VEC3")]
    rest = [(name, 12, "VEC3") for name in coefficient_names(degree)]
    return [*geometry, (f"{EXTENSION}:OPACITY", 4, "SCALAR"), *rest, ("COLOR_0", 4, "VEC4")]


def _document(gaussians: Gaussians, attributes: list[tuple[str, int, str]], where: str) -> bytes:
    """The JSON chunk, padded."""
    total, offset, views, accessors = len(gaussians), 0, [], []
    low, high = np.full(3, np.inf, np.float32), np.full(3, -np.inf, np.float32)
    for start, stop in ranges(total, _PIECE_ROWS):
        means = take(gaussians, "means", slice(start, stop))
        check_field("means", means, start, where)
        means = means * np.array(Y_UP, np.float32)
        low, high = np.minimum(low, means.min(axis=0)), np.maximum(high, means.max(axis=0))
    for number, (name, size, kind) in enumerate(attributes):
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": size * total, "target": 34962})
        color = name == "COLOR_0"
        accessor = {"bufferView": number, "componentType": _BYTE if color else _FLOAT, "count": total, "type": kind}
        if color:
            accessor["normalized"] = True
        if name == "POSITION":
            accessor |= {"min": [float(v) for v in low], "max": [float(v) for v in high]}
        accessors.append(accessor)
        offset += size * total
    primitive = {
        "mode": 0,
        "attributes": {name: number for number, (name, _, _) in enumerate(attributes)},
        "extensions": {EXTENSION: {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}},
    }
    document = {
        "asset": {"version": "2.0", "generator": "ComfyUI-FlashWorld", "extras": {"flashworld": gaussians.metadata}},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "scene"}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": offset}],
    }
    try:
        text = json.dumps(document, allow_nan=False, separators=(",", ":"), default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise FlashWorldError(f"{where}: the metadata cannot be written as JSON ({error}).") from None
    return text + b" " * (-len(text) % 4)


def _pack(gaussians: Gaussians, name: str, start: int, stop: int, degree: int, where: str) -> np.ndarray:
    """One attribute of rows start..stop as the file holds it."""
    rows = slice(start, stop)
    if name == "POSITION":
        return take(gaussians, "means", rows) * np.array(Y_UP, np.float32)
    if name == "COLOR_0":
        return _point_colors(take_sh(gaussians, rows, 0)[:, 0], take(gaussians, "opacities", rows))
    if name.endswith(":ROTATION"):
        quats = take(gaussians, "quats", rows)
        check_field("quats", quats, start, where)
        return np.roll(unit_quats(quats) * quat_signs(Y_UP), -1, axis=1)  # xyzw
    if name.endswith((":SCALE", ":OPACITY")):
        field = "scales" if name.endswith(":SCALE") else "opacities"
        values = take(gaussians, field, rows)
        check_field(field, values, start, where)
        return np.ascontiguousarray(values)
    number = list(coefficient_names(degree)).index(name)
    sh = take(gaussians, "sh", rows)
    values = sh[:, number] if number < sh.shape[1] else np.zeros((len(sh), 3), np.float32)
    check_field("sh", values, start, where)
    return values * sh_signs(Y_UP, SH_COEFFICIENTS[3])[number]


def _point_colors(dc: np.ndarray, opacities: np.ndarray) -> np.ndarray:
    """[n, 4] uint8: linear red, green, blue and opacity."""
    display = np.clip(dc * np.float32(C0) + np.float32(0.5), 0, 1)
    linear = np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)
    return (np.concatenate([linear, opacities[:, None]], axis=1) * 255 + 0.5).astype(np.uint8)


def _plain(value):
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON value")
