"""Eq. 4 and its noise levels; Eq. 6 and what it holds fixed."""

import math

import pytest
import torch

from flashworld_core.errors import FlashWorldError
from flashworld_core.training.objectives.consistency import cross_mode_loss
from flashworld_core.training.objectives.velocity import noise_levels, velocity_loss


def test_a_perfect_velocity_costs_nothing():
    z, noise = torch.randn(2, 3, 4, 2, 2), torch.randn(2, 3, 4, 2, 2)
    assert velocity_loss(noise - z, z, noise) == 0
    assert torch.isclose(velocity_loss(noise - z + 0.5, z, noise), torch.tensor(0.25))


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_noise_levels_follow_the_shifted_density(shift):
    u = torch.rand(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    levels = noise_levels(u, shift=shift).sort().values
    # The inverse of the shift is the distribution function: P(S <= s) = s / (shift - (shift - 1) s).
    distribution = levels / (shift - (shift - 1) * levels)
    steps = torch.arange(1, len(levels) + 1, dtype=torch.float64) / len(levels)
    distance = (distribution - steps).abs().max().item()
    assert distance < 1.63 / math.sqrt(len(levels))  # Kolmogorov-Smirnov, p = 0.01


def test_a_share_of_the_samples_is_full_noise_and_bounds_hold():
    u = torch.rand(50_000, generator=torch.Generator().manual_seed(1))
    levels = noise_levels(u, full_noise=0.1)
    assert abs((levels == 1).float().mean().item() - 0.1) < 0.005
    assert noise_levels(torch.tensor([0.0, 1.0]), full_noise=0.1).tolist() == [1.0, 1.0]
    bounded = noise_levels(u, low=0.02, high=0.98)
    assert bounded.min() == pytest.approx(0.02) and bounded.max() == pytest.approx(0.98)


def test_levels_that_make_no_sense_are_refused():
    with pytest.raises(FlashWorldError, match="share of samples"):
        noise_levels(torch.rand(2), full_noise=1.0)
    with pytest.raises(FlashWorldError, match="low < high"):
        noise_levels(torch.rand(2), low=0.9, high=0.1)


def test_consistency_holds_the_multiview_mode_fixed_unless_told_otherwise():
    rendered, multiview = torch.randn(1, 2, 3, requires_grad=True), torch.randn(1, 2, 3, requires_grad=True)
    cross_mode_loss(rendered, multiview).backward()
    assert rendered.grad.any() and multiview.grad is None
    cross_mode_loss(rendered, multiview, detach_multiview=False).backward()
    assert multiview.grad.any()
