"""The generated views: what they are conditioned on, and how a scene of the normalised frame is seen from them."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ...cameras import Cameras
from ...gaussians import Gaussians
from ...rendering.render import Backend, render
from .cameras import camera_to_world_matrices, vectors_to_cameras

NEAR, FAR = 0.01, 1000.0  # clipping distances in normalised units


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What a scene is made from, in the form the networks take.

    Attributes:
        cameras: [T, 11] float32 camera vectors in FlashWorld's normalised OpenGL frame.
        width, height: size of the views in pixels.
        text: [1, L, D] text embedding, padding rows zero.
        image: [3, H, W] in [-1, 1], or None for a scene from text alone.
        image_index: the view that ``image`` shows.
    """

    cameras: Tensor
    width: int
    height: int
    text: Tensor
    image: Tensor | None = None
    image_index: int = 0


def rendering_cameras(conditions: Conditions) -> Cameras:
    """Cameras for Gaussians of the normalised frame: OpenCV camera axes, FlashWorld's OpenGL world axes."""
    vectors = conditions.cameras
    cameras = vectors_to_cameras(vectors, conditions.width, conditions.height)
    flip = vectors.new_tensor((1.0, -1.0, -1.0, 1.0))
    return dataclasses.replace(cameras, camera_to_world=camera_to_world_matrices(vectors) * flip)


def preview_image(gaussians: Gaussians, conditions: Conditions, *, backend: Backend = "auto") -> Tensor:
    """[H, W, 3] float32 in [0, 1] on the CPU: four views along the path, two by two at half size.

    Paths of fewer than four views show the middle one at full size.
    """
    cameras, views = rendering_cameras(conditions), len(conditions.cameras)
    if views < 4:
        cameras = cameras[views // 2]
    else:
        cameras = cameras[[0, views // 3, 2 * views // 3, views - 1]]
        cameras = cameras.resized(conditions.width // 2, conditions.height // 2)
    rgb = render(gaussians, cameras.to(gaussians.device), near=NEAR, far=FAR, backend=backend).rgb.clamp(0, 1).cpu()
    if views < 4:
        return rgb[0]
    return torch.cat([torch.cat([rgb[0], rgb[1]], 1), torch.cat([rgb[2], rgb[3]], 1)], 0)
