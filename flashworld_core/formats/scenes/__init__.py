"""Scene files: one format, one module, one entry in `FORMATS`. What a file is, its content tells, not its name."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import FlashWorldError
from ...text import get_logger

if TYPE_CHECKING:
    from ...gaussians import Gaussians
    from .row_store import Limit

logger = get_logger(__name__)

_HEAD_BYTES = 1 << 16  # looked at to tell what a file is


@dataclasses.dataclass(frozen=True)
class SceneFormat:
    """Where the functions of a format are ("module:function"), and what its files are called.

    Attributes:
        title: what people call it.
        extensions: with the dot; the first is the one written.
        recognizes: ``recognizes(head) -> bool`` for the first bytes of a file; None: told by extension alone.
        read: ``read(path, *, frame, invalid, progress, should_stop) -> Gaussians``; None: cannot be read.
        write: ``write(path, gaussians, *, progress, should_stop, <options>)``; None: cannot be written.
        info: ``info(path) -> dict`` of JSON values; None: cannot be read.
        options: further keyword arguments of ``write``.
        plain: files hold Gaussians and nothing about them.
    """

    title: str
    extensions: tuple[str, ...]
    recognizes: str | None
    read: str | None
    write: str | None
    info: str | None
    options: tuple[str, ...] = ()
    plain: bool = False


# In the order of detection: the surest signs first, .splat, which has none, last.
FORMATS = {
    "compressed_ply": SceneFormat(
        "compressed PLY (SuperSplat)",
        (".compressed.ply",),
        ".compressed_ply:recognizes_compressed_ply",
        ".compressed_ply:read_compressed_ply",
        ".compressed_ply:write_compressed_ply",
        ".compressed_ply:compressed_ply_info",
        ("sh_degree", "axes"),
    ),
    "ply": SceneFormat(
        "PLY",
        (".ply",),
        ".ply:recognizes_ply",
        ".ply:read_ply",
        ".ply:write_ply",
        ".ply:ply_info",
        ("sh_degree", "axes", "normals"),
    ),
    "spz": SceneFormat(
        "SPZ",
        (".spz",),
        ".spz:recognizes_spz",
        ".spz:read_spz",
        ".spz:write_spz",
        ".spz:spz_info",
        ("sh_degree", "axes", "quality", "version"),
    ),
    "sog": SceneFormat(
        "SOG",
        (".sog", ".zip"),
        ".sog_read:recognizes_sog",
        ".sog_read:read_sog",
        ".sog:write_sog",
        ".sog_read:sog_info",
        ("sh_degree", "axes", "quality", "seed"),
    ),
    "gltf": SceneFormat(
        "glTF",
        (".glb", ".gltf"),
        ".gltf:recognizes_gltf",
        ".gltf_read:read_gltf",
        ".gltf:write_gltf",
        ".gltf_read:gltf_info",
        ("sh_degree",),
    ),
    "ksplat": SceneFormat(
        ".ksplat",
        (".ksplat",),
        ".ksplat_read:recognizes_ksplat",
        ".ksplat_read:read_ksplat",
        ".ksplat:write_ksplat",
        ".ksplat_read:ksplat_info",
        ("sh_degree", "axes", "level"),
        plain=True,
    ),
    "splat": SceneFormat(
        ".splat",
        (".splat",),
        None,
        ".splat:read_splat",
        ".splat:write_splat",
        ".splat:splat_info",
        ("axes",),
        plain=True,
    ),
    "html": SceneFormat(
        "web page",
        (".html",),
        None,
        None,
        ".html:write_html",
        None,
        ("cameras", "title", "budget", "sh_degree"),
    ),
}


def supported_extensions() -> tuple[str, ...]:
    """Extensions of scene files, lower case with the dot."""
    return tuple(sorted(extension for known in FORMATS.values() if known.read for extension in known.extensions))


def writable_formats() -> tuple[str, ...]:
    """Names in `FORMATS` that `write_scene` takes, the master format first."""
    return ("ply", *(name for name, known in FORMATS.items() if known.write and name != "ply"))


def detect_scene(path: str | os.PathLike) -> str | None:
    """The name in `FORMATS` of a scene file or folder, None if it is none.

    Raises:
        FlashWorldError: a file that cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return "sog" if (path / "meta.json").is_file() else None
    if path.exists() and not path.is_file():
        raise FlashWorldError(f"{path.name} is a device or pipe, not an ordinary file.")
    try:
        with open(path, "rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        raise FlashWorldError(f"{path.name}: cannot be read: {error.strerror or error}.") from error
    for name, known in FORMATS.items():
        if known.recognizes is not None and _function(known.recognizes)(head):
            return name
    if path.suffix.lower() == ".splat":  # rows and nothing else: only the name tells
        return "splat"
    return None


def read_scene(path: str | os.PathLike, *, limit: Limit | None = None, **options) -> Gaussians:
    """Read a scene of any format; ``options`` go to the format's reader: frame, invalid, progress, should_stop.

    Args:
        limit: what is to stay of the scene. From a PLY nothing else is kept in memory at any time; other formats are
            unpacked first.

    Raises:
        FlashWorldError: no scene file, or what the reader raises.
    """
    name = _known(path)
    if limit is not None and name == "ply":
        return _function(FORMATS[name].read)(path, limit=limit, **options)
    scene = _function(FORMATS[name].read)(path, **options)
    return scene if limit is None else limit.of(scene)


def scene_info(path: str | os.PathLike) -> dict:
    """What a scene file says about itself without reading its rows: JSON values, among them ``format``, ``bytes``,
    ``gaussians``, ``sh_degree`` and ``metadata``.

    Raises:
        FlashWorldError: no scene file, or a damaged one.
    """
    return _function(FORMATS[_known(path)].info)(path)


def write_scene(
    path: str | os.PathLike,
    gaussians: Gaussians,
    format: str | None = None,
    notify: Callable[[str], None] = logger.warning,
    **options,
) -> None:
    """Write a scene; ``options`` go to the format's writer: progress, should_stop, and what `FORMATS` lists.

    Args:
        path: the file.
        gaussians: the scene.
        format: name in `FORMATS`; None: by the extension of ``path``.
        notify: told, in a sentence, if what changes the picture is lost.

    Raises:
        FlashWorldError: an unknown format or extension, an option the format does not have, or what the writer raises.
    """
    from ...gaussians import FILTER  # here: help texts need this table, and not torch

    known = FORMATS[check_format(format) if format is not None else format_of_name(path)]
    for name in options:
        if name not in (*known.options, "progress", "should_stop"):
            has = ", ".join(known.options) or "none"
            raise FlashWorldError(f"{known.title} files have no option {name!r}; they have: {has}.")
    if known.plain and gaussians.metadata.get(FILTER) == "antialiased":
        notify(
            f"{known.title} files cannot say that a scene was made with an antialiased filter: viewers will show "
            "small Gaussians too bright. PLY, SPZ, SOG and glTF say it."
        )
    _function(known.write)(path, gaussians, **options)


def check_format(name: str) -> str:
    """The name itself.

    Raises:
        FlashWorldError: none of a format that can be written.
    """
    if name not in writable_formats():
        raise FlashWorldError(f"there is no format {name!r}; choose one of: {', '.join(writable_formats())}.")
    return name


def format_of_name(path: str | os.PathLike) -> str:
    """The format a file of this name is to be written in; the longest extension that fits counts.

    Raises:
        FlashWorldError: an unknown extension.
    """
    name = Path(path).name.lower()
    fitting = [
        (len(e), key) for key, known in FORMATS.items() if known.write for e in known.extensions if name.endswith(e)
    ]
    if not fitting:
        extension = Path(path).suffix
        raise FlashWorldError(
            f"{Path(path).name!r} has {f'the extension {extension!r}' if extension else 'no extension'}; "
            f"scene files can be: {', '.join(supported_extensions())}."
        )
    return max(fitting)[1]


def _known(path: str | os.PathLike) -> str:
    name = detect_scene(path)
    if name is None or FORMATS[name].read is None:
        titles = ", ".join(known.title for known in FORMATS.values() if known.read)
        raise FlashWorldError(f"{Path(path).name}: is no scene file; what can be read: {titles}.")
    return name


def _function(place: str):
    module, _, name = place.partition(":")
    return getattr(import_module(module, __name__), name)
