"""The size of the images a camera file is about, where the file does not say it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

from .parse import MAX_SIDE

_ENDINGS = ("", ".png", ".jpg", ".jpeg", ".JPG", ".PNG")  # Blender's synthetic scenes name images without one
_GIVE_UP = 3  # images missing in a row, after which none is looked for any more
_AGREES = 0.2  # how far, of the size, twice a principal point may be from a size somebody states


class ImageSizes:
    """Finds sizes: from the images beside the file, else from the principal point, else what the user says.

    What was found is said once (`report`). The size of views to be made is never taken for that of the images: focal
    lengths in pixels would mean another lens.

    Args:
        folder: the file's, which relative image names start from.
        root: images that do not lie in it are not opened; None: anywhere.
        stated: width and height the user says the images have.
    """

    def __init__(self, where: str, folder: Path, root: Path | None, stated: tuple[int, int] | None):
        self.where, self.folder, self.root, self.stated = where, folder, root, stated
        self._missing, self._told = 0, {}

    def find(self, name, cx: float | None, cy: float | None) -> tuple[int, int] | None:
        """Width and height for one view, or None.

        Args:
            name: of its image in the file, if it has one.
            cx, cy: principal point in pixels, if the file states one.
        """
        size = self._beside(name)
        if size is not None:
            if (
                cx
                and cy
                and abs(2 * cx - size[1]) + abs(2 * cy - size[0]) < abs(2 * cx - size[0]) + abs(2 * cy - size[1])
            ):
                size = size[::-1]  # written after turning the image by its EXIF orientation
            return self._tell("found in the images beside it", size)
        if cx and cy and cx > 0 and cy > 0:
            size = (round(2 * cx), round(2 * cy))
            if self.stated and all(abs(a - b) <= _AGREES * b for a, b in zip(size, self.stated, strict=True)):
                return self.stated
            if max(size) <= MAX_SIDE and min(size) >= 1:
                return self._tell("taken as twice the principal point (cx, cy)", size)
        return self.stated

    def report(self, notify: Callable[[str], None]) -> None:
        """Say where sizes came from, if they had to be found."""
        for how, size in self._told.items():
            notify(f"{self.where} does not say how large its images are: {size[0]}x{size[1]}, {how}.")

    def _tell(self, how: str, size: tuple[int, int]) -> tuple[int, int]:
        self._told.setdefault(how, size)
        return size

    def _beside(self, name) -> tuple[int, int] | None:
        if self._missing >= _GIVE_UP or not isinstance(name, str) or not name or "\0" in name or len(name) > 1000:
            return None
        for ending in _ENDINGS:
            path = inside(self.folder, name + ending, self.root)
            size = None if path is None else stored_size(path)
            if size is not None:
                self._missing = 0
                return size
        self._missing += 1
        return None


def inside(folder: Path, name: str, root: Path | None) -> Path | None:
    """The ordinary file of a relative name from a file's content, if there is one and it lies in ``root``.

    Absolute names are not even looked at where there is a root: a share on a network would be asked for.
    """
    if root is not None and (PureWindowsPath(name).anchor or PurePosixPath(name).is_absolute()):
        return None
    try:
        path = folder / name
        if root is not None and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
            return None
        return path if path.is_file() else None
    except (OSError, ValueError):  # a name too long for the system, or with characters it cannot have
        return None


def stored_size(path: Path) -> tuple[int, int] | None:
    """Width and height of an image as it is stored, from its header alone; None if it is none."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # no pixel is decoded here
            with Image.open(path) as image:
                return image.size
    except Exception:  # Pillow's decoders raise nearly every kind on damaged files
        return None
