"""FlashWorld's request JSON: what to make (picture, sentence) and along which cameras.

Keys: ``cameras`` (list of {quaternion wxyz, position, fx, fy, cx, cy}, camera-to-world, OpenGL axes for camera and
world), ``resolution`` [views, height, width], ``image_prompt`` (path, data URL or bare base64), ``text_prompt``,
``image_index``. With a picture the intrinsics are pixels of that picture as it is on disk; without one, pixels of the
resolution.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from ...cameras import Cameras
from ...errors import FlashWorldError
from ...geometry import flip_y_and_z, matrices_to_quats, pose
from ...text import get_logger
from ..files import exact
from .image_size import ImageSizes, inside
from .parse import (
    MAX_CAMERAS,
    MAX_SIDE,
    check_count,
    check_focal,
    check_size,
    check_writable,
    number,
    numbers,
    parse_json,
    read_text,
    rotations_from_quaternions,
    whole_number,
    write_texts,
)

logger = get_logger(__name__)

_EXIF_ORIENTATION = 0x0112
_BASE64_HEADS = {"iVBORw0KGgo": "png", "/9j/": "jpeg", "UklGR": "webp"}  # how pictures of these kinds begin


@dataclasses.dataclass(frozen=True)
class FlashWorldRequest:
    """One request.

    Attributes:
        cameras: the path as listed, not resampled to ``views``. Its width, height and intrinsics are those of the
            picture if there is one (cropping and scaling it carries the intrinsics along), else of the resolution.
        views: number of views to generate.
        height, width: size in pixels of the views to generate.
        image_prompt: path or data URL of the picture, not decoded; None for a request in words alone.
        text_prompt: the sentence, maybe empty.
        image_index: which of the ``views`` shows the picture.
    """

    cameras: Cameras
    views: int
    height: int
    width: int
    image_prompt: str | None = None
    text_prompt: str = ""
    image_index: int = 0

    @classmethod
    def read(cls, path: str | os.PathLike) -> FlashWorldRequest:
        """Read a request file. A relative picture path is looked for beside the file, then in the working folder.

        Raises:
            FlashWorldError: unreadable, malformed or out of range; the message names the key.
        """
        path = Path(path)
        data = parse_json(read_text(path), str(path))
        if not isinstance(data, dict):
            raise FlashWorldError(f"{path} must hold a JSON object, not a list.")
        return cls.from_dict(data, where=str(path), folder=path.parent)

    @classmethod
    def from_dict(
        cls,
        data: dict,
        *,
        where: str = "request",
        folder: Path | None = None,
        width: int | None = None,
        height: int | None = None,
        root: Path | None = None,
        notify: Callable[[str], None] = logger.warning,
    ) -> FlashWorldRequest:
        """A request from its parsed JSON (see `read`).

        Args:
            where: name for error messages.
            folder: where relative picture paths are looked for first.
            width, height: size in pixels that the intrinsics of a request without ``resolution`` and picture are in;
                twice the principal point where that says something else.
            root: a folder; a picture that does not lie in it is not opened.
            notify: told where a size came from.
        """
        entries = data.get("cameras")
        if not isinstance(entries, list):
            raise FlashWorldError(f"{where}: cameras must be a list.")
        check_count(len(entries), where)
        image = _image_prompt(data.get("image_prompt"), folder, where, root)
        lenses = [_lens(entry, f"{where}: cameras[{i}]") for i, entry in enumerate(entries)]
        views = len(entries)
        picture = None if image is None else _upright_size(image, where)
        if data.get("resolution") is not None:
            values = numbers(data["resolution"], 3, f"{where}: resolution [views, height, width]")
            views = whole_number(values[0], 1, MAX_CAMERAS, f"{where}: resolution[0] (views)")
            height = whole_number(values[1], 1, MAX_SIDE, f"{where}: resolution[1] (height)")
            width = whole_number(values[2], 1, MAX_SIDE, f"{where}: resolution[2] (width)")
        elif picture is not None:
            width, height = picture
        else:
            stated = None if width is None or height is None else (width, height)
            sizes = ImageSizes(where, Path(), None, stated)
            width, height = check_size(*(sizes.find(None, *lenses[0][2:]) or (None, None)), where)
            sizes.report(notify)
        text = data.get("text_prompt") or ""
        if not isinstance(text, str):
            raise FlashWorldError(f"{where}: text_prompt must be a string.")
        index = data.get("image_index")
        index = whole_number(0 if index is None else index, 0, views - 1, f"{where}: image_index")
        cameras = _cameras(entries, lenses, picture or (width, height), where)
        return cls(cameras, views, height, width, image, text, index)

    def to_dict(self) -> dict:
        """The request as JSON values."""
        data: dict = {"image_prompt": self.image_prompt} if self.image_prompt is not None else {}
        data |= {"text_prompt": self.text_prompt, "cameras": _entries(self.cameras)}
        return data | {"resolution": [self.views, self.height, self.width], "image_index": self.image_index}

    def write(self, path: str | os.PathLike) -> None:
        """Write the request file, replacing an existing one only when it is complete."""
        write_texts({Path(path): json.dumps(self.to_dict(), indent=2) + "\n"})


def parse(
    data: dict,
    where: str,
    *,
    folder: Path,
    root: Path | None,
    size: tuple[int, int] | None,
    notify: Callable[[str], None],
) -> Cameras:
    """The cameras of a request; ``size``, width and height in pixels, stands in for a missing resolution."""
    width, height = size or (None, None)
    return FlashWorldRequest.from_dict(
        data, where=where, folder=folder, width=width, height=height, root=root, notify=notify
    ).cameras


def write(path: Path, cameras: Cameras) -> None:
    """Write a request that holds the path and no prompts."""
    FlashWorldRequest(cameras, len(cameras), cameras.height, cameras.width).write(path)


def _lens(entry, here: str) -> list[float]:
    """fx, fy, cx, cy of one list entry."""
    if not isinstance(entry, dict):
        raise FlashWorldError(f"{here} must be an object with quaternion, position, fx, fy, cx and cy.")
    for key in ("quaternion", "position", "fx", "fy", "cx", "cy"):
        if key not in entry:
            raise FlashWorldError(f"{here}.{key} is missing.")
    lens = [number(entry[key], f"{here}.{key}") for key in ("fx", "fy", "cx", "cy")]
    check_focal(*lens[:2], here)
    return lens


def _cameras(entries: list[dict], lenses: list[list[float]], size: tuple[int, int], where: str) -> Cameras:
    quaternions = [numbers(e["quaternion"], 4, f"{where}: cameras[{i}].quaternion") for i, e in enumerate(entries)]
    positions = [numbers(e["position"], 3, f"{where}: cameras[{i}].position") for i, e in enumerate(entries)]
    rotations = rotations_from_quaternions(quaternions, lambda i: f"{where}: cameras[{i}].quaternion")
    poses = pose(rotations, torch.tensor(positions, dtype=torch.float64))
    intrinsics = torch.zeros(len(entries), 3, 3, dtype=torch.float64)
    intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]] = torch.tensor(lenses, dtype=torch.float64)
    intrinsics[:, 2, 2] = 1
    return Cameras(flip_y_and_z(poses).float(), intrinsics.float(), *size)


def _entries(cameras: Cameras) -> list[dict]:
    check_writable(cameras)
    dtype = cameras.camera_to_world.dtype
    c2w = flip_y_and_z(cameras.camera_to_world.double().cpu())
    quaternions = matrices_to_quats(c2w[:, :3, :3]).to(dtype)
    positions = c2w[:, :3, 3].to(dtype)
    return [
        {
            "quaternion": exact(quaternions[i]),
            "position": exact(positions[i]),
            **dict(zip(("fx", "fy", "cx", "cy"), exact(k[[0, 1, 0, 1], [0, 1, 2, 2]]), strict=True)),
        }
        for i, k in enumerate(cameras.intrinsics)
    ]


def _image_prompt(value, folder: Path | None, where: str, root: Path | None) -> str | None:
    """The picture as something that can be opened from anywhere: a data URL or an existing path."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise FlashWorldError(f"{where}: image_prompt must be a path or a data URL.")
    if value[:5].lower() == "data:":
        return value
    for head, kind in _BASE64_HEADS.items():
        if value.startswith(head) and len(value) > 100:
            return f"data:image/{kind};base64,{value}"
    for start in ([] if folder is None else [folder]) + [Path()]:
        path = inside(start, value, root)
        if path is not None:
            return str(path)
    raise FlashWorldError(
        f"{where}: image_prompt names no file: {value[:100]!r}. The cameras are in that picture's "
        "pixels; put it there, or remove image_prompt if they are in pixels of the resolution."
    )


def _upright_size(image: str, where: str) -> tuple[int, int]:
    """Width and height of the picture the right way up; only its header is read."""
    from PIL import Image

    is_url = image[:5].lower() == "data:"
    try:
        source = io.BytesIO(base64.b64decode(image.partition(",")[2])) if is_url else Path(image)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # no pixel is decoded here
            with Image.open(source) as picture:
                sideways = picture.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
                return (picture.height, picture.width) if sideways else (picture.width, picture.height)
    except Exception as error:  # Pillow's decoders raise nearly every kind on damaged files
        raise FlashWorldError(f"{where}: image_prompt is not a picture that can be read: {str(error)[:100]}") from error
