"""What a user should know about a request: what is cropped, and what the model is not made for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...media.images import looks_like_photograph, open_image
from .conditioning import TEXT_EMBEDS, Crop, part_cameras_see, same_shape
from .config import FlashWorldConfig
from .presets import LIMITS

if TYPE_CHECKING:
    from ..base import Request

_NOTABLE = 0.1  # part of a picture that may go without a word


def remarks(config: FlashWorldConfig, request: Request) -> list[str]:
    """Say, in one sentence each, what is cropped, guessed or beyond what the model is good at.

    Args:
        request: one that `conditioning.check_request` takes.

    Raises:
        FlashWorldError: an image that cannot be read.
    """
    said = []
    size = request.size or (request.cameras.width, request.cameras.height)
    views = len(request.cameras) if request.views is None else request.views
    made_for = config.views, config.width * config.height
    if not all(0.5 <= ratio <= 2 for ratio in (views / made_for[0], size[0] * size[1] / made_for[1])):
        said.append(
            f"This path has {views} views of {size[0]}x{size[1]}; {config.model_id} was trained on "
            f"{config.views} of {config.width}x{config.height} and is at its best near that."
        )
    limits = LIMITS.get(config.model_id, {})
    cameras = request.cameras.width, request.cameras.height
    if request.images:
        picture = open_image(request.images[0].image)
        said += _crops(config, picture.size, cameras, size)
        if "photograph" in limits and looks_like_photograph(picture):
            said.append(limits["photograph"])
        return said
    if not same_shape(cameras, size):
        said.append(
            f"The path's cameras ({cameras[0]}x{cameras[1]}) are cropped about their centers to views of "
            f"{size[0]}x{size[1]}."
        )
    if "text alone" in limits and request.options.get(TEXT_EMBEDS) is None:
        said.append(limits["text alone"])
    return said


def _crops(
    config: FlashWorldConfig, source: tuple[int, int], cameras: tuple[int, int], size: tuple[int, int]
) -> list[str]:
    """What of a picture is left out; sizes as in `conditioning.part_cameras_see`."""
    left, top, right, bottom = part_cameras_see(source, cameras, size)
    part = right - left, bottom - top
    crop = Crop.centered(*part, *size)
    kept = crop.box_width, crop.box_height
    lost = 1 - kept[0] * kept[1] / (source[0] * source[1])
    if part != source:
        return [
            f"The picture ({source[0]}x{source[1]}) is cropped about its center to {kept[0]}x{kept[1]}, the shape of "
            f"the path's cameras ({cameras[0]}x{cameras[1]}), and the cameras are scaled to views of "
            f"{size[0]}x{size[1]}."
        ]
    if lost <= _NOTABLE:
        return []
    better = size_that_keeps(config, source, size[0] * size[1])
    whole = _kept_by_crop(source, better)
    much = "all of it" if whole > 0.995 else f"{whole:.0%} of it"
    return [
        f"The picture ({source[0]}x{source[1]}) is cropped about its center to {kept[0]}x{kept[1]}, the shape of the "
        f"views: {lost:.0%} of it is not used. Views of {better[0]}x{better[1]} keep {much}."
    ]


def size_that_keeps(config: FlashWorldConfig, source: tuple[int, int], area: int) -> tuple[int, int]:
    """Width and height the model can make, of about ``area`` pixels, that keep most of an image of size ``source``."""
    rows, columns = config.size_multiple
    best, best_loss = (columns, rows), math.inf
    for height in range(rows, rows * config.max_positions + 1, rows):
        width = min(max(round(height * source[0] / source[1] / columns), 1), config.max_positions) * columns
        off = abs(math.log(width * height / area))
        # Half as many pixels weigh as much as a loss of 7 %: a size near the one asked for, if it keeps nearly all.
        loss = 1 - _kept_by_crop(source, (width, height)) + 0.1 * off
        if loss < best_loss:
            best, best_loss = (width, height), loss
        if width * height > 4 * area:
            break
    return best


def _kept_by_crop(source: tuple[int, int], size: tuple[int, int]) -> float:
    """Part of an image's area that lies in the largest box of the shape ``size``."""
    ratio = source[0] * size[1] / (source[1] * size[0])
    return min(ratio, 1 / ratio)
