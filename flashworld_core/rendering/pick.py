"""What of a scene is seen at a pixel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..cameras import Cameras
from ..errors import FlashWorldError
from ..gaussians import Gaussians
from .render import render

_COVERED = 0.5  # alpha from which on something is there
_REACH = 0.006  # of the picture: how far around the place pixels are asked together
_SIDE = 512  # pixels of the longer side of the view that is rendered for it


def point_at(scene: Gaussians, camera: Cameras, x: float, y: float) -> Tensor:
    """Find the world point of the scene's surface that a view shows at a place of its picture.

    Args:
        scene: what is seen.
        camera: one view.
        x, y: 0 at the left and top edge of the picture, 1 at the right and bottom edge.

    Returns:
        [3] float64: on the ray through the place, at the median depth of the covered pixels around it.

    Raises:
        FlashWorldError: a place outside of the picture, or nothing of the scene there.
    """
    if not (math.isfinite(x) and math.isfinite(y) and 0 <= x <= 1 and 0 <= y <= 1):
        raise FlashWorldError(f"The place in the picture must lie between 0 and 1 in x and y, got {x} and {y}.")
    camera = camera[0]
    factor = _SIDE / max(camera.width, camera.height)
    camera = camera.resized(max(1, round(factor * camera.width)), max(1, round(factor * camera.height)))
    seen = render(scene, camera, modes=("expected_depth", "alpha"))
    column, row = min(int(x * camera.width), camera.width - 1), min(int(y * camera.height), camera.height - 1)
    reach = max(1, round(_REACH * max(camera.width, camera.height)))
    around = slice(max(0, row - reach), row + reach + 1), slice(max(0, column - reach), column + reach + 1)
    alpha, depth = seen.alpha[0][around], seen.expected_depth[0][around]
    if not bool((alpha >= _COVERED).any()):
        raise FlashWorldError(
            f"Nothing of the scene is at {x:.3g}, {y:.3g} of this view (0, 0 is the upper left corner); choose another "
            "place or view."
        )
    distance = float(depth[alpha >= _COVERED].median())
    k, c2w = camera.intrinsics[0].double().cpu(), camera.camera_to_world[0].double().cpu()
    pixel = torch.tensor([x * camera.width, y * camera.height, 1.0], dtype=torch.float64)
    return c2w[:3, :3] @ (torch.linalg.inv(k) @ pixel * distance) + c2w[:3, 3]
