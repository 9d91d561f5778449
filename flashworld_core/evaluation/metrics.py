"""Metrics of images and of sets of images. Values that are averaged over scenes come with their standard error."""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Figure:
    """A value and its standard error over scenes; 0 where there is one scene only."""

    value: float
    error: float = 0.0

    def __str__(self) -> str:
        digits = min(4, max(0, 1 - math.floor(math.log10(self.error)))) if self.error > 0 else 3
        return f"{self.value:.{digits}f} ± {self.error:.{digits}f}"


def mean_of(values: Tensor) -> Figure:
    """Mean of [N] and its standard error."""
    values = values.double()
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Figure(values.mean().item(), error)


def ratio_of(made: Tensor, real: Tensor) -> Figure:
    """Ratio of the means of two rows of numbers, scene by scene [N], with its standard error.

    The ratio of means, not the mean of ratios: a plain scene has next to nothing to divide by. The error is the
    linearized one, which counts that both are of the same scenes.
    """
    made, real = made.double(), real.double()
    ratio, count = made.mean() / real.mean(), len(made)
    error = ((made - ratio * real).std() / real.mean() / math.sqrt(count)).item() if count > 1 else 0.0
    return Figure(ratio.item(), error)


def psnr_db(prediction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio per image, in dB.

    Args:
        prediction, target: [V, ...] in [0, 1]; the prediction is clamped to that range first.

    Returns:
        [V].
    """
    error = (prediction.clamp(0, 1) - target).square().flatten(1).mean(1)
    return -10 * torch.log10(error.clamp_min(1e-10))


def ssim(prediction: Tensor, target: Tensor, window: int = 7) -> Tensor:
    """Structural similarity per image, with a uniform window (Wang et al. 2004, Eq. 13).

    Args:
        prediction, target: [V, H, W, 3]; the prediction is clamped to [0, 1] first.
        window: pixels along a side.

    Returns:
        [V], 1 for equal images.
    """
    x, y = (image.clamp(0, 1).permute(0, 3, 1, 2) for image in (prediction, target))

    def mean(image: Tensor) -> Tensor:
        return F.avg_pool2d(image, window, stride=1)

    mx, my = mean(x), mean(y)
    vx, vy, covariance = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mx * my + c1) * (2 * covariance + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return value.mean((1, 2, 3))


def gradient_energy(images: Tensor) -> Tensor:
    """Mean squared difference of neighboring pixels, both directions added: [V, H, W, 3] -> [V].

    Its ratio to the truth's is the sharpness reported here: 1 is right, below 0.6 blurry, above 1.3 noisy.
    """
    images = images.clamp(0, 1)
    down = (images[:, 1:] - images[:, :-1]).square().mean((1, 2, 3))
    across = (images[:, :, 1:] - images[:, :, :-1]).square().mean((1, 2, 3))
    return down + across


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Frechet distance between normal distributions fitted to two sets of features [N, D] and [M, D].

    Comparable only between sets of equal sizes: covariances of few samples raise it.
    """
    a, b = a.double(), b.double()
    ca, cb = torch.cov(a.T), torch.cov(b.T)
    # The trace of the root of a product of two covariances is the sum of the roots of its eigenvalues.
    root = torch.linalg.eigvals(ca @ cb).real.clamp_min(0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + ca.trace() + cb.trace() - 2 * root)


def spread(images: Tensor) -> Tensor:
    """0-d standard deviation of each pixel over the scenes of one prompt, averaged: [S, ...], S >= 2.

    Beside that of real scenes of the same prompt it shows what no other figure does: one answer for every seed.
    """
    return images.clamp(0, 1).std(0).mean()
