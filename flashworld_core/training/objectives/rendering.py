"""Training objectives of FlashWorld's 3D mode, and the figures that judge it.

FlashWorld, Eq. 5: the scene predicted from the generation views is rendered at cameras it was not
generated from, and compared there with the truth; the generation views are compared likewise.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...cameras import Cameras
from ...sh import C0


def rendering_loss(render: Tensor, target: Tensor, floor: float = 1e-4) -> Tensor:
    """Root mean square error of each view, averaged over views.

    The root keeps easy scenes from vanishing beside hard ones: its gradient is that of the squared
    error divided by its own root. ``floor`` bounds that division.

    Args:
        render, target: [V, H, W, 3] in [0, 1].
    """
    return (render - target).square().flatten(1).mean(1).add(floor).sqrt().mean()


def distance_loss(means: Tensor, centers: Tensor, log_distance: Tensor) -> Tensor:
    """Huber loss between the logarithms of predicted and true distances along the rays.

    Args:
        means: [T, P, h, w, 3] predicted Gaussian centers.
        centers: [T, 3] camera centers in the same frame.
        log_distance: [T, h, w] logarithm of the true distance at the head's pixels.
    """
    predicted = (means - centers[:, None, None, None]).norm(dim=-1).clamp_min(1e-6).log()
    return F.huber_loss(predicted, log_distance[:, None].expand_as(predicted), delta=0.2)


@torch.no_grad()
def in_sight(points: Tensor, camera: Cameras, log_distance: Tensor, tolerance: float = 0.05) -> Tensor:
    """Which points a camera sees: inside its picture and not behind what it shows there.

    Args:
        points: [..., 3] in the camera's world.
        camera: one camera.
        log_distance: [h, w] logarithm of the true distance along the rays, on any grid over its picture.
        tolerance: share of the distance by which a point may lie behind the surface.

    Returns:
        [...] bool.
    """
    world_to_camera, k = camera.world_to_camera[0], camera.intrinsics[0]
    local = points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    depth = local[..., 2].clamp_min(1e-6)
    rows, columns = log_distance.shape
    column = ((k[0, 0] * local[..., 0] / depth + k[0, 2]) * (columns / camera.width)).floor()
    row = ((k[1, 1] * local[..., 1] / depth + k[1, 2]) * (rows / camera.height)).floor()
    inside = (local[..., 2] > 0) & (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    surface = log_distance[row.clamp(0, rows - 1).long(), column.clamp(0, columns - 1).long()].exp()
    return inside & (local.norm(dim=-1) <= surface * (1 + tolerance))


def latent_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error between predicted clean latents and the true ones (FlashWorld, L_MV)."""
    return F.mse_loss(predicted.float(), target)


def image_gradient_loss(render: Tensor, target: Tensor) -> Tensor:
    """L1 between horizontal and vertical finite differences: keeps edges, indifferent to flat offsets.

    Args:
        render, target: [V, H, W, 3].
    """
    error = render - target
    return (error[:, 1:] - error[:, :-1]).abs().mean() + (error[:, :, 1:] - error[:, :, :-1]).abs().mean()


def squared_rendering_loss(render: Tensor, target: Tensor) -> Tensor:
    """FlashWorld, Eq. 5, as the paper has it: mean squared error of pixels in [-1, 1].

    Args:
        render, target: [V, H, W, 3] in [0, 1].
    """
    return 4 * F.mse_loss(render, target)


def color_loss(sh: Tensor, target: Tensor) -> Tensor:
    """How far the Gaussians' base colors are from the pixels they stand for, without rendering them.

    Root mean square error and differences of neighbors, as `rendering_loss` and 0.3 `image_gradient_loss`. It trains
    the decoder to hand the latents' detail on, at a fraction of a rendering's cost.

    Args:
        sh: [T, P, h, w, K, 3] coefficients.
        target: [T, H, W, 3] in [0, 1], H and W multiples of h and w; averaged down to them.
    """
    colors = 0.5 + C0 * sh[..., 0, :].mean(1)
    size = colors.shape[1:3]
    pixels = F.adaptive_avg_pool2d(target.permute(0, 3, 1, 2), tuple(size)).permute(0, 2, 3, 1)
    return rendering_loss(colors, pixels) + 0.3 * image_gradient_loss(colors, pixels)
