"""Streams of procedural images, made for training in background processes."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from .world import ToyWorld


class ImageStream(IterableDataset):
    """Endless batches of images [B, 3, H, W] in [-1, 1], each of another scene, for the autoencoder."""

    def __init__(self, config, batch: int, first_seed: int):
        self.config, self.batch, self.first_seed = config, batch, first_seed

    def __iter__(self):
        torch.set_num_threads(1)
        world = ToyWorld(1, self.config.width, self.config.height)
        worker = get_worker_info()
        seed = self.first_seed + self.batch * (worker.id if worker else 0)
        step = self.batch * (worker.num_workers if worker else 1)
        while True:
            images = [world.sample(seed + i, "train", novel_views=0).images for i in range(self.batch)]
            yield torch.cat(images) * 2 - 1
            seed += step


def stream(dataset: IterableDataset, workers: int = 1):
    """Iterate over ``dataset`` from background processes (``workers`` 0: in this one)."""
    return iter(DataLoader(dataset, batch_size=None, num_workers=workers, prefetch_factor=6 if workers else None))
