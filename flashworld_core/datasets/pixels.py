"""The pixels of clips: frames out of files, videos and tar shards, fitted to a size, their lenses made pinholes."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..cameras import Cameras
from ..errors import FlashWorldError
from ..formats.cameras.image_size import inside, stored_size
from ..media.images import MAX_FILE_BYTES, open_image
from .clips import BrokenClip, Clip
from .undistort import undistorted

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_VIDEO_FRAMES = 1_000_000
_SEEK_FROM = 64  # frames; nearer ones are reached by decoding from the start, which counts exactly


def load_frames(root: Path, clip: Clip, indices: Sequence[int]) -> list[Image]:
    """Upright sRGB pictures of some frames, in the order asked for.

    Raises:
        BrokenClip: a frame is missing or damaged, or the clip is not what was indexed any more.
    """
    check_unchanged(root, clip)
    if clip.store == "video":
        return _video_frames(_existing(root, clip.container), [clip.frames[i] for i in indices], clip)
    if clip.store == "tar":
        return [_from_tar(_existing(root, clip.container), *clip.frames[i]) for i in indices]
    return [_opened(_existing(root, clip.frames[i])) for i in indices]


def check_unchanged(root: Path, clip: Clip) -> None:
    """Refuse a clip whose file is not the one that was indexed.

    Raises:
        BrokenClip: it is gone or has another size or time.
    """
    if clip.stamp is None:
        return
    name, size, time = clip.stamp
    try:
        found = os.stat(root / name)
    except OSError:
        raise BrokenClip("its files are gone", f"no {root / name}") from None
    if (found.st_size, found.st_mtime_ns) != (size, time):
        raise BrokenClip("it has changed since it was indexed", f"{root / name}; run the command index again")


def fitted(picture: Image, width: int, height: int) -> Tensor:
    """[height, width, 3] float32 in [0, 1]: scaled to fill the size, the middle kept, as `Cameras.fitted`."""
    from PIL import Image

    scale = max(width / picture.width, height / picture.height)
    w, h = min(width / scale, picture.width), min(height / scale, picture.height)
    left, top = (picture.width - w) / 2, (picture.height - h) / 2
    box = (left, top, left + w, top + h)
    resized = picture.resize((width, height), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    return torch.from_numpy(np.array(resized)).float() / 255


def load_views(root: Path, clip: Clip, indices: Sequence[int], width: int, height: int) -> tuple[Tensor, Cameras]:
    """Images [V, height, width, 3] of some frames of a clip with cameras, and the cameras that see them.

    Returns:
        The images in [0, 1], and `Cameras` in float64, in the clip's own world.
    """
    pictures = load_frames(root, clip, indices)
    images, cameras = [], fitted_cameras(clip, indices, width, height)
    intrinsics = cameras.intrinsics.clone()
    for i, (index, picture) in enumerate(zip(indices, pictures, strict=True)):
        if abs(picture.width * clip.size[1] / (picture.height * clip.size[0]) - 1) > 0.01:
            raise BrokenClip(
                "its images have another shape than its cameras",
                f"{picture.width}x{picture.height} and {clip.size[0]}x{clip.size[1]}",
            )
        image = fitted(picture, width, height)
        lens = clip.distortion[index % len(clip.distortion)] if clip.distortion else None
        if lens is not None:
            image, intrinsics[i] = undistorted(image, intrinsics[i], *lens)
        images.append(image)
    return torch.stack(images), Cameras(cameras.camera_to_world, intrinsics, width, height)


def fitted_cameras(clip: Clip, indices: Sequence[int], width: int, height: int) -> Cameras:
    """The cameras of some frames for images fitted to a size, float64, in the clip's own world; no distortion."""
    index = torch.as_tensor(list(indices))
    k = torch.zeros(len(index), 3, 3, dtype=torch.float64)
    k[:, [0, 1, 0, 1], [0, 1, 2, 2]] = clip.lenses[index]
    k[:, 2, 2] = 1
    return Cameras(clip.poses[index].double(), k, *clip.size).fitted(width, height)


def stored_shape(path: Path) -> tuple[int, int]:
    """Width and height of an image from its header.

    Raises:
        BrokenClip: it is none.
    """
    size = stored_size(path)
    if size is None:
        raise BrokenClip("it is no image", path.name)
    return size


def video_facts(path: Path) -> tuple[tuple[int, int], int]:
    """(width, height) and the number of frames of a video; the latter is counted where the file does not say it.

    Raises:
        BrokenClip: it is no video, or damaged.
    """
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            count = stream.frames or sum(1 for packet in container.demux(stream) if packet.size)
            if count > MAX_VIDEO_FRAMES:
                raise BrokenClip("its video is too long", f"{count} frames in {path.name}")
            return (stream.width, stream.height), count
    except (av.FFmpegError, IndexError, OSError) as error:
        raise BrokenClip("its video cannot be read", f"{path.name}: {error}") from None


def _existing(root: Path, name: str) -> Path:
    path = inside(root, name, root)
    if path is None:
        raise BrokenClip("its images are missing", f"no {root / name}")
    return path


def _opened(source) -> Image:
    try:
        return open_image(source)
    except FlashWorldError as error:
        raise BrokenClip("its images are damaged", str(error)) from None


def _from_tar(path: Path, offset: int, size: int) -> Image:
    from PIL import Image

    if not 0 < size <= MAX_FILE_BYTES:
        raise BrokenClip("its images are damaged", f"{size} bytes in {path.name}")
    with path.open("rb") as stream:
        stream.seek(offset)
        data = stream.read(size)
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return _opened(picture)
    except (OSError, ValueError, SyntaxError) as error:
        raise BrokenClip("its images are damaged", f"{path.name} at byte {offset}: {error}") from None


def _rgb(frame) -> Image:
    """A video's frame in RGB; untagged colors are BT.709 from 720 lines on, else BT.601, as players take them."""
    from av.video.reformatter import Colorspace

    if frame.colorspace not in (Colorspace.DEFAULT, 2):  # 2: unspecified in ITU-T H.273
        return frame.to_image()
    return frame.to_image(src_colorspace=Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601)


def _video_frames(path: Path, wanted: Sequence[int], clip: Clip) -> list[Image]:
    """Frames by number. Those of clips with cameras are counted from the start, for a pose belongs to each."""
    import av

    found, last, asked = {}, max(wanted), set(wanted)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            seek = clip.kind != "multiview" and min(wanted) > _SEEK_FROM and stream.average_rate and stream.time_base
            begin = stream.start_time or 0
            if seek:
                container.seek(begin + int(min(wanted) / stream.average_rate / stream.time_base), stream=stream)
            for counted, frame in enumerate(container.decode(stream)):
                number = counted
                if seek:
                    number = round(float((frame.pts - begin) * stream.time_base * stream.average_rate))
                if number in asked and number not in found:
                    found[number] = _rgb(frame)
                if number >= last:
                    break
    except (av.FFmpegError, IndexError, OSError) as error:
        raise BrokenClip("its video is damaged", f"{path.name}: {error}") from None
    if missing := [number for number in wanted if number not in found]:
        raise BrokenClip("frames of its video are missing", f"{path.name}: number {missing[0]} of {len(clip.frames)}")
    return [found[number] for number in wanted]
