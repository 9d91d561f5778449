"""An image and a mask of the object to what the network is given: cropped, centered, on white."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import FlashWorldError

if TYPE_CHECKING:
    from ..base import ViewImage

SHARE = 0.8  # of the square's side that the object's longer side takes
_INSIDE = 0.5  # mask values from here on are the object's
_MIN_SIDE = 2  # pixels of the object
_EVEN, _DIFFERENT = 0.04, 0.08  # of 1: how much a plain background may vary, and from where on a pixel is the object's
WHOLE = (
    "The image has no mask and no transparency, so all of it counts as the object; give a mask, or an image with a "
    "transparent or plain background."
)
PLAIN = "The image has no mask; what differs from its plain background is taken as the object."


def object_image(view: ViewImage) -> tuple[Tensor, Tensor, str]:
    """Read an image and the mask of its object.

    The mask is the one given, else the image's opacity, else what differs from a background of one color.

    Returns:
        [H, W, 3] and [H, W] float32 in [0, 1], and a remark on how the mask was found (empty: as expected).

    Raises:
        FlashWorldError: an image that cannot be read, or a mask of another size or without an object.
    """
    from ...media.images import open_cutout

    picture, alpha = open_cutout(view.image)
    image = torch.from_numpy(np.asarray(picture).copy()).float() / 255
    remark = ""
    if view.mask is not None:
        mask = view.mask.detach().float().cpu()
        if tuple(mask.shape) != tuple(image.shape[:2]):
            raise FlashWorldError(
                f"The mask is {mask.shape[-1]}x{mask.shape[0]}, the image {image.shape[1]}x{image.shape[0]}; they must "
                "be of one size."
            )
    elif alpha is not None:
        mask = torch.from_numpy(np.asarray(alpha).copy()).float() / 255
    else:
        mask, remark = _mask_of(image)
    if not bool(torch.isfinite(mask).all()):
        raise FlashWorldError("The mask has numbers that are not finite (NaN); check where it comes from.")
    mask = mask.clamp(0, 1)
    if int((mask >= _INSIDE).sum()) < _MIN_SIDE**2:
        raise FlashWorldError(
            "The mask shows no object: hardly a pixel of it is above 0.5. It must be 1 where the object is; if it is "
            "1 around the object, invert it."
        )
    return image, mask, remark


def _mask_of(image: Tensor) -> tuple[Tensor, str]:
    border = torch.cat([image[0], image[-1], image[:, 0], image[:, -1]])
    color = border.median(dim=0).values
    difference = (image - color).abs().amax(dim=-1)
    if float((border - color).abs().max()) <= _EVEN and bool((difference > _DIFFERENT).any()):
        return (difference > _DIFFERENT).float(), PLAIN
    return torch.ones(image.shape[:2]), WHOLE


def centered(image: Tensor, mask: Tensor, size: int) -> Tensor:
    """Center the object on a white square.

    Args:
        image: [H, W, 3] in [0, 1].
        mask: [H, W] in [0, 1], 1 on the object.
        size: pixels along the square's side.

    Returns:
        [3, size, size] in [0, 1]; the object's longer side is `SHARE` of the square's.
    """
    inside = mask >= _INSIDE
    rows, columns = inside.any(dim=1).nonzero()[:, 0], inside.any(dim=0).nonzero()[:, 0]
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    # Colors times opacity: what is cut away leaves no trace of its color at the edges.
    cut = torch.cat([image * mask[..., None], mask[..., None]], dim=-1)[top:bottom, left:right].permute(2, 0, 1)
    side = max(image.shape[:2])
    scale = SHARE * side / max(cut.shape[1:])
    height, width = (max(1, round(scale * length)) for length in cut.shape[1:])
    cut = F.interpolate(cut[None], size=(height, width), mode="area")[0]
    square = torch.zeros(4, side, side)
    y, x = (side - height) // 2, (side - width) // 2
    square[:, y : y + height, x : x + width] = cut
    on_white = square[:3] + 1 - square[3:]
    return F.interpolate(on_white[None], size=(size, size), mode="bicubic", align_corners=True)[0].clamp(0, 1)
