"""Metrics of a scene's geometry: floaters in front of true surfaces, and views that disagree about depth."""

from __future__ import annotations

import torch
from torch import Tensor

from ..cameras import Cameras
from ..gaussians import Gaussians

BEFORE = 0.7
"""A Gaussian nearer than this share of the true depth counts as a floater."""
SOLID = 0.5
"""Pixels that show less opacity than this have no depth to speak of."""


def floaters(scene: Gaussians, cameras: Cameras, depth: Tensor) -> float:
    """Share, by opacity, of the Gaussians in sight that hang before the true surface of their pixel.

    Args:
        cameras: V views.
        depth: [V, H, W] true z-depth in world units.
    """
    ahead = total = 0.0
    for i in range(len(cameras)):
        u, v, z = _project(scene.means, cameras[i])
        inside = (z > 1e-3) & (u >= 0) & (u < cameras.width) & (v >= 0) & (v < cameras.height)
        column, row = u[inside].long(), v[inside].long()
        weight = scene.opacities[inside]
        total += float(weight.sum())
        ahead += float(weight[z[inside] < BEFORE * depth[i, row, column]].sum())
    return ahead / total if total else 0.0


def depth_disagreement(depth: Tensor, alpha: Tensor, cameras: Cameras) -> float:
    """How far neighboring views disagree about where surfaces are: the mean relative difference, at most 1, of depth.

    Each view's pixels are moved into the next view and compared with the depth there. True depth has some too, from
    what one view sees and the other does not: it is the floor to compare with.

    Args:
        depth: [V, H, W] expected z-depth.
        alpha: [V, H, W] opacity; pixels below `SOLID` are left out.
        cameras: the V views, in order along a path.

    Returns:
        0 .. 1; NaN if no pixel can be compared.
    """
    height, width = depth.shape[1:]
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    differences = []
    for i in range(len(cameras) - 1):
        points = _unproject(u, v, depth[i], cameras[i]).reshape(-1, 3)
        a, b, z = _project(points, cameras[i + 1])
        inside = (z > 1e-3) & (a >= 0) & (a < width) & (b >= 0) & (b < height) & (alpha[i].reshape(-1) > SOLID)
        row, column, z = b[inside].long(), a[inside].long(), z[inside]
        there, solid = depth[i + 1, row, column], alpha[i + 1, row, column] > SOLID
        differences.append(((z - there).abs() / there.clamp_min(1e-6)).clamp_max(1)[solid])
    every = torch.cat(differences) if differences else depth.new_zeros(0)
    return float(every.mean())


def _project(points: Tensor, camera: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    """Pixel coordinates u, v and z-depth of points [N, 3] in the one view of ``camera``."""
    pose, k = camera.world_to_camera[0].to(points), camera.intrinsics[0].to(points)
    x, y, z = (points @ pose[:3, :3].T + pose[:3, 3]).unbind(-1)
    safe = z.clamp_min(1e-6)
    return k[0, 0] * x / safe + k[0, 2], k[1, 1] * y / safe + k[1, 2], z


def _unproject(u: Tensor, v: Tensor, depth: Tensor, camera: Cameras) -> Tensor:
    """[H, W, 3] world positions of pixels at a z-depth."""
    pose, k = camera.camera_to_world[0].to(depth), camera.intrinsics[0].to(depth)
    rays = torch.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], torch.ones_like(u)], -1)
    return (rays * depth[..., None]) @ pose[:3, :3].T + pose[:3, 3]
