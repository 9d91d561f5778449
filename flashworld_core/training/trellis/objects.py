"""Procedural objects as TRELLIS sees them: an image, occupied voxels and latents on them.

The published model learns its voxels' latents from image features of many views. Here they are written down instead:
mean color and mean offset of the surface inside a voxel, which is all a solid of flat colors has.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...datasets.objects import ProceduralObject, draw_object, render_object, surface_points
from ...errors import FlashWorldError
from ...generators.trellis.cameras import object_cameras, points_to_asset
from ...generators.trellis.conditioning import crop_square
from ...text import get_logger
from ..state import load_checkpoint, save_atomically

log = get_logger(__name__)
LATENT_CHANNELS = 6  # mean color, then mean offset
RENDER_PIXELS = 80  # of the image before it is cropped
SURFACE_POINTS = 24_000  # some 30 in each of 700 voxels


@dataclasses.dataclass(frozen=True)
class PreparedObject:
    """One object.

    Attributes:
        image: [3, S, S] uint8, cropped and over black, without normalization.
        coords: [n, 3] voxels, sorted.
        latents: [n, 6] in about -1..1, not normalized.
    """

    image: Tensor
    coords: Tensor
    latents: Tensor


def rgba_image(shape: ProceduralObject, pixels: int = RENDER_PIXELS):
    """The object from the front as a Pillow image with transparency."""
    from PIL import Image

    pixels = render_object(shape, object_cameras(1, pixels, pixels))[0]
    return Image.fromarray((pixels * 255).round().to(torch.uint8).numpy())


def voxelized(shape: ProceduralObject, resolution: int, seed: int) -> tuple[Tensor, Tensor]:
    """Voxels [n, 3] that hold surface, sorted, and their latents [n, 6]."""
    points, _, colors = surface_points(shape, SURFACE_POINTS, seed)
    place = (points_to_asset(torch.from_numpy(points)).numpy() + 0.5) * resolution
    voxels = np.clip(np.floor(place).astype(np.int64), 0, resolution - 1)
    unique, inverse, counts = np.unique(voxels, axis=0, return_inverse=True, return_counts=True)
    values = np.concatenate([2 * colors - 1, 2 * (place - voxels - 0.5)], 1)
    sums = np.zeros((len(unique), values.shape[1]))
    np.add.at(sums, inverse.reshape(-1), values)
    return torch.from_numpy(unique), torch.from_numpy(sums / counts[:, None]).float()


def prepare_object(seed: int, split: str, resolution: int, image_size: int) -> PreparedObject:
    """Draw, photograph and voxelize the object of a seed."""
    shape = draw_object(seed, split)
    image = crop_square(rgba_image(shape), image_size)
    coords, latents = voxelized(shape, resolution, seed)
    return PreparedObject((image * 255).round().to(torch.uint8), coords.to(torch.int16), latents)


class ObjectData:
    """Prepared objects of a split, kept in a file of the run's folder.

    Args:
        objects: in the order of their seeds.
    """

    def __init__(self, objects: list[PreparedObject]):
        self.objects = objects

    def __len__(self) -> int:
        return len(self.objects)

    @classmethod
    def prepare(cls, count: int, split: str, resolution: int, image_size: int, file: Path | None = None) -> ObjectData:
        """Make ``count`` objects, or read them from ``file`` where they are."""
        if file is not None and file.is_file():
            rows = load_checkpoint(file)["objects"]
            if len(rows) != count:
                raise FlashWorldError(f"{file} holds {len(rows)} objects, not {count}; delete it to make them again.")
            return cls([PreparedObject(*row) for row in rows])
        objects = []
        for seed in range(count):
            objects.append(prepare_object(seed, split, resolution, image_size))
            if (seed + 1) % 500 == 0:
                log.info("%d of %d objects", seed + 1, count)
        if file is not None:
            save_atomically({"objects": [tuple(dataclasses.astuple(o)) for o in objects]}, file)
        return cls(objects)

    def group(self, first: int, size: int) -> list[PreparedObject]:
        """``size`` objects from number ``first`` on, in an order that changes from pass to pass."""
        picked = []
        for number in range(first, first + size):
            turn, place = divmod(number, len(self.objects))
            order = torch.randperm(len(self.objects), generator=torch.Generator().manual_seed(turn))
            picked.append(self.objects[int(order[place])])
        return picked

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each latent channel."""
        latents = torch.cat([o.latents for o in self.objects])
        return tuple(latents.mean(0).tolist()), tuple(latents.std(0).tolist())


def occupancy(objects: list[PreparedObject], resolution: int) -> Tensor:
    """[B, 1, R, R, R], 1 where a voxel is occupied."""
    grid = torch.zeros(len(objects), 1, *[resolution] * 3)
    for cube, item in zip(grid, objects, strict=True):
        x, y, z = item.coords.long().unbind(1)
        cube[0, x, y, z] = 1
    return grid


def batched_coords(objects: list[PreparedObject]) -> Tensor:
    """[n, 4] of all of them: number within the batch, x, y, z."""
    rows = [torch.cat([torch.full((len(o.coords), 1), i), o.coords.long()], 1) for i, o in enumerate(objects)]
    return torch.cat(rows)
