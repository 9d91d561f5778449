"""ComfyUI's node API from 0.3.60 to today's: what an older host lacks is left out or stood in for.

The stand-ins for ComfyUI before 0.4 stay until 2027-06 (CHANGELOG.md). Everything the nodes use of ``comfy_api`` comes
from here, and what `sockets` asks of the memory manager.
"""

from __future__ import annotations

import inspect
import io as streams
import shutil
from pathlib import Path
from typing import Any

import comfy.model_management as management
import comfy_api.latest as host
import torch
from comfy_api.latest import Types, io

Extension = host.ComfyExtension
ComfyNode, Hidden, NodeOutput = io.ComfyNode, io.Hidden, io.NodeOutput

Splat = getattr(io, "Splat", None) or io.Custom("SPLAT")
SplatFile = getattr(io, "File3DSplatAny", None) or io.Custom("FILE_3D_SPLAT_ANY")
Camera = getattr(io, "Load3DCamera", None) or io.Custom("LOAD3D_CAMERA")
WanCameraEmbedding = getattr(io, "WanCameraEmbedding", None) or io.Custom("WAN_CAMERA_EMBEDDING")
Mesh = getattr(io, "Mesh", None) or io.Custom("MESH")
MeshFile = getattr(io, "File3DGLB", None) or io.Custom("FILE_3D_GLB")
Model = io.Custom("FLASHWORLD_MODEL")
Field = io.Custom("FIELD")
Trajectory = io.Custom("FLASHWORLD_TRAJECTORY")

MAX_GROWN = 8  # sockets of a growing input on hosts that cannot grow one


def schema(**fields) -> io.Schema:
    """``io.Schema`` without the fields this host does not know (search_aliases and the like).

    An output called like an input gets an id of its own, which hosts up to 0.3 insist on; its display name stays.
    """
    taken = {thing.id for thing in fields.get("inputs", ())}
    for thing in fields.get("outputs", ()):
        if thing.id in taken:
            thing.id += "_out"
    return io.Schema(**_known(io.Schema, fields))


def input(kind: type, id: str, **options) -> io.Input:
    """``kind.Input`` without the options this host does not know (advanced and the like)."""
    return kind.Input(id, **_known(kind.Input.__init__, options))


def output(kind: type, id: str, display_name: str | None = None, tooltip: str | None = None) -> io.Output:
    """``kind.Output``."""
    return kind.Output(id, display_name=display_name or id, tooltip=tooltip)


def grow(kind: type, id: str, prefix: str, tooltip: str, maximum: int = 50) -> list[io.Input]:
    """Any number of optional inputs: one that grows, or on older hosts `MAX_GROWN` optional sockets."""
    autogrow = getattr(io, "Autogrow", None)
    if autogrow is None:
        return [input(kind, f"{prefix}{i}", optional=True, tooltip=tooltip) for i in range(MAX_GROWN)]
    template = autogrow.TemplatePrefix(input(kind, prefix, optional=True, tooltip=tooltip), prefix, 0, maximum)
    return [autogrow.Input(id, template, optional=True, tooltip=tooltip)]


def grown(values: dict[str, Any], id: str, prefix: str) -> list[Any]:
    """The values of a growing input in the order of its sockets, whichever form it has (see `grow`).

    Args:
        values: ``execute``'s keyword arguments that are not inputs of their own.
    """
    sockets = values.get(id) or values
    numbers = {name: name.removeprefix(prefix) for name, value in sockets.items() if value is not None}
    numbered = [(int(n), sockets[name]) for name, n in numbers.items() if n != name and n.isdecimal()]
    return [value for _, value in sorted(numbered, key=lambda pair: pair[0])]


def moved(message: str) -> Any:
    """The value of an output that another node gives now: who uses it is told so, in place of running."""
    from comfy_execution.graph_utils import ExecutionBlocker

    return ExecutionBlocker(message)


def intermediate_device() -> torch.device:
    """Where ComfyUI keeps what travels between nodes."""
    return management.intermediate_device()


def intermediate_dtype() -> torch.dtype:
    """The precision ComfyUI keeps images in: float32 on versions that do not say."""
    return getattr(management, "intermediate_dtype", lambda: torch.float32)()


def _known(callable_, options: dict) -> dict:
    parameters = inspect.signature(callable_).parameters
    return {name: value for name, value in options.items() if name in parameters}


class _PlainSplat:
    """What ``Types.SPLAT`` is, for hosts before it."""

    def __init__(self, positions, scales, rotations, opacities, sh, counts=None):
        self.positions, self.scales, self.rotations = positions, scales, rotations
        self.opacities, self.sh, self.counts = opacities, sh, counts


class SPLAT(getattr(Types, "SPLAT", _PlainSplat)):
    """ComfyUI's SPLAT value with what our scenes know about themselves.

    Attributes:
        metadata: `Gaussians.metadata`; other packs' nodes make values without it.
    """

    metadata: dict = {}

    def _comfy_cache_tensors(self) -> list:
        """The tensors newer hosts count when their cache is short of memory."""
        return [t for t in (self.positions, self.scales, self.rotations, self.opacities, self.sh) if t is not None]


class _PlainMesh:
    """What ``Types.MESH`` is, for hosts before it."""

    def __init__(self, vertices, faces, uvs=None, vertex_colors=None, texture=None, unlit=False, **_):
        self.vertices, self.faces, self.uvs = vertices, faces, uvs
        self.vertex_colors, self.texture, self.unlit = vertex_colors, texture, unlit
        self.vertex_counts = self.face_counts = None


MESH = getattr(Types, "MESH", _PlainMesh)


def mesh(vertices: torch.Tensor, faces: torch.Tensor, colors: torch.Tensor) -> Any:
    """A MESH of one, without the fields this host does not know.

    Args:
        vertices: [N, 3], y up.
        faces: [M, 3].
        colors: [N, 3] in linear light, shown as they are.
    """
    options = _known(MESH.__init__, {"vertex_colors": colors[None], "unlit": True})
    return MESH(vertices[None], faces[None], **options)


class _PlainFile3D:
    """What ``Types.File3D`` is for a file on disk, for hosts before it."""

    def __init__(self, source: str, file_format: str = ""):
        self._source, self.format = source, file_format or Path(source).suffix.lstrip(".").lower()

    is_disk_backed = True

    def get_source(self) -> str:
        return self._source

    def get_bytes(self) -> bytes:
        return Path(self._source).read_bytes()

    def get_data(self) -> streams.BytesIO:
        return streams.BytesIO(self.get_bytes())

    def save_to(self, path: str) -> str:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(self._source, path)
        return str(path)


File3D = getattr(Types, "File3D", _PlainFile3D)
