"""Pictures and videos on disk: PNG, MP4, color-mapped depth, contact sheets. Files appear complete or not at all.

Images are [H, W, 3] or [V, H, W, 3] float tensors in [0, 1] (clamped here), top row first.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import FlashWorldError, check_stop
from ..formats.files import atomic_writer

if TYPE_CHECKING:
    from PIL.Image import Image

_BT709 = 1  # ITU-T H.273's number of its primaries and of its transfer function


def to_bytes(image: Tensor) -> np.ndarray:
    """uint8 [..., H, W, 3] from floats in [0, 1]; out-of-range values are clamped, NaN becomes 0."""
    return (image.detach().float().nan_to_num(0).clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()


@contextlib.contextmanager
def _new_file(path: str | os.PathLike):
    """A binary file that takes its name when it is complete; missing folders are made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(path) as stream:
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
    with _new_file(path) as stream:
        Image.fromarray(array).save(stream, format="PNG", pnginfo=chunks)


def save_npy(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write one array as .npy."""
    with _new_file(path) as stream:
        np.save(stream, array)


def save_npz(path: str | os.PathLike, **arrays: np.ndarray) -> None:
    """Write arrays by name as one compressed .npz."""
    with _new_file(path) as stream:
        np.savez_compressed(stream, **arrays)


def save_png16(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write a 16-bit PNG of uint16 values, gray [H, W] or RGB [H, W, 3] (which Pillow cannot write)."""
    height, width = array.shape[:2]
    rows = np.ascontiguousarray(array.astype(">u2")).view(np.uint8).reshape(height, -1).astype(np.int16)
    pixel = 2 * (1 if array.ndim == 2 else array.shape[2])
    left = np.zeros_like(rows)
    left[:, pixel:] = rows[:, :-pixel]
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = 1  # the filter "Sub": each byte minus that of the pixel to the left
    filtered[:, 1:] = (rows - left) & 0xFF

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 16, 0 if array.ndim == 2 else 2, 0, 0, 0)
    with _new_file(path) as stream:
        stream.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head))
        stream.write(chunk(b"IDAT", zlib.compress(filtered.tobytes(), 6)) + chunk(b"IEND", b""))


def save_json(path: str | os.PathLike, content) -> None:
    """Write JSON values, one line per entry."""
    text = json.dumps(content, indent=1) + "\n"
    with _new_file(path) as stream:
        stream.write(text.encode("utf-8"))


def save_video(
    path: str | os.PathLike,
    frames: Tensor,
    fps: float = 24,
    *,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> None:
    """Write an H.264 MP4 (yuv420p, plays everywhere): BT.709 matrix, limited range, tagged so.

    Args:
        frames: [V, H, W, 3]; odd sizes lose their last row or column, as yuv420p demands.
        fps: frames per second, above 0 and up to 1000.
        progress: called as progress(frames written, frames).
        should_stop: asked before every frame.

    Raises:
        FlashWorldError: no frames, frames smaller than 2x2, or no such frame rate.
        Cancelled: stopped; no file is left.
    """
    import av
    from av.video.reformatter import ColorRange, Colorspace

    if not 0 < fps <= 1000:
        raise FlashWorldError(f"A video has above 0 and up to 1000 frames per second, got {fps}.")
    count, height, width = frames.shape[:3]
    height, width = height - height % 2, width - width % 2
    if not count or not height or not width:
        raise FlashWorldError(f"A video needs at least one frame of 2x2 pixels, got {list(frames.shape)}.")

    with _new_file(path) as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "14", "preset": "medium"}
        context = stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries = context.color_trc = _BT709
        for number, frame in enumerate(frames, start=1):
            check_stop(should_stop)
            picture = av.VideoFrame.from_ndarray(to_bytes(frame[:height, :width]), format="rgb24")
            # Players take untagged video for BT.601 or BT.709 by its size; the scaler's own choice is BT.601.
            picture = picture.reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            picture.color_primaries = picture.color_trc = _BT709
            container.mux(stream.encode(picture))
            if progress is not None:
                progress(number, count)
        container.mux(stream.encode())


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Tensor | Image]]], cell_width: int = 192, margin: int = 6, title: str = ""
) -> np.ndarray:
    """Rows of pictures with a caption each, on white.

    Args:
        rows: (caption, pictures), each a tensor [H, W, 3] or a Pillow image. They are resized to ``cell_width`` pixels
            wide, or to what of that a height of four times as much leaves.
        title: one line above all. Line breaks are blanks, here and in captions, and what does not fit is cut.

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
            image = picture if isinstance(picture, Image.Image) else Image.fromarray(to_bytes(picture))
            scale = min(cell_width / image.width, 4 * cell_width / image.height)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
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
    """``text`` on one line, shortened with an ellipsis until it fits ``width`` pixels."""
    cut = max(1, width)  # no letter is narrower than a pixel
    text = " ".join(text[: 8 * cut].split())  # control characters are no letters of any font
    text = "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
    if len(text) <= cut and draw.textlength(text, font=font) <= width:
        return text
    low, high = 0, min(len(text), cut)
    while low < high:  # the most letters that fit
        middle = (low + high + 1) // 2
        if draw.textlength(text[:middle] + "...", font=font) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low] + "..."
