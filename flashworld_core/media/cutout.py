"""A picture cut out by a mask and laid on a background, without a fringe of what was behind.

Along soft edges a photograph's pixels hold what was behind the subject too, and scaling mixes more of it in. Their
color is therefore taken from the nearest pixels that the mask keeps whole; the mask itself stays as soft as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import FlashWorldError

if TYPE_CHECKING:
    from PIL.Image import Image

SOLID = 0.99  # of a mask: the pixel shows nothing but the subject
_RADII = (1, 3, 9, 27)  # pixels; the first that reaches whole pixels gives the color
_ENOUGH = 1e-3  # of a square, that must be whole pixels


def cut_out(picture: Image, mask: Tensor, background: tuple[int, int, int], largest: tuple[int, int]) -> Image:
    """``picture`` where ``mask`` is 1, ``background`` where it is 0.

    Args:
        picture: RGB.
        mask: [H, W] in [0, 1], of the picture's size.
        background: sRGB color, 0..255.
        largest: width and height the work is done at where the picture is larger; give a few times what is needed.

    Returns:
        RGB, of the picture's size or as much smaller as ``largest`` asks for.

    Raises:
        FlashWorldError: a mask of another size.
    """
    from PIL import Image

    check_mask(mask, *picture.size)
    alpha = Image.fromarray(np.round(mask.float().cpu().numpy().clip(0, 1) * 255).astype(np.uint8))
    factor = max(1, min(picture.width // largest[0], picture.height // largest[1]))
    if factor > 1:
        picture, alpha = picture.reduce(factor), alpha.reduce(factor)  # a mean: nothing rings across the edge
    colors = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()
    kept = torch.from_numpy(np.array(alpha)).float() / 255
    laid = torch.lerp(colors.new_tensor(background)[:, None, None], foreground_colors(colors, kept), kept)
    return Image.fromarray(laid.round().byte().permute(1, 2, 0).contiguous().numpy())


def check_mask(mask: Tensor, width: int, height: int) -> None:
    """Refuse a mask of another size than its image."""
    if tuple(mask.shape) != (height, width):
        shape = "x".join(str(side) for side in reversed(mask.shape))
        raise FlashWorldError(f"The mask is {shape}, but the image {width}x{height}; give a mask of the image's size.")


def foreground_colors(colors: Tensor, mask: Tensor) -> Tensor:
    """The subject's own colors, also where a soft mask shows it in part.

    Args:
        colors: [C, H, W].
        mask: [H, W] in [0, 1].

    Returns:
        [C, H, W]: as given where the mask is `SOLID` or no such pixel is near, else the mean of the nearest.
    """
    whole = (mask >= SOLID).to(colors.dtype)
    missing = (mask > 0) & (whole == 0)
    result = colors.clone()
    for radius in _RADII:
        if not bool(missing.any()):
            break
        weight = _box_sum(whole, radius)
        found = missing & (weight > _ENOUGH * (2 * radius + 1) ** 2)
        for channel, values in zip(result, colors, strict=True):  # one at a time: pictures may be large
            channel[found] = (_box_sum(values * whole, radius) / weight)[found]
        missing &= ~found
    return result


def _box_sum(values: Tensor, radius: int) -> Tensor:
    """[H, W] sums over squares of 2 * radius + 1 pixels; nothing lies outside."""
    for dim, sides in ((0, (0, 0, radius + 1, radius)), (1, (radius + 1, radius))):
        sums = torch.nn.functional.pad(values, sides).double().cumsum(dim)
        length = values.shape[dim]
        values = (sums.narrow(dim, 2 * radius + 1, length) - sums.narrow(dim, 0, length)).to(values.dtype)
    return values
