"""Lens distortion taken out of an image: what a pinhole camera would have seen."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..formats.cameras.lens import displacement, distorted

SMALLEST = 0.5  # pixels; what moves less is left as it is
_LARGEST_ZOOM = 1.25
_BORDER = 65


def undistorted(image: Tensor, intrinsics: Tensor, model: str, coefficients: dict[str, float]) -> tuple[Tensor, Tensor]:
    """The image as a pinhole camera sees it, and that camera's intrinsics.

    The pinhole's focal lengths are the lens's, made longer as far as needed for the image to have no empty border.
    Where no point moves by `SMALLEST` pixels, image and intrinsics come back as they are.

    Args:
        image: [H, W, 3] in [0, 1].
        intrinsics: [3, 3] of the lens, pixels of ``image``.
        model, coefficients: see `formats.cameras.lens`.
    """
    height, width = image.shape[:2]
    lens = [float(intrinsics[0, 0]), float(intrinsics[1, 1]), float(intrinsics[0, 2]), float(intrinsics[1, 2])]
    if displacement(model, coefficients, lens, (width, height)) < SMALLEST:
        return image, intrinsics
    zoom, grid = _grid(tuple(lens), model, tuple(coefficients.items()), width, height)
    made = F.grid_sample(
        image.permute(2, 0, 1)[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )
    pinhole = intrinsics.clone()
    pinhole[0, 0] *= zoom
    pinhole[1, 1] *= zoom
    return made[0].permute(1, 2, 0), pinhole


@functools.lru_cache(maxsize=4)  # the frames of a clip share their lens
def _grid(lens: tuple, model: str, coefficients: tuple, width: int, height: int) -> tuple[float, Tensor]:
    """The zoom, and where the pinhole's pixels come from: [H, W, 2] float32 in [-1, 1], as `grid_sample` takes it."""
    named = dict(coefficients)
    zoom = _zoom(lens, model, named, width, height)
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    u, v = _source(u, v, zoom, lens, model, named)
    return zoom, torch.from_numpy(np.stack([2 * u / width - 1, 2 * v / height - 1], -1)).float()


def _source(u, v, zoom: float, lens, model: str, coefficients) -> tuple[np.ndarray, np.ndarray]:
    """Where in the distorted image the pinhole's pixels (u, v) come from."""
    fx, fy, cx, cy = lens
    x, y = distorted(model, coefficients, (u - cx) / (zoom * fx), (v - cy) / (zoom * fy))
    return x * fx + cx, y * fy + cy


def _zoom(lens, model: str, coefficients, width: int, height: int) -> float:
    """The least zoom at which the pinhole's border lies within the distorted image."""
    along = np.linspace(0, 1, _BORDER)
    u = np.concatenate([along, along, 0 * along, 0 * along + 1]) * width
    v = np.concatenate([0 * along, 0 * along + 1, along, along]) * height
    for zoom in np.arange(1.0, _LARGEST_ZOOM, 0.005):
        a, b = _source(u, v, zoom, lens, model, coefficients)
        if a.min() >= 0 and b.min() >= 0 and a.max() <= width and b.max() <= height:
            return float(zoom)
    return _LARGEST_ZOOM
