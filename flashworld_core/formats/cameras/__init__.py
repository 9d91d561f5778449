"""Camera paths on disk. One file per format; which one a file is in is told by its content, not by its name.

| format | is | can hold |
|---|---|---|
| ``flashworld`` | FlashWorld's request JSON | everything |
| ``nerfstudio`` | ``transforms.json`` | everything |
| ``nerfstudio_path`` | ``camera_path.json`` of its viewer; read only | one lens angle a view, no principal point |
| ``inria`` | ``cameras.json`` of the 3DGS trainer | everything |
| ``colmap`` | folder with ``images`` and ``cameras``, text or binary | everything |
| ``realestate10k`` | RealEstate10K / CameraCtrl text | no image size, except in a remark of ours |

Frames, axes and units of each are stated in CONVENTIONS.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ...cameras import Cameras
from ...errors import FlashWorldError
from ...text import get_logger
from . import colmap, inria, nerfstudio, nerfstudio_path, realestate10k
from . import flashworld_json as flashworld_request
from .flashworld_json import FlashWorldRequest
from .parse import check_writable, parse_json, read_text
from .views import to_cameras

__all__ = ["FORMATS", "FlashWorldRequest", "detect_format", "is_camera_folder", "read_cameras", "write_cameras"]

logger = get_logger(__name__)

FORMATS = {
    "flashworld": flashworld_request,
    "nerfstudio": nerfstudio,
    "inria": inria,
    "colmap": colmap,
    "realestate10k": realestate10k,
}
_IN_FOLDERS = ("transforms.json", "transforms_train.json")  # of datasets without a COLMAP model


def detect_format(path: str | os.PathLike) -> str:
    """Return the key of `FORMATS` for a file or folder, or "nerfstudio_path", by its content.

    Raises:
        FlashWorldError: it is none of them, or cannot be read.
    """
    return _load(Path(path))[0]


def is_camera_folder(path: str | os.PathLike) -> bool:
    """Whether ``path`` is a folder that `read_cameras` finds cameras in."""
    path = Path(path)
    return path.is_dir() and (colmap.find_model(path) is not None or _dataset_file(path) is not None)


def read_cameras(
    path: str | os.PathLike,
    width: int | None = None,
    height: int | None = None,
    root: str | os.PathLike | None = None,
    *,
    view_size: tuple[int, int] | None = None,
    fit_mixed: bool = True,
    up: str | None = None,
    dataparser: str | os.PathLike | None = None,
    notify: Callable[[str], None] | None = None,
) -> Cameras:
    """Read the camera path in a file of any known format.

    Args:
        path: a file, or the folder of a COLMAP model or of a dataset (``sparse/0``, ``transforms.json``).
        width, height: size in pixels of the images the file is about, used only where neither the file, the images
            beside it nor its principal points say it.
        root: a folder; images that do not lie in it are not opened. Set this when the file is untrusted.
        view_size: width and height in pixels of the views wanted. Stands in for a missing size where the lens is
            given as fractions or angles (RealEstate10K, ``camera_angle_x``), never where it is in pixels. A file's
            own size is kept; change it with `Cameras.fitted`.
        fit_mixed: where the images differ in size and ``view_size`` is given, all views are fitted to it
            (`Cameras.fitted`); else only the views of the commonest size are kept.
        up: the axis that points up in the file's world ("z", "y", "-y"), for formats that do not define it; the
            cameras are turned so that -y is up, as `ops.transform.upright` turns a scene. None: as they are.
        dataparser: nerfstudio's ``dataparser_transforms.json``; the cameras move to the world of the scene trained
            with it.
        notify: told, in one sentence each, what is ignored, left out or had to be found elsewhere; default the log.

    Returns:
        `Cameras`, float32 on the CPU, in the world of CONVENTIONS.md (y down). A request that brings a picture gives
        cameras in that picture's pixels and size.

    Raises:
        FlashWorldError: unknown, damaged or hostile content; the message names the file and the line or key.
    """
    path = Path(path)
    notify = notify or logger.warning
    kind, content, path = _load(path)
    where, folder = str(path), path.parent
    root = None if root is None else Path(root)
    size = None if width is None or height is None else (width, height)
    if kind == "flashworld":
        # A request's world is its own scene's; nothing turns or moves it.
        return flashworld_request.parse(content, where, folder=folder, root=root, size=size, notify=notify)
    if kind == "colmap":
        views = colmap.read(path, notify)
    elif kind == "realestate10k":
        views = realestate10k.parse(content, where, size or view_size, notify)
    elif kind == "inria":
        views = inria.parse(content, where)
    elif kind == "nerfstudio_path":
        views = nerfstudio_path.parse(content, where, notify)
    else:
        views = nerfstudio.parse(
            content, where, folder=folder, root=root, size=size, view_size=view_size, notify=notify
        )
    return to_cameras(
        views,
        where,
        view_size=view_size if fit_mixed else None,
        up=up,
        dataparser_file=None if dataparser is None else Path(dataparser),
        notify=notify,
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
        raise FlashWorldError(f"Unknown camera file format {format[:40]!r}; choose one of {', '.join(FORMATS)}.")
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
        f"No camera file format goes by the name {path.name[:100]}; use .json, .txt or a folder, or name the format "
        f"({', '.join(FORMATS)})."
    )


def _dataset_file(folder: Path) -> Path | None:
    return next((folder / name for name in _IN_FOLDERS if (folder / name).is_file()), None)


def _load(path: Path) -> tuple[str, dict | list | str | None, Path]:
    """A file's format, what reading it to find out gave (JSON, text, or None for a COLMAP model), and where it is."""
    if not path.exists():
        raise FlashWorldError(f"There is no file or folder {path}.")
    if path.is_dir() or path.name in colmap.FILES:
        found = _dataset_file(path) if path.is_dir() and colmap.find_model(path) is None else None
        if found is None:
            return "colmap", None, path
        path = found
    text = read_text(path)
    if text.lstrip()[:1] in ("{", "["):
        data = parse_json(text, str(path))
        if inria.recognizes(data):
            return "inria", data, path
        if isinstance(data, list):
            raise FlashWorldError(
                f"{path} must hold a JSON object, not a list (only the 3DGS trainer's cameras.json is a list, of "
                "objects with position and rotation)."
            )
        for key, kind in (
            ("frames", "nerfstudio"),
            ("cameras", "flashworld"),
            (nerfstudio_path.KEY, "nerfstudio_path"),
        ):
            if key in data:
                return kind, data, path
        keys = ", ".join(sorted(map(str, data))[:8])[:100] or "none"
        raise FlashWorldError(
            f"{path} is neither a FlashWorld request (key cameras) nor a transforms.json (key frames) nor nerfstudio's "
            f"camera_path.json (key camera_path); its keys: {keys}."
        )
    if realestate10k.recognizes(text):
        return "realestate10k", text, path
    raise FlashWorldError(
        f"{path} is no camera path this program knows: FlashWorld request JSON, nerfstudio's transforms.json or "
        "camera_path.json, the 3DGS trainer's cameras.json, RealEstate10K / CameraCtrl text (19 numbers a line), or a "
        "COLMAP model (images and cameras, .txt or .bin)."
    )
