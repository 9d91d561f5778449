"""Videos with text and without cameras: a folder, searched through, of ``NAME.mp4`` each with its ``NAME.txt``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import FlashWorldError
from .clips import VIDEOS, BrokenClip, Clip, Reading
from .image_text import files, text_beside
from .pixels import video_facts

LAYOUT = "NAME.{mp4,mkv,webm,mov,avi} with NAME.txt beside it, in folders of any depth"


def clips(root: Path, reading: Reading) -> Iterator[Clip]:
    """All videos that have a text or a caption."""
    for path in files(root, VIDEOS):
        id = reading.relative(path.with_suffix(""))
        try:
            yield video_clip(path, id, text_beside(path, id, reading), reading)
        except FlashWorldError as error:
            reading.skip(id, error, "it cannot be read")


def video_clip(path: Path, id: str, prompt: str, reading: Reading) -> Clip:
    """The clip of a video file without cameras."""
    size, frames = video_facts(path)
    if frames < 2:
        raise BrokenClip("it has no frames", f"{frames} in {path.name}")
    return Clip(
        id=id, kind="video", prompt=prompt, frames=tuple(range(frames)), store="video",
        container=reading.relative(path), size=size,
    )  # fmt: skip
