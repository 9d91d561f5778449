"""Lossless RGBA pictures as numbers: WebP through Pillow, its size looked at before memory is taken."""

from __future__ import annotations

import io
import warnings

import numpy as np

from ...errors import FlashWorldError

MAX_SIDE = 16383  # pixels, WebP's own limit


def encode_webp(pixels: np.ndarray, effort: int = 30) -> bytes:
    """[H, W, 4] uint8 as a lossless WebP that keeps the colors of transparent pixels.

    Args:
        effort: 0 (fast) to 100 (small).
    """
    from PIL import Image

    stream = io.BytesIO()
    # Without `exact`, colors under alpha 0 become whatever compresses best.
    Image.fromarray(pixels, "RGBA").save(stream, "WEBP", lossless=True, exact=True, quality=effort, method=1)
    return stream.getvalue()


def decode_webp(data: bytes, where: str) -> np.ndarray:
    """[H, W, 4] uint8 of a WebP whose size has been looked at (`webp_size`).

    Raises:
        FlashWorldError: data that are no WebP picture, or damaged.
    """
    from PIL import Image

    size = webp_size(data, where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own about many pixels
            with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
                if getattr(image, "n_frames", 1) != 1 or image.size != size:
                    raise ValueError("more than one picture, or of two sizes")
                return np.asarray(image.convert("RGBA"))
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise FlashWorldError(f"{where}: the picture cannot be decoded ({str(error)[:100]}).") from None


def webp_size(data: bytes, where: str) -> tuple[int, int]:
    """Width and height in pixels, from the header.

    Raises:
        FlashWorldError: no WebP.
    """
    kind = data[12:16]
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP" or kind not in (b"VP8L", b"VP8X", b"VP8 "):
        raise FlashWorldError(f"{where}: is no WebP picture.")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
