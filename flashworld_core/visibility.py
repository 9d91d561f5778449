"""Which Gaussians a camera path sees."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .cameras import Cameras
from .errors import FlashWorldError, check_stop
from .gaussians import Gaussians

_REACH = 3.0  # standard deviations: beyond, a Gaussian shows nowhere


def near_path_mask(
    gaussians: Gaussians,
    cameras: Cameras,
    surroundings: float = 0.0,
    *,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Tensor:
    """[N] bool: the Gaussians in sight of at least one camera, at any distance, or around at least one.

    In sight is what reaches into the pyramid of the picture's edges within `_REACH` standard deviations (its largest,
    in all directions). What hides behind something else is in sight too.

    Args:
        surroundings: world units; a Gaussian whose centre is at most this far from a camera's stays, also behind it.
        progress: called as ``progress(done, total)`` in cameras, after each.
        should_stop: asked before each camera.

    Raises:
        FlashWorldError: no cameras, or surroundings below 0.
        Cancelled: ``should_stop`` answered True.
    """
    if len(cameras) == 0:
        raise FlashWorldError("near_path_mask: the camera path is empty.")
    if not surroundings >= 0:
        raise FlashWorldError(f"near_path_mask: surroundings must be 0 or more, got {surroundings}.")
    keep = torch.zeros(len(gaussians), dtype=torch.bool, device=gaussians.device)
    left = torch.arange(len(gaussians), device=gaussians.device)  # not kept by any camera so far
    points = gaussians.means.detach().float()
    reach = _REACH * gaussians.scales.detach().float().amax(dim=1)
    cameras = cameras.to(gaussians.device, torch.float32)
    world_to_camera = cameras.world_to_camera
    for view in range(len(cameras)):
        check_stop(should_stop)
        local = points @ world_to_camera[view, :3, :3].T + world_to_camera[view, :3, 3]
        near = local.norm(dim=1) <= surroundings
        near |= _in_sight(local, reach, cameras.intrinsics[view], cameras.width, cameras.height)
        keep[left[near]] = True
        left, points, reach = left[~near], points[~near], reach[~near]
        if progress is not None:
            progress(view + 1, len(cameras))
    return keep


def _in_sight(local: Tensor, reach: Tensor, intrinsics: Tensor, width: int, height: int) -> Tensor:
    """Whether points [N, 3] in camera axes lie in front and at most ``reach`` [N] outside of the picture's edges."""
    x, y, z = local.unbind(dim=1)
    fx, fy, cx, cy = intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    inside = z > -reach
    for along, focal, edge in ((x, fx, cx), (-x, fx, width - cx), (y, fy, cy), (-y, fy, height - cy)):
        # The plane through the camera's centre and one edge of the picture; positive on the picture's side.
        inside &= (along * focal + z * edge) / (focal**2 + edge**2) ** 0.5 > -reach
    return inside
