"""Camera paths on disk. One file per format; which one a file is in is told by its content, not by its name.

| format | is | can hold |
|---|---|---|
| ``flashworld`` | FlashWorld's request JSON | everything |
| ``nerfstudio`` | ``transforms.json`` | everything |
| ``colmap`` | folder with ``images.txt`` and ``cameras.txt`` | everything |
| ``realestate10k`` | RealEstate10K / CameraCtrl text | no image size, except in a remark of ours |

Frames, axes and units of each are stated in CONVENTIONS.md.
"""

from __future__ import annotations

import os
from pathlib import Path

from ...cameras import Cameras
from ...errors import FlashWorldError
from . import colmap, nerfstudio, realestate10k
from . import flashworld_json as flashworld_request
from .flashworld_json import FlashWorldRequest
from .parse import check_writable, parse_json, read_text

__all__ = ["FORMATS", "FlashWorldRequest", "detect_format", "read_cameras", "write_cameras"]

FORMATS = {
    "flashworld": flashworld_request,
    "nerfstudio": nerfstudio,
    "colmap": colmap,
    "realestate10k": realestate10k,
}


def detect_format(path: str | os.PathLike) -> str:
    """The key of `FORMATS` for a file or folder, by its content.

    Raises:
        FlashWorldError: it is none of them, or cannot be read.
    """
    return _load(Path(path))[0]


def read_cameras(
    path: str | os.PathLike,
    width: int | None = None,
    height: int | None = None,
    root: str | os.PathLike | None = None,
) -> Cameras:
    """The camera path in a file of any known format.

    Args:
        path: a file, or the folder of a COLMAP model.
        width, height: image size in pixels, used only where the file does not say (RealEstate10K; a ``transforms.json``
            or request without sizes). A file's own size is kept; change it with `Cameras.resized`.
        root: a folder; a request's picture that does not lie in it is not opened. Give one for files of strangers.

    Returns:
        `Cameras`, float32 on the CPU, in the world of CONVENTIONS.md (y down). A request that brings a picture gives
        cameras in that picture's pixels and size.

    Raises:
        FlashWorldError: unknown, damaged or hostile content; the message names the file and the line or key.
    """
    path = Path(path)
    kind, content = _load(path)
    if kind == "colmap":
        return colmap.read(path)
    if kind == "realestate10k":
        return realestate10k.parse(content, str(path), width, height)
    if kind == "nerfstudio":
        return nerfstudio.parse(content, str(path), width, height)
    return flashworld_request.parse(
        content, str(path), width, height, path.parent, None if root is None else Path(root)
    )


def write_cameras(path: str | os.PathLike, cameras: Cameras, format: str | None = None) -> None:
    """Write a camera path. Files appear complete or not at all; an existing file stays until then.

    Args:
        path: the file, or the folder for a COLMAP model. Missing folders are made.
        cameras: at least one view, without skew.
        format: a key of `FORMATS`. Default, by name: ``transforms*.json`` nerfstudio, other ``.json`` FlashWorld
            request, ``images.txt``, ``cameras.txt`` or no extension COLMAP, other ``.txt`` RealEstate10K.

    Raises:
        FlashWorldError: unknown format, cameras it cannot hold, or a place that cannot be written to.
    """
    path = Path(path)
    if format is None:
        format = _format_by_name(path)
    if format not in FORMATS:
        raise FlashWorldError(f"write_cameras: unknown format {format!r}; choose one of {', '.join(FORMATS)}.")
    check_writable(cameras)
    FORMATS[format].write(path, cameras.to("cpu"))


def _format_by_name(path: Path) -> str:
    name = path.name.lower()
    if path.is_dir() or path.suffix == "" or name in ("images.txt", "cameras.txt"):
        return "colmap"
    if path.suffix.lower() == ".json":
        return "nerfstudio" if name.startswith("transforms") else "flashworld"
    if path.suffix.lower() == ".txt":
        return "realestate10k"
    raise FlashWorldError(
        f"write_cameras: no format goes by the name {path.name}; use .json, .txt or a folder, or pass format "
        f"({', '.join(FORMATS)})."
    )


def _load(path: Path) -> tuple[str, dict | str | None]:
    """A file's format and what reading it to find out gave: JSON object, text, or None for a COLMAP folder."""
    if not path.exists():
        raise FlashWorldError(f"read_cameras: no such file or folder: {path}")
    if path.is_dir() or path.name in ("images.txt", "cameras.txt"):
        return "colmap", None
    text = read_text(path)
    if text.lstrip()[:1] in ("{", "["):
        data = parse_json(text, str(path))
        for key, kind in (("frames", "nerfstudio"), ("cameras", "flashworld")):
            if key in data:
                return kind, data
        keys = ", ".join(sorted(map(str, data))[:8])[:200] or "none"
        raise FlashWorldError(
            f"read_cameras: {path} is neither a FlashWorld request (key cameras) nor a transforms.json (key frames); "
            f"its keys: {keys}."
        )
    if realestate10k.recognizes(text):
        return "realestate10k", text
    raise FlashWorldError(
        f"read_cameras: {path} is no camera path this program knows: FlashWorld request JSON, nerfstudio "
        "transforms.json, RealEstate10K / CameraCtrl text (19 numbers a line), or COLMAP's images.txt with cameras.txt."
    )
