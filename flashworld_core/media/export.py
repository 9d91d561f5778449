"""Pictures and videos on disk: PNG, MP4, color-mapped depth, contact sheets. Files appear complete or not at all.

Images are [H, W, 3] or [V, H, W, 3] float tensors in [0, 1] (clamped here), top row first.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import FlashWorldError, check_stop
from ..formats.files import atomic_writer


def to_bytes(image: Tensor) -> np.ndarray:
    """uint8 [..., H, W, 3] from floats in [0, 1]; out-of-range values are clamped, NaN becomes 0."""
    return (image.detach().float().nan_to_num(0).clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()


@contextlib.contextmanager
def _new_file(path: str | os.PathLike, function: str):
    """A binary file that takes its name when it is complete; missing folders are made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(path, function) as stream:
        yield stream


def save_png(path: str | os.PathLike, image: Tensor | np.ndarray, text: dict[str, str] | None = None) -> None:
    """Write one picture: float tensor [H, W, 3], or a numpy uint8 array [H, W, 3].

    Args:
        text: text chunks by keyword, for what the picture knows of its origin.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    array = image if isinstance(image, np.ndarray) else to_bytes(image)
    chunks = PngInfo()
    for keyword, value in (text or {}).items():
        chunks.add_text(keyword, value)
    with _new_file(path, "save_png") as stream:
        Image.fromarray(array).save(stream, format="PNG", pnginfo=chunks)


def save_npy(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write one array as .npy."""
    with _new_file(path, "save_npy") as stream:
        np.save(stream, array)


def save_json(path: str | os.PathLike, content) -> None:
    """Write JSON values, one line per entry."""
    text = json.dumps(content, indent=1) + "\n"
    with _new_file(path, "save_json") as stream:
        stream.write(text.encode("utf-8"))


def save_video(
    path: str | os.PathLike, frames: Tensor, fps: float = 24, *, should_stop: Callable[[], bool] | None = None
) -> None:
    """Write an H.264 MP4 (yuv420p, plays everywhere).

    Args:
        frames: [V, H, W, 3]; odd sizes lose their last row or column, as yuv420p demands.
        fps: frames per second.

    Raises:
        FlashWorldError: no frames, or frames smaller than 2x2.
        Cancelled: stopped; no file is left.
    """
    import av

    count, height, width = frames.shape[:3]
    height, width = height - height % 2, width - width % 2
    if not count or not height or not width:
        raise FlashWorldError(f"save_video: needs at least one frame of 2x2 pixels, got {list(frames.shape)}.")

    with _new_file(path, "save_video") as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "14", "preset": "medium"}
        for frame in frames:
            check_stop(should_stop)
            picture = av.VideoFrame.from_ndarray(to_bytes(frame[:height, :width]), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Tensor]]], cell_width: int = 192, margin: int = 6, title: str = ""
) -> np.ndarray:
    """Rows of pictures with a caption each, on white.

    Args:
        rows: (caption, pictures [H, W, 3]); pictures are resized to ``cell_width`` pixels wide.
        title: one line above all.

    Returns:
        uint8 [H, W, 3].
    """
    from PIL import Image, ImageDraw, ImageFont

    try:
        font = ImageFont.load_default(size=14)
    except TypeError:  # Pillow before 10.1 has one size only
        font = ImageFont.load_default()
    text_height = 22
    cells = []
    for caption, pictures in rows:
        resized = []
        for picture in pictures:
            image = Image.fromarray(to_bytes(picture))
            size = (cell_width, max(1, round(image.height * cell_width / image.width)))
            resized.append(image.resize(size, Image.Resampling.LANCZOS))
        cells.append((caption, resized))
    width = margin + max((len(pictures) for _, pictures in cells), default=0) * (cell_width + margin)
    heights = [text_height + max((p.height for p in pictures), default=0) + margin for _, pictures in cells]
    top = text_height + margin if title else margin
    sheet = Image.new("RGB", (width, top + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((margin, margin), _fitted(draw, title, font, width - 2 * margin), fill="black", font=font)
    for (caption, pictures), height in zip(cells, heights, strict=True):
        draw.text((margin, top), _fitted(draw, caption, font, width - 2 * margin), fill=(70, 70, 70), font=font)
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (margin + column * (cell_width + margin), top + text_height))
        top += height
    return np.asarray(sheet)


def _fitted(draw, text: str, font, width: int) -> str:
    """``text``, shortened with an ellipsis until it fits ``width`` pixels."""
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "...", font=font) > width:
        text = text[:-1]
    return text + "..."
