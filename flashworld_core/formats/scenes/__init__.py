"""Scene files by their extension: one format, one module, looked up on first use."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

from ...errors import FlashWorldError
from ...gaussians import Gaussians

# extension: (module, reader, writer, info)
_FORMATS = {".ply": (".ply", "read_ply", "write_ply", "ply_info")}


def supported_extensions() -> tuple[str, ...]:
    """Extensions `read_scene` and `write_scene` know, lower case with the dot."""
    return tuple(sorted(_FORMATS))


def read_scene(path: str | os.PathLike, **options) -> Gaussians:
    """Read a scene; ``options`` go to the format's reader (for .ply `ply.read_ply`).

    Raises:
        FlashWorldError: an unknown extension, or what the reader raises.
    """
    return _function("read_scene", path, 1)(path, **options)


def write_scene(path: str | os.PathLike, gaussians: Gaussians, **options) -> None:
    """Write a scene; ``options`` go to the format's writer (for .ply `ply.write_ply`).

    Raises:
        FlashWorldError: an unknown extension, or what the writer raises.
    """
    _function("write_scene", path, 2)(path, gaussians, **options)


def scene_info(path: str | os.PathLike) -> dict:
    """What a scene file says about itself without reading its rows (for .ply `ply.ply_info`).

    Raises:
        FlashWorldError: an unknown extension, or a file that is not what its extension says.
    """
    return _function("scene_info", path, 3)(path)


def _function(caller: str, path: str | os.PathLike, which: int):
    extension = Path(path).suffix.lower()
    if extension not in _FORMATS:
        known = ", ".join(supported_extensions())
        raise FlashWorldError(
            f"{caller}: {Path(path).name!r} has {f'the extension {extension!r}' if extension else 'no extension'}; "
            f"scene files can be: {known}."
        )
    entry = _FORMATS[extension]
    return getattr(import_module(entry[0], __name__), entry[which])
