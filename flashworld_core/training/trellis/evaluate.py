"""Judging an object model on held-out procedural objects: voxels, and renders beside exact images."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from ...datasets.objects import draw_object, render_object
from ...evaluation.metrics import psnr_db
from ...generators.base import Request, ViewImage
from ...generators.trellis.cameras import object_cameras
from ...generators.trellis.pipeline import TrellisModel
from ...rendering.render import render
from .objects import rgba_image

VIEWS, PIXELS = 4, 64  # around the object, the first from where the image was taken


@dataclasses.dataclass(frozen=True)
class Judged:
    """Means over objects.

    Attributes:
        front_db, around_db: PSNR on white of the image's own view, and of the views the model never saw.
        overlap: intersection over union of the silhouettes of all views.
        seconds: of one generation.
    """

    front_db: float
    around_db: float
    overlap: float
    seconds: float


def on_white(pixels: Tensor) -> Tensor:
    """[..., 4] with straight colors to [..., 3]."""
    return pixels[..., :3] * pixels[..., 3:] + 1 - pixels[..., 3:]


def judge(model: TrellisModel, seeds: Sequence[int], steps: tuple[int, int], guidance: float = 0.0) -> Judged:
    """Generate held-out objects from their front images and compare renders with the truth."""
    cameras, rows = object_cameras(VIEWS, PIXELS, PIXELS), []
    for seed in seeds:
        shape = draw_object(seed, "test")
        truth = render_object(shape, cameras)
        request = Request(
            cameras, (ViewImage(rgba_image(shape)),), seed=seed, steps=steps, options={"guidance": guidance}
        )
        started = time.perf_counter()
        scene = model.generate(request).gaussians
        seconds = time.perf_counter() - started
        seen = render(scene, cameras, modes=("rgb", "alpha"), background="white")
        both = [a > 0.5 for a in (seen.alpha.reshape(truth[..., 3].shape), truth[..., 3])]
        overlap = float((both[0] & both[1]).sum() / (both[0] | both[1]).sum())
        db = [float(psnr_db(a, b)) for a, b in zip(seen.rgb.clamp(0, 1), on_white(truth), strict=True)]
        rows.append((db[0], sum(db[1:]) / (VIEWS - 1), overlap, seconds))
    return Judged(*(sum(column) / len(rows) for column in zip(*rows, strict=True)))


def picture(models: Sequence[tuple[TrellisModel, tuple[int, int]]], seeds: Sequence[int], pixels: int = 96) -> Tensor:
    """[H, W, 3]: for each seed a row of the image, the truth from two sides, and each model from the same two."""
    cameras, rows = object_cameras(8, pixels, pixels)[[0, 3]], []
    for seed in seeds:
        shape = draw_object(seed, "test")
        tiles = list(on_white(render_object(shape, cameras)))
        for model, steps in models:
            request = Request(cameras, (ViewImage(rgba_image(shape)),), seed=seed, steps=steps)
            scene = model.generate(request).gaussians
            tiles += list(render(scene, cameras, background="white").rgb.clamp(0, 1))
        rows.append(torch.cat(tiles, 1))
    return torch.cat(rows, 0)
