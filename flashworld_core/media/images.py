"""Open any image safely: bounded, upright, 8-bit RGB."""

from __future__ import annotations

import base64
import binascii
import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..errors import FlashWorldError

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageLike = str | os.PathLike | Image | np.ndarray | Tensor

# Pillow itself refuses more than this; stated here because a host may have raised or removed its limit.
MAX_PIXELS = 178_956_970
MAX_FILE_BYTES = 512 * 2**20
# Formats that are decoded in-process by Pillow's own codecs. Others (EPS, PDF, FITS ...) may start programs.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "BMP", "TIFF", "GIF", "PPM", "TGA")


def open_image(image: ImageLike) -> Image:
    """Any accepted picture (see `prepare_image`) as an upright 8-bit RGB Pillow image."""
    from PIL import Image

    if isinstance(image, Image.Image):
        _check_size(*image.size)
        return _to_rgb(image)
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        image = (image.float() if image.is_floating_point() else image).numpy()
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, str) and image[:5].lower() == "data:":
        return _decode(io.BytesIO(_data_url_bytes(image)), "the data URL")
    if isinstance(image, (str, os.PathLike)):
        path = Path(image)
        if not path.is_file():
            raise FlashWorldError(f"prepare_image: no such image file: {path}")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise FlashWorldError(f"prepare_image: {path} is larger than {MAX_FILE_BYTES >> 20} MiB; scale it down.")
        try:
            with path.open("rb") as stream:
                return _decode(stream, str(path))
        except OSError as error:
            raise FlashWorldError(f"prepare_image: {path} cannot be read: {error}.") from error
    raise FlashWorldError(
        f"prepare_image: expected a path, a data URL, a Pillow image, an array or a tensor, got {type(image).__name__}."
    )


def _data_url_bytes(url: str) -> bytes:
    """The bytes of a base64 ``data:`` URL."""
    head, comma, body = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise FlashWorldError("prepare_image: the data URL must look like data:image/png;base64,...")
    if not head[5:].lower().startswith("image/"):
        raise FlashWorldError(f"prepare_image: the data URL holds {head[5:-7] or 'no type'!r}, not an image.")
    if len(body) > MAX_FILE_BYTES * 4 // 3:
        raise FlashWorldError(f"prepare_image: the data URL holds more than {MAX_FILE_BYTES >> 20} MiB.")
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise FlashWorldError(f"prepare_image: the data URL is not valid base64: {error}.") from error


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise FlashWorldError(f"prepare_image: the image is empty ({width}x{height}).")
    if width * height > MAX_PIXELS:
        raise FlashWorldError(
            f"prepare_image: the image has {width}x{height} pixels, more than {MAX_PIXELS:,}; scale it down."
        )


def _decode(stream, name: str) -> Image:
    """Decode an encoded image; its size is checked from the header before any pixel is unpacked."""
    from PIL import Image, UnidentifiedImageError

    Image.init()
    formats = [kind for kind in FORMATS if kind in Image.OPEN]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is Pillow's error limit
            with Image.open(stream, formats=formats) as picture:
                _check_size(*picture.size)
                return _to_rgb(picture)
    except UnidentifiedImageError as error:
        raise FlashWorldError(f"prepare_image: {name} is not an image this can read ({', '.join(formats)}).") from error
    except FlashWorldError:
        raise
    except Image.DecompressionBombError as error:
        raise FlashWorldError(f"prepare_image: {name} has too many pixels: {error}") from error
    except Exception as error:  # Pillow's codecs raise OSError, SyntaxError, ValueError, struct.error ... on damage
        raise FlashWorldError(f"prepare_image: {name} is damaged: {error}.") from error


def _to_rgb(picture: Image) -> Image:
    """Upright 8-bit RGB, transparency over white."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    mode = picture.mode
    if mode == "RGB" and "transparency" not in picture.info:
        picture.load()
        return picture.copy()
    if mode == "I" or mode.startswith("I;16"):  # 16-bit gray; Pillow's own conversion clips instead of scaling
        return _from_array(np.clip(np.asarray(picture), 0, 65535).astype(np.uint16))
    if mode == "F":
        return _from_array(np.asarray(picture))
    if mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return picture.convert("RGB")


def _from_array(array: np.ndarray) -> Image:
    """[H, W], [H, W, 1|3|4] or [1, H, W, C]: uint8, uint16, or float in [0, 1]."""
    from PIL import Image

    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise FlashWorldError(
            f"prepare_image: an array must be one image [H, W, 3] (or 1 or 4 channels), got {list(array.shape)}."
        )
    _check_size(array.shape[1], array.shape[0])
    if array.dtype == np.uint16:
        array = np.round(array / np.float32(257))
    elif array.dtype.kind == "f":
        # The negated comparison also catches NaN. A little over- and undershoot is what upscalers leave behind.
        if not (array.min() > -0.5 and array.max() < 1.5):
            raise FlashWorldError(
                f"prepare_image: a float image must lie in 0..1, got {array.min():.4g} to {array.max():.4g}."
            )
        array = np.round(np.clip(array, 0, 1) * np.float32(255))
    elif array.dtype != np.uint8:
        raise FlashWorldError(f"prepare_image: an array must be uint8, uint16 or float, got {array.dtype}.")
    array = array.astype(np.uint8)
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return _to_rgb(Image.fromarray(np.ascontiguousarray(array)))
