"""The benchmark's scenes, and the .splat format that older web viewers read."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from flashworld_core.gaussians import Gaussians
from flashworld_core.ops.select import importance
from flashworld_core.sh import C0


def room(n: int, degree: int = 2, seed: int = 0) -> Gaussians:
    """A room of 6 x 3 x 6 units with four balls, its surfaces covered by ``n`` Gaussians; the more, the smaller."""
    g = torch.Generator().manual_seed(seed)
    uniform = lambda *shape: torch.rand(*shape, generator=g)  # noqa: E731
    normal = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    a, b = uniform(2, n) * 2 - 1
    z, side = a * 3 + 3, torch.ones(n)
    walls = [
        torch.stack([-3 * side, 1.5 * b, z], 1),
        torch.stack([3 * side, 1.5 * b, z], 1),
        torch.stack([3 * b, -1.5 * side, z], 1),
        torch.stack([3 * b, 1.5 * side, z], 1),
        torch.stack([3 * b, 1.5 * a, 6 * side], 1),
    ]
    means = torch.stack(walls)[torch.randint(0, 5, (n,), generator=g), torch.arange(n)]
    k = n // 4
    balls = torch.tensor([[-1.2, 0.5, 3.5], [0.8, 0.7, 2.8], [0.2, -0.4, 4.5], [1.8, 0.3, 4.8]])
    direction = torch.nn.functional.normalize(normal(k, 3), dim=1)
    means[:k] = balls[torch.randint(0, 4, (k,), generator=g)] + 0.6 * direction
    means += 0.01 * normal(n, 3)
    scales = 0.8 * math.sqrt(80 / n) * torch.exp(0.5 * normal(n, 3))
    sh = 0.05 * normal(n, (degree + 1) ** 2, 3)
    sh[:, 0] = 0.4 * torch.sin(4 * means) / C0 + 0.15 * normal(n, 3)
    quats = torch.nn.functional.normalize(normal(n, 4), dim=1)
    return Gaussians(means, quats, scales, uniform(n).sqrt().clamp(0.02, 1), sh)


def write_splat(path: Path, gaussians: Gaussians) -> None:
    """32 bytes a Gaussian, no harmonics: position, scales (float32), color and opacity, quaternion (8 bits each)."""
    g = gaussians[importance(gaussians).argsort(descending=True)]
    rows = np.zeros(len(g), [("p", "<f4", 3), ("s", "<f4", 3), ("c", "u1", 4), ("q", "u1", 4)])
    rows["p"], rows["s"] = g.means.numpy(), g.scales.numpy()
    color = torch.cat([0.5 + C0 * g.sh[:, 0], g.opacities[:, None]], 1)
    rows["c"] = (color.clamp(0, 1) * 255).round().byte().numpy()
    rows["q"] = (g.quats * 128 + 128).round().clamp(0, 255).byte().numpy()
    rows.tofile(path)
