"""Mesh files (GLB, OBJ, PLY) with vertex colors, written through trimesh."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import torch

from ..errors import FlashWorldError
from ..meshes import Mesh
from .files import atomic_writer, check_writable

FORMATS = ("glb", "obj", "ply")
MISSING = "Mesh files need the package trimesh: pip install trimesh."


def missing_for_meshes() -> str | None:
    """Say what has to be installed before fields become mesh files; None: nothing."""
    names = [name for name, module in (("scikit-image", "skimage"), ("trimesh", "trimesh")) if not find_spec(module)]
    return f"Mesh files need {' and '.join(names)}: pip install {' '.join(names)}." if names else None


def write_mesh(path: str | os.PathLike, mesh: Mesh) -> Path:
    """Write a mesh; its name's ending is the format.

    All three formats get y pointing up (glTF's axes), as programs expect of meshes, and 8-bit vertex colors: sRGB,
    linear light in GLB.

    Args:
        path: ends in .glb, .obj or .ply.
        mesh: what to write.

    Returns:
        The path.

    Raises:
        FlashWorldError: another ending, an empty mesh, trimesh is missing, or a place that cannot be written to.
    """
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise FlashWorldError(f"{path.name}: meshes are written as {', '.join('.' + name for name in FORMATS)}.")
    if not len(mesh.faces):
        raise FlashWorldError("The mesh is empty: it has no triangles.")
    check_writable(path)
    content = mesh_bytes(mesh, kind)
    with atomic_writer(path) as stream:
        stream.write(content)
    return path


def mesh_bytes(mesh: Mesh, kind: str) -> bytes:
    """The content of a mesh file of a format of `FORMATS`.

    Raises:
        FlashWorldError: trimesh is missing.
    """
    try:
        from trimesh import Trimesh
        from trimesh.visual import ColorVisuals
    except ImportError:
        raise FlashWorldError(MISSING) from None
    turned = mesh.y_up()
    colors = turned.linear_colors() if kind == "glb" else turned.colors.clamp(0, 1)
    colors = (colors * 255).round().to(torch.uint8)
    alpha = torch.full((len(colors), 1), 255, dtype=torch.uint8)
    surface = Trimesh(turned.vertices.numpy(), turned.faces.numpy(), process=False)
    surface.visual = ColorVisuals(surface, vertex_colors=torch.cat([colors, alpha], dim=1).numpy())
    content = surface.export(file_type=kind)
    return content.encode() if isinstance(content, str) else content
