"""From an image and its mask to the square the image encoder sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...errors import FlashWorldError
from ...media.images import open_cutout
from ...models.dinov2 import normalize
from ..base import ViewImage

if TYPE_CHECKING:
    from PIL.Image import Image

OPAQUE = 0.8  # coverage above which a pixel counts for the object's box
BORDER = 1.2  # side of the square over the longer side of the box
NO_MASK = (
    "The image has no transparency and no mask, so the object cannot be told from its background: give a mask that is "
    "white on the object, or a cut-out PNG."
)
NO_OBJECT = "The mask shows no object: nowhere is it more than 80 % opaque. Give a mask that is white on the object."


def cut_out(view: ViewImage) -> Image:
    """The image with the object's coverage as its alpha channel.

    A mask takes the place of the image's own transparency, and is brought to the image's size.

    Raises:
        FlashWorldError: neither mask nor transparency, a mask of another form or without an object.
    """
    from PIL import Image

    picture, coverage = open_cutout(view.image)
    if view.mask is not None:
        mask = view.mask.detach().float().cpu()
        mask = mask[0] if mask.ndim == 3 and len(mask) == 1 else mask
        if mask.ndim != 2 or 0 in mask.shape or not bool(torch.isfinite(mask).all()):
            raise FlashWorldError(f"The mask must be [H, W] of finite numbers, got {list(view.mask.shape)}.")
        coverage = Image.fromarray((mask.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
        if coverage.size != picture.size:
            coverage = coverage.resize(picture.size, Image.Resampling.BILINEAR)
    if coverage is None:
        raise FlashWorldError(NO_MASK)
    if coverage.getextrema()[1] <= OPAQUE * 255:
        raise FlashWorldError(NO_OBJECT)
    picture.putalpha(coverage)
    return picture


def crop_square(picture: Image, size: int) -> Tensor:
    """[3, size, size] in [0, 1]: the object centered in a square 1.2 times its box, over black."""
    from PIL import Image

    alpha = np.asarray(picture.getchannel("A"))
    rows, columns = np.nonzero(alpha > OPAQUE * 255)
    left, top, right, bottom = columns.min(), rows.min(), columns.max(), rows.max()
    x, y = (left + right) / 2, (top + bottom) / 2
    half = max(int(max(right - left, bottom - top) * BORDER), 1) // 2 or 1
    square = picture.crop((x - half, y - half, x + half, y + half)).resize((size, size), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.asarray(square).copy()).float() / 255
    return (pixels[..., :3] * pixels[..., 3:]).permute(2, 0, 1)


def prepare_image(view: ViewImage, size: int) -> Tensor:
    """[1, 3, size, size] for the image encoder; errors as `cut_out`."""
    return normalize(crop_square(cut_out(view), size))[None]
