"""The multi-view mode's objective: flow matching in its velocity form, and the noise levels it is trained at."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import FlashWorldError
from ...flow.sample import velocity
from ...flow.schedule import shift_sigmas


def noise_levels(
    uniform: Tensor, *, shift: float = 3.0, full_noise: float = 0.0, low: float = 0.0, high: float = 1.0
) -> Tensor:
    """Noise levels in [low, high] from uniform numbers: s = shift u / (1 + (shift - 1) u), u ~ U(0, 1).

    Args:
        uniform: [B] in [0, 1], one number a sample; all views of a sample share their level.
        shift: of the schedule (`flow.schedule.shift_sigmas`).
        full_noise: share of the samples at s = 1, where the shifted density is thin; the lowest ``full_noise`` of the
            unit interval stands for them and the rest is stretched over it again.
        low, high: bounds the level is clamped to.

    Returns:
        [B] float32 or float64, as given.

    Raises:
        FlashWorldError: a share outside [0, 1), or bounds that are not 0 <= low < high <= 1.
    """
    if not 0 <= full_noise < 1:
        raise FlashWorldError(f"full_noise is the share of samples at noise level 1: 0 <= share < 1, got {full_noise}.")
    if not 0 <= low < high <= 1:
        raise FlashWorldError(f"Noise levels need 0 <= low < high <= 1, got {low} and {high}.")
    rest = (uniform - full_noise) / (1 - full_noise)
    return torch.where(rest < 0, 1.0, shift_sigmas(rest.clamp(0, 1), shift)).clamp(low, high)


def velocity_loss(predicted: Tensor, latents: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the predicted velocity: FlashWorld, Eq. 4, as mean (v - (eps - Z))^2.

    Args:
        predicted: [B, C, T, h, w] velocity the network gave for s eps + (1 - s) Z.
        latents: the same shape, clean latents Z.
        noise: the same shape, eps.

    Returns:
        0-d, float32.
    """
    return F.mse_loss(predicted.float(), velocity(latents, noise).float())
