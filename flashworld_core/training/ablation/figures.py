"""Figures of generated scenes against true ones, each with its standard error over scenes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...cameras import Cameras
from ...gaussians import Gaussians
from ...rendering.render import render
from ...sh import C0
from .probe import ATTRIBUTES, Probe

_RESAMPLES = 24


@dataclasses.dataclass(frozen=True)
class Figure:
    """A value and the standard error of it."""

    value: float
    error: float

    def __str__(self) -> str:
        digits = max(0, 1 - math.floor(math.log10(self.error))) if self.error > 0 else 3
        return f"{self.value:.{min(digits, 5)}f} ± {self.error:.{min(digits, 5)}f}"


def gradient_energy(images: Tensor) -> Tensor:
    """[N] mean squared differences of neighboring pixels of images [N, ..., H, W, 3], over rows and columns."""
    rows = (images[..., 1:, :, :] - images[..., :-1, :, :]).square().flatten(1).mean(1)
    columns = (images[..., :, 1:, :] - images[..., :, :-1, :]).square().flatten(1).mean(1)
    return rows + columns


def sharpness(images: Tensor, truth: Tensor) -> Figure:
    """Gradient energy of generated views over that of true ones; 1 is right, less is blurry, more is noisy.

    Args:
        images, truth: [S, V, H, W, 3], scene by scene; the scenes need not be the same.
    """
    made, real = gradient_energy(images), gradient_energy(truth)
    return resampled(lambda i, j: float(made[i].mean() / real[j].mean()), len(made), len(real))


def frechet_distance(made: Tensor, real: Tensor) -> float:
    """Frechet distance between two sets of features [N, D], each taken as a normal distribution."""
    made, real = made.double(), real.double()
    covariance_a, covariance_b = torch.cov(made.T), torch.cov(real.T)
    mixed = torch.linalg.eigvals(covariance_a @ covariance_b).real.clamp_min(0).sqrt().sum()
    distance = (made.mean(0) - real.mean(0)).square().sum()
    return float(distance + covariance_a.trace() + covariance_b.trace() - 2 * mixed)


def frechet(probe: Probe, images: Tensor, truth: Tensor) -> Figure:
    """Frechet distance of the probe's features over all views [S, V, H, W, 3]; its error is that of halves of scenes.

    It falls with the number of views, so only equal numbers compare.
    """
    with torch.no_grad():
        made = torch.stack([probe.features(views) for views in images])
        real = torch.stack([probe.features(views) for views in truth])
    value = frechet_distance(made.flatten(0, 1), real.flatten(0, 1))
    halves = [
        frechet_distance(made[i].flatten(0, 1), real[i].flatten(0, 1))
        for i in _subsets(len(made), len(made) // 2, _RESAMPLES // 4)
    ]
    return Figure(value, float(torch.tensor(halves).std()) / math.sqrt(2))


def accuracy(probe: Probe, images: Tensor, truth: Tensor) -> dict[str, Figure]:
    """Share of views whose attributes are read as the prompt has them: of each attribute, and their mean, "all".

    Args:
        images: [S, V, H, W, 3].
        truth: [S, 4] labels.
    """
    pairs = zip(images, truth, strict=True)
    right = torch.stack([probe.right(views, of.expand(len(views), -1)).mean(0) for views, of in pairs])
    named = {name: mean_of(right[:, i]) for i, name in enumerate(ATTRIBUTES)}
    return named | {"all": mean_of(right.mean(1))}


def diversity(images: Tensor, truth: Tensor) -> Figure:
    """Standard deviation of pixels over the samples of a prompt, over that of true scenes of the prompt.

    Args:
        images, truth: [P, K, V, H, W, 3] K samples of each of P prompts.
    """
    made, real = images.std(1).flatten(1).mean(1), truth.std(1).flatten(1).mean(1)
    return resampled(lambda i, j: float(made[i].mean() / real[j].mean()), len(made), len(real))


def depth_spread(scenes: list[Gaussians], cameras: list[Cameras]) -> Figure:
    """How far what a pixel is blended from lies apart in depth: mean over pixels of std / mean of the splats' depths.

    Weighted by what each splat adds to the pixel. Surfaces have little of it; floaters in front of them have much.
    """
    return mean_of(torch.tensor([_depth_spread(s, c) for s, c in zip(scenes, cameras, strict=True)]))


@torch.no_grad()
def _depth_spread(scene: Gaussians, cameras: Cameras) -> float:
    values = []
    for i in range(len(cameras)):
        camera = cameras[i]
        pose = camera.world_to_camera[0].to(scene.means)
        depth = (scene.means @ pose[:3, :3].T + pose[:3, 3])[:, 2].clamp_min(0)
        unit = depth.median().clamp_min(1e-6)
        # Colors stand for 1, depth and its square: what is blended is their weighted mean. A color is 0.5 + C0 sh.
        wanted = torch.stack([torch.ones_like(depth), depth / unit, (depth / unit).square()], -1)
        shown = dataclasses.replace(scene, sh=((wanted - 0.5) / C0)[:, None], metadata={})
        weight, first, second = render(shown, camera, background="black").rgb[0].unbind(-1)
        weight = weight.clamp_min(1e-4)
        variance = (second / weight - (first / weight).square()).clamp_min(0)
        values.append(float((variance.sqrt() / (first / weight).clamp_min(1e-4))[weight > 0.1].mean()))
    return sum(values) / len(values)


def mean_of(values: Tensor) -> Figure:
    """Mean and standard error of [N]."""
    return Figure(
        float(values.mean()), float(values.std() / math.sqrt(max(1, len(values)))) if len(values) > 1 else 0.0
    )


def resampled(function: Callable[[Tensor, Tensor], float], made: int, real: int) -> Figure:
    """A function of chosen scenes on all of them, and its standard deviation over bootstrap samples."""
    generator = torch.Generator().manual_seed(0)
    values = [
        function(torch.randint(made, (made,), generator=generator), torch.randint(real, (real,), generator=generator))
        for _ in range(_RESAMPLES)
    ]
    return Figure(function(torch.arange(made), torch.arange(real)), float(torch.tensor(values).std()))


def _subsets(count: int, size: int, times: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randperm(count, generator=generator)[:size] for _ in range(times)]
