"""Generators for judging the judges: one that knows the true scene, one that gives haze, one with floaters."""

from __future__ import annotations

import dataclasses

import torch

from flashworld_core.datasets.toyworld import ToyWorld
from flashworld_core.gaussians import Gaussians
from flashworld_core.generators.base import Generation, GeneratorInfo
from flashworld_core.sh import C0

VIEWS, WIDTH, HEIGHT = 3, 96, 64


@dataclasses.dataclass
class Oracle:
    """Makes the true scene of a "test" seed, a Gaussian a pixel, from its prompt.

    Attributes:
        blur: pixels the true views are smoothed over first.
        floaters: share of Gaussians pulled to half their depth.
    """

    blur: int = 1
    floaters: float = 0.0
    calls: int = 0

    @property
    def info(self) -> GeneratorInfo:
        return GeneratorInfo("oracle", f"oracle-{self.blur}-{self.floaters}", views=VIEWS, width=WIDTH, height=HEIGHT)

    def generate(self, request, run=None):
        self.calls += 1
        # Other seeds of a prompt, which diversity asks for, are other scenes.
        sample = ToyWorld(VIEWS, WIDTH, HEIGHT).sample(request.seed, "test", novel_views=0)
        k = torch.nn.functional.avg_pool2d(sample.images, self.blur, 1, self.blur // 2, count_include_pad=False)
        colors = k.permute(0, 2, 3, 1).reshape(-1, 3)
        v, u = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
        points, sizes = [], []
        torch.manual_seed(0)
        for i in range(VIEWS):
            pose, lens = sample.cameras.camera_to_world[i], sample.cameras.intrinsics[i]
            depth = sample.depth[i]
            depth = torch.where(torch.rand_like(depth) < self.floaters, 0.5 * depth, depth)
            rays = torch.stack([(u - lens[0, 2]) / lens[0, 0], (v - lens[1, 2]) / lens[1, 1], torch.ones_like(u)], -1)
            points.append(((rays * depth[..., None]) @ pose[:3, :3].T + pose[:3, 3]).reshape(-1, 3))
            sizes.append((0.4 * depth / lens[0, 0]).reshape(-1))
        means, scales = torch.cat(points), torch.cat(sizes)[:, None].expand(-1, 3).contiguous()
        quats = torch.tensor([1.0, 0, 0, 0]).repeat(len(means), 1)
        sh = ((colors - 0.5) / C0)[:, None]
        return Generation(Gaussians(means, quats, scales, torch.full((len(means),), 0.95), sh), request.cameras)
