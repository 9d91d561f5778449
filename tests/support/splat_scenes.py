"""Seeded Gaussian scenes and cameras for the rendering tests."""

import math

import torch

from flashworld_core.cameras import Cameras
from flashworld_core.gaussians import Gaussians


def make_cameras(views: int, width: int, height: int) -> Cameras:
    """Views near the origin along z, turned and shifted a little more each time; principal point off center."""
    c2w = torch.eye(4).repeat(views, 1, 1)
    for i in range(views):
        a, b = 0.15 * i - 0.1, 0.1 * i
        yaw = torch.tensor([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
        roll = torch.tensor([[math.cos(b), -math.sin(b), 0], [math.sin(b), math.cos(b), 0], [0, 0, 1]])
        c2w[i, :3, :3] = yaw @ roll
        c2w[i, :3, 3] = torch.tensor([0.2 * i, -0.1 * i, 0.05 * i])
    k = torch.tensor([[0.9 * width, 0, 0.47 * width], [0, 0.95 * width, 0.53 * height], [0, 0, 1]])
    return Cameras(c2w, k.repeat(views, 1, 1), width, height)


def make_gaussians(n: int, degree: int = 1, seed: int = 0, size: float = 0.08) -> Gaussians:
    """Anisotropic, of all opacities; some behind the camera, beyond the far plane, outside the view or too faint."""
    g = torch.Generator().manual_seed(seed)
    depth = torch.rand(n, generator=g) * 4 + 1
    means = torch.stack(
        [
            (torch.rand(n, generator=g) - 0.5) * 1.8 * depth,
            (torch.rand(n, generator=g) - 0.5) * 1.4 * depth,
            depth,
        ],
        -1,
    )
    means[::17, 2] *= -1
    means[5::23, 2] = 2000.0
    opacities = torch.rand(n, generator=g)
    opacities[::11] = 1.0
    opacities[3::13] = 0.003
    return Gaussians(
        means=means,
        quats=torch.randn(n, 4, generator=g),
        scales=torch.exp(torch.randn(n, 3, generator=g) * 0.7) * size * depth[:, None] / 3,
        opacities=opacities,
        sh=torch.randn(n, (degree + 1) ** 2, 3, generator=g) * 0.5,
    )


def rasterize_arguments(gaussians: Gaussians, cameras: Cameras, dtype=torch.float32, **changes):
    """(positional, keyword) arguments of a backend's `rasterize`."""
    tensors = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh)
    positional = [t.to(dtype) for t in (*tensors, cameras.world_to_camera, cameras.intrinsics)]
    background = torch.linspace(0.1, 0.9, 3 * len(cameras)).view(-1, 3).to(dtype)
    keyword = {"background": background, "near": 0.01, "far": 1000.0, "sh_degree": gaussians.sh_degree}
    return [*positional, cameras.width, cameras.height], keyword | changes
