"""Surface normals from a rendered depth image."""

from __future__ import annotations

import torch
from torch import Tensor


def normals_from_depth(expected_depth: Tensor, alpha: Tensor, intrinsics: Tensor) -> Tensor:
    """Unit normals of the surface that the expected depth describes.

    Every pixel is lifted to its point in the camera frame; the normal is the cross product of the differences to the
    horizontal and vertical neighbors (both where both show something, one-sided otherwise). A pixel without a
    neighbor to lean on in one direction looks straight at the camera.

    Args:
        expected_depth: [V, H, W] camera z in world units.
        alpha: [V, H, W]; where it is 0 there is nothing.
        intrinsics: [V, 3, 3] in pixels.

    Returns:
        [V, H, W, 3] in the camera frame (OpenCV axes: x right, y down, z forward), facing the camera, unit length;
        0 where nothing is. Differentiable with respect to the depth.
    """
    height, width = expected_depth.shape[1:]
    k = intrinsics.to(expected_depth)[:, :, :, None, None]
    u = torch.arange(width, device=k.device, dtype=k.dtype) + 0.5
    v = torch.arange(height, device=k.device, dtype=k.dtype)[:, None] + 0.5
    x, y = torch.broadcast_tensors((u - k[:, 0, 2]) / k[:, 0, 0], (v - k[:, 1, 2]) / k[:, 1, 1])
    rays = torch.stack([x, y, torch.ones_like(x)], -1)
    seen = alpha > 0
    points = rays * expected_depth[..., None]
    across, has_across = _difference(points, seen, dim=2)
    down, has_down = _difference(points, seen, dim=1)
    normal = torch.linalg.cross(down, across)
    # A safe vector goes through the square root wherever the cross product is zero, so that gradients stay finite.
    fallback = -rays
    usable = has_across & has_down & (normal.detach().square().sum(-1) > 0)
    normal = torch.where(usable[..., None], normal, fallback)
    # Lifting to unit size first keeps the squares of tiny differences from vanishing in float32.
    normal = normal / normal.detach().abs().amax(-1, keepdim=True)
    normal = torch.nn.functional.normalize(normal, dim=-1)
    away = (normal.detach() * rays).sum(-1, keepdim=True) > 0
    normal = torch.where(away, -normal, normal)
    return torch.where(seen[..., None], normal, 0.0)


def _difference(points: Tensor, seen: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Sum of the differences to the seen neighbors before and after along ``dim``, and whether there is one."""
    step = points.diff(dim=dim)
    both = seen.narrow(dim, 1, max(seen.shape[dim] - 1, 0)) & seen.narrow(dim, 0, max(seen.shape[dim] - 1, 0))
    step = torch.where(both[..., None], step, 0.0)
    nothing, no = torch.zeros_like(points.narrow(dim, 0, 1)), torch.zeros_like(seen.narrow(dim, 0, 1))
    total = torch.cat([step, nothing], dim) + torch.cat([nothing, step], dim)
    return total, torch.cat([both, no], dim) | torch.cat([no, both], dim)
