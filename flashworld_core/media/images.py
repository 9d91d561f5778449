"""Open any image safely: bounded, upright, 8-bit sRGB.

Colors are managed (`colors`), and what is transparent lies over a stated background: colors first, so that the
background is what it says, and before any scaling, so that no edge takes color from behind the cut-out.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..errors import FlashWorldError
from .colors import ColorTags, read_color_tags, tags_of, to_srgb

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageLike = str | os.PathLike | Image | np.ndarray | Tensor

# Pillow itself refuses more than this; stated here because a host may have raised or removed its limit.
MAX_PIXELS = 178_956_970
MAX_FILE_BYTES = 512 * 2**20
# Formats that are decoded in-process by Pillow's own codecs. Others (EPS, PDF, FITS ...) may start programs.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "BMP", "TIFF", "GIF", "PPM", "TGA")


WHITE = (255, 255, 255)


def open_image(image: ImageLike, background: tuple[int, int, int] = WHITE) -> Image:
    """Open any accepted picture as an upright 8-bit sRGB Pillow image without transparency.

    Args:
        image: a path, a base64 ``data:`` URL, a Pillow image, or one image as an array or tensor ([H, W], [H, W, C] or
            [1, H, W, C] with 1, 3 or 4 channels; uint8, uint16, or float in [0, 1]; sRGB).
        background: sRGB color under what is transparent.

    Raises:
        FlashWorldError: not there, not an image, damaged, too large, or of colors that cannot be brought to sRGB.
    """
    from PIL import Image

    picture = _open(image)
    if picture.mode == "RGB":
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, (*background, 255)), picture).convert("RGB")


SMOOTH_IN_DRAWINGS = 0.75  # measured: drawings and procedural pictures 0.95 and more, photographs 0.15 to 0.69


def looks_like_photograph(image: ImageLike) -> bool:
    """Guess whether an image is a photograph, from how much of it has texture: a hint for a user, nothing more.

    At 256 pixels the longer side, it is the part whose second difference is at most 4 of 255.
    """
    picture = open_image(image).convert("L")
    scale = 256 / max(picture.size)
    picture = picture.resize(tuple(max(3, round(scale * side)) for side in picture.size))
    gray = np.asarray(picture).astype(np.int32)
    middle, around = gray[1:-1, 1:-1], (gray[:-2, 1:-1], gray[2:, 1:-1], gray[1:-1, :-2], gray[1:-1, 2:])
    return bool((np.abs(4 * middle - sum(around)) <= 4).mean() < SMOOTH_IN_DRAWINGS)


def open_cutout(image: ImageLike) -> tuple[Image, Image | None]:
    """Open an image as `open_image` does, but keep what it says about transparency.

    Returns:
        The colors as they are stored, mode RGB, and the opacity, mode L; None where nothing is transparent.
    """
    picture = _open(image)
    alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
    return picture.convert("RGB"), None if alpha is None or alpha.getextrema()[0] == 255 else alpha


def _open(image: ImageLike) -> Image:
    """RGB or RGBA."""
    from PIL import Image, ImageOps

    if isinstance(image, Image.Image):
        _check_size(*image.size)
        return _to_rgb(ImageOps.exif_transpose(image), tags_of(image), "the image")
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
            raise FlashWorldError(f"no such image file: {path}")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise FlashWorldError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB; scale it down.")
        try:
            with path.open("rb") as stream:
                return _decode(stream, str(path))
        except OSError as error:
            raise FlashWorldError(f"{path} cannot be read: {error}.") from error
    raise FlashWorldError(
        f"expected a path, a data URL, a Pillow image, an array or a tensor, got {type(image).__name__}."
    )


def _data_url_bytes(url: str) -> bytes:
    """The bytes of a base64 ``data:`` URL."""
    head, comma, body = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise FlashWorldError("the data URL must look like data:image/png;base64,...")
    if not head[5:].lower().startswith("image/"):
        raise FlashWorldError(f"the data URL holds {head[5:-7] or 'no type'!r}, not an image.")
    if len(body) > MAX_FILE_BYTES * 4 // 3:
        raise FlashWorldError(f"the data URL holds more than {MAX_FILE_BYTES >> 20} MiB.")
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise FlashWorldError(f"the data URL is not valid base64: {error}.") from error


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise FlashWorldError(f"the image is empty ({width}x{height}).")
    if width * height > MAX_PIXELS:
        raise FlashWorldError(f"the image has {width}x{height} pixels, more than {MAX_PIXELS:,}; scale it down.")


def _decode(stream, name: str) -> Image:
    """Decode an encoded image; its size is checked from the header before any pixel is unpacked."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    Image.init()
    formats = [kind for kind in FORMATS if kind in Image.OPEN]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is Pillow's error limit
            with Image.open(stream, formats=formats) as picture:
                _check_size(*picture.size)
                tags = read_color_tags(stream, picture)
                deep = (lambda: _png_pixels16(stream)) if _is_deep_png(stream, picture) else None
                upright = ImageOps.exif_transpose(picture)
                return _to_rgb(upright, tags, name, deep if upright.size == picture.size else None)
    except UnidentifiedImageError as error:
        raise FlashWorldError(f"{name} is not an image this can read ({', '.join(formats)}).") from error
    except FlashWorldError:
        raise
    except Image.DecompressionBombError as error:
        raise FlashWorldError(f"{name} has too many pixels: {error}") from error
    except Exception as error:  # Pillow's codecs raise OSError, SyntaxError, ValueError, struct.error ... on damage
        raise FlashWorldError(f"{name} is damaged: {error}.") from error


def _to_rgb(
    picture: Image, tags: ColorTags, name: str, pixels16: Callable[[], np.ndarray | None] | None = None
) -> Image:
    """8-bit sRGB, mode RGB or RGBA, of an upright picture."""
    if picture.mode == "I" or picture.mode.startswith("I;16"):  # Pillow's own conversion clips instead of scaling
        array = np.clip(np.asarray(picture), 0, 65535).astype(np.uint16)
        gray = _from_array(array)
        gray.info = {key: picture.info[key] for key in ("icc_profile",) if key in picture.info}
        result = to_srgb(gray, tags, name, lambda: np.repeat(array[..., None], 3, axis=2))
        hidden = picture.info.get("transparency")
        if isinstance(hidden, int):
            result.putalpha(_from_array((array != hidden).astype(np.uint8) * 255).convert("L"))
        return result
    if picture.mode == "F":
        return _from_array(np.asarray(picture))
    picture.load()
    return to_srgb(picture, tags, name, pixels16)


def _is_deep_png(stream, picture: Image) -> bool:
    """Whether a picture is a PNG of 16-bit colors, of which Pillow gives the upper 8."""
    if picture.format != "PNG" or picture.mode not in ("RGB", "RGBA"):
        return False
    position = stream.tell()
    stream.seek(24)  # the depth in the header chunk
    depth = stream.read(1)
    stream.seek(position)
    return depth == b"\x10"


def _png_pixels16(stream) -> np.ndarray | None:
    """uint16 [H, W, 3] of a 16-bit PNG; None if the decoder fails."""
    import av

    try:
        stream.seek(0)
        with av.open(io.BytesIO(stream.read()), format="png_pipe") as container:
            pixels = next(container.decode(video=0)).to_ndarray()
        return pixels[..., :3] if pixels.dtype == np.uint16 and pixels.ndim == 3 else None
    except (av.FFmpegError, StopIteration, ValueError):
        return None


def _from_array(array: np.ndarray) -> Image:
    """RGB or RGBA of [H, W], [H, W, 1|3|4] or [1, H, W, C]: uint8, uint16, or float in [0, 1]."""
    from PIL import Image

    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise FlashWorldError(f"an array must be one image [H, W, 3] (or 1 or 4 channels), got {list(array.shape)}.")
    _check_size(array.shape[1], array.shape[0])
    if array.dtype == np.uint16:
        array = np.round(array / np.float32(257))
    elif array.dtype.kind == "f":
        # The negated comparison also catches NaN. A little over- and undershoot is what upscalers leave behind.
        if not (array.min() > -0.5 and array.max() < 1.5):
            raise FlashWorldError(f"a float image must lie in 0..1, got {array.min():.4g} to {array.max():.4g}.")
        array = np.round(np.clip(array, 0, 1) * np.float32(255))
    elif array.dtype != np.uint8:
        raise FlashWorldError(f"an array must be uint8, uint16 or float, got {array.dtype}.")
    array = array.astype(np.uint8)
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return Image.fromarray(np.ascontiguousarray(array))
