"""Held-out figures: few-step generation from one image of unseen ToyWorld scenes, judged against the truth."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..cameras import Cameras
from ..datasets.toyworld.world import ToyWorld
from ..generators.base import Request, ViewImage
from ..rendering.render import render
from ..text import get_logger
from .metrics import psnr_db

log = get_logger(__name__)


def evaluate(
    model, scenes: int = 32, *, novel_views: int = 4, first_seed: int = 0, text_only: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict:  # fmt: skip
    """Generate ``scenes`` scenes of the "test" split and compare their renders with the truth.

    Scene i gives its view i mod T as the picture, so that every place of the picture along the path counts alike.

    Args:
        model: a `generators.base.Generator`.
        novel_views: views off the path per scene; the model never sees their cameras.
        text_only: give the prompt alone.

    Returns:
        Means over scenes, in dB: ``input_view_psnr_db``, ``path_views_psnr_db`` (generation views but the input),
        ``novel_views_psnr_db``, each with ``..._mean_color`` beside it (the score of one flat picture in the scene's
        mean color), and ``per_scene`` rows.
    """
    config = model.info
    world = ToyWorld(config.views, config.width, config.height)
    rows = []
    for i in range(scenes):
        seed = first_seed + i
        sample = world.sample(seed, "test", novel_views=novel_views)
        truth = torch.cat([sample.images, sample.novel_images]).permute(0, 2, 3, 1)
        index = i % config.views
        images = () if text_only else (ViewImage(truth[index], index),)
        scene = model.generate(Request(sample.cameras, images, sample.prompt, seed)).gaussians
        cameras = Cameras(
            torch.cat([sample.cameras.camera_to_world, sample.novel_cameras.camera_to_world]),
            torch.cat([sample.cameras.intrinsics, sample.novel_cameras.intrinsics]),
            config.width,
            config.height,
        )
        db = psnr_db(render(scene, cameras).rgb, truth)
        flat = psnr_db(truth[: config.views].mean((0, 1, 2)).expand_as(truth), truth)
        rows.append(
            {"seed": seed, **_split(db, index, config.views), **_split(flat, index, config.views, "_mean_color")}
        )
        if progress is not None:
            progress(i + 1, scenes)
    names = [name for name in rows[0] if name != "seed"]
    return {name: sum(row[name] for row in rows) / len(rows) for name in names} | {"scenes": scenes, "per_scene": rows}


def _split(db: torch.Tensor, index: int, views: int, suffix: str = "") -> dict[str, float]:
    others = torch.cat([db[:index], db[index + 1 : views]])
    return {
        f"input_view_psnr_db{suffix}": db[index].item(),
        f"path_views_psnr_db{suffix}": others.mean().item(),
        f"novel_views_psnr_db{suffix}": db[views:].mean().item(),
    }
