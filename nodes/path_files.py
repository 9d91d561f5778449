"""Camera path files in ComfyUI's folders: which there are, and reading one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..flashworld_core.errors import FlashWorldError
from .host import folders

if TYPE_CHECKING:
    from ..flashworld_core.cameras import Cameras

EXTENSIONS = (".json", ".txt")
_POSES, _LENSES, _POINTS = "images.txt", "cameras.txt", "points3D.txt"  # of a COLMAP folder


def names() -> list[str]:
    """Files and COLMAP folders below the input folder that may be camera paths, for lists.

    A folder with images.txt and cameras.txt stands for the files in it. What the others hold, only reading tells.
    """
    files = folders.input_files(EXTENSIONS)
    everything = set(files)
    models = {
        name.removesuffix("/" + _POSES)
        for name in files
        if name.endswith("/" + _POSES) and name.removesuffix(_POSES) + _LENSES in everything
    }
    inside = {f"{folder}/{name}" for folder in models for name in (_POSES, _LENSES, _POINTS)}
    return sorted({*models, *(name for name in files if name not in inside)})


def read(name: str, width: int | None = None, height: int | None = None) -> Cameras:
    """The camera path called ``name`` (see `folders.input_path`).

    Args:
        width, height: image size in pixels, where the file does not say.

    Raises:
        FlashWorldError: no such file, or none this program reads; says which and what to do.
    """
    from ..flashworld_core.trajectories.files import read_cameras

    path = folders.input_path(name, "the camera path")
    root = folders.root_of(path)
    try:
        return read_cameras(path, width, height, root=root)
    except FlashWorldError as error:
        raise FlashWorldError(
            f"{name!r} cannot be read as a camera path; choose another file, or repair it. {error}"
        ) from error
