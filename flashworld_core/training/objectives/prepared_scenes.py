"""Procedural scenes in FlashWorld's normalized frame and grids, as its objectives take them."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from ...datasets.toyworld.world import ToyWorld
from ...generators.flashworld import cameras as fw_cameras


@dataclasses.dataclass(frozen=True)
class PreparedScene:
    """One scene in the generator's own normalized frame.

    Attributes:
        prompt: the sentence that describes it.
        images: [T + M, H, W, 3] in [0, 1]; the first T are the generation views, the rest novel views.
        cameras: [T + M, 11] normalized camera vectors, in that order.
        raymaps: [T, 6, h, w] on the latent grid.
        log_distance: [T, hg, wg] logarithm of the distance along the ray, on the head's grid; None: not known.
        views: T.
        image_index: the only view that a picture may be given of; None: any.
        has_image: whether any view has a picture; without, only the prompt can be given.
        posed: whether cameras are known; without, raymaps are 0 and nothing can be rendered.
    """

    prompt: str
    images: Tensor
    cameras: Tensor
    raymaps: Tensor
    log_distance: Tensor | None
    views: int
    image_index: int | None = None
    has_image: bool = True
    posed: bool = True


def prepare(sample, config) -> PreparedScene:
    """Bring one `ToySample` into the generator's frame and grids."""
    views = len(sample.cameras)
    normalized, normalization = fw_cameras.normalize_cameras(fw_cameras.cameras_to_vectors(sample.cameras))
    novel = normalization.apply(fw_cameras.cameras_to_vectors(sample.novel_cameras))

    height, width = sample.cameras.height, sample.cameras.width
    latent_hw = config.latent_size(height, width)
    grid_h, grid_w = config.head_grid(height, width)

    # z-depth to distance along the ray, at the pixel that holds the center of each grid cell.
    depth = sample.depth / normalization.scale
    ys = ((torch.arange(grid_h) + 0.5) * height / grid_h).long().clamp_max(height - 1)
    xs = ((torch.arange(grid_w) + 0.5) * width / grid_w).long().clamp_max(width - 1)
    k = sample.cameras.intrinsics
    x = (xs + 0.5 - k[:, 0, 2, None]) / k[:, 0, 0, None]  # [T, wg]
    y = (ys + 0.5 - k[:, 1, 2, None]) / k[:, 1, 1, None]  # [T, hg]
    stretch = (1 + x[:, None, :] ** 2 + y[:, :, None] ** 2).sqrt()
    distance = depth[:, ys][:, :, xs] * stretch

    images = torch.cat([sample.images, sample.novel_images]).permute(0, 2, 3, 1).contiguous()
    return PreparedScene(
        prompt=sample.prompt,
        images=images,
        cameras=torch.cat([normalized, novel]).float(),
        raymaps=fw_cameras.raymaps(normalized, *latent_hw).float(),
        log_distance=distance.clamp_min(1e-3).log().float(),
        views=views,
    )


class SceneStream(IterableDataset):
    """Endless prepared scenes: seeds ``first_seed, first_seed + 1, ...`` dealt out to the workers."""

    def __init__(self, config, novel_views: int, first_seed: int):
        self.config, self.novel_views, self.first_seed = config, novel_views, first_seed

    def __iter__(self):
        torch.set_num_threads(1)
        world = ToyWorld(self.config.views, self.config.width, self.config.height)
        worker = get_worker_info()
        seed = self.first_seed + (worker.id if worker else 0)
        step = worker.num_workers if worker else 1
        while True:
            yield prepare(world.sample(seed, "train", novel_views=self.novel_views), self.config)
            seed += step
