"""Metrics on cases computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from flashworld_core.evaluation.metrics import (
    Figure,
    frechet_distance,
    gradient_energy,
    mean_of,
    psnr_db,
    ratio_of,
    spread,
    ssim,
)


def test_gradient_energy_of_stripes():
    image = torch.zeros(1, 6, 8, 3)
    image[:, :, ::2] = 0.5
    assert gradient_energy(image).item() == pytest.approx(0.25)
    assert gradient_energy(image.transpose(1, 2)).item() == pytest.approx(0.25)
    assert gradient_energy(torch.full((2, 6, 8, 3), 0.3)).tolist() == [0, 0]
    blurred = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 40, 40), 3, 1, 1).permute(0, 2, 3, 1)
    assert gradient_energy(blurred) < gradient_energy(torch.rand(1, 40, 40, 3))


def test_psnr_and_ssim():
    truth = torch.rand(2, 16, 16, 3) * 0.5
    assert psnr_db(truth + 0.1, truth).tolist() == pytest.approx([20, 20], abs=1e-4)
    assert ssim(truth, truth).tolist() == pytest.approx([1, 1])
    assert ssim(truth, 1 - truth).max() < ssim(truth + 0.05, truth).min() < 1


def test_frechet_distance_of_normal_distributions():
    torch.manual_seed(0)
    a = torch.randn(40_000, 3).double()
    b = torch.randn(40_000, 3).double() * torch.tensor([2.0, 1, 1]) + torch.tensor([0.0, 3, 0])
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, b) == pytest.approx((2 - 1) ** 2 + 9, rel=0.02)
    turn = torch.linalg.qr(torch.randn(3, 3).double())[0]
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b), rel=1e-6)


def test_errors_are_those_of_many_repetitions():
    """The standard error that is reported is how far the value scatters when everything is drawn anew."""
    torch.manual_seed(0)
    means, ratios = [], []
    for _ in range(400):
        real = 1 + torch.rand(50)
        made = 0.5 * real + 0.2 * torch.randn(50)
        means.append(mean_of(made))
        ratios.append(ratio_of(made, real))
    for found in (means, ratios):
        scatter = torch.tensor([figure.value for figure in found]).std().item()
        assert sum(figure.error for figure in found) / len(found) == pytest.approx(scatter, rel=0.1)
    assert sum(figure.value for figure in ratios) / 400 == pytest.approx(0.5, abs=0.01)
    assert mean_of(torch.tensor([3.0])) == Figure(3.0, 0.0)
    assert str(Figure(0.31234, 0.0123)) == "0.312 ± 0.012" and str(Figure(24.96, 0.4)) == "24.96 ± 0.40"


def test_spread_is_none_for_one_answer():
    image = torch.rand(4, 4, 3)
    assert spread(torch.stack([image] * 5)).item() == 0
    assert spread(torch.stack([torch.zeros(4, 4, 3), torch.ones(4, 4, 3)])).item() == pytest.approx(math.sqrt(0.5))
