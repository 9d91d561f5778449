"""Distribution matching: its gradient by hand, its fixed point, and a case with a closed form."""

import numpy as np
import torch

from flashworld_core.flow.sample import renoise
from flashworld_core.training.objectives.dmd import (
    distribution_matching_gradient,
    distribution_matching_loss,
    guided,
)


def _affine(x, gain, offset):
    return gain * x + offset


def test_gradient_is_the_difference_of_the_scores_over_the_teachers_error():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 4, 3, 2, 3, generator=generator, dtype=torch.float64).float().requires_grad_()
    noise = torch.randn(z.shape, generator=generator).requires_grad_()
    gains = [torch.tensor(value, requires_grad=True) for value in (0.7, 0.4)]
    noisy = renoise(z, noise, torch.tensor([0.3, 0.8]))
    teacher, fake = _affine(noisy, gains[0], 0.1), _affine(noisy, gains[1], -0.2)
    distribution_matching_loss(z, distribution_matching_gradient(z, teacher, fake)).backward()

    z_, t_, f_ = (x.detach().double().numpy() for x in (z, teacher, fake))
    error = np.abs(z_ - t_).reshape(2, -1).mean(1).reshape(2, 1, 1, 1, 1)
    assert np.abs(z.grad.numpy() - (f_ - t_) / error / z_.size).max() < 1e-6 * np.abs(z.grad.numpy()).max()
    assert noise.grad is None and all(gain.grad is None for gain in gains)


def test_guidance_one_is_the_conditional_pass_and_three_the_formula():
    conditional, unconditional = torch.randn(2, 5), torch.randn(2, 5)
    assert guided(conditional, unconditional, 1.0) is conditional
    assert guided(conditional, None, 1.0) is conditional
    assert torch.equal(guided(conditional, unconditional, 3.0), unconditional + 3 * (conditional - unconditional))


def test_a_fake_score_equal_to_the_teacher_moves_nothing():
    z = torch.randn(2, 4, 3, requires_grad=True)
    teacher = torch.randn(2, 4, 3)
    distribution_matching_loss(z, distribution_matching_gradient(z, teacher, teacher.clone())).backward()
    assert not z.grad.any()


def test_a_student_that_meets_its_teacher_gets_a_finite_gradient():
    z = torch.randn(1, 6)
    gradient = distribution_matching_gradient(z, z.clone(), z + 1e-3)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 1
    broken = distribution_matching_gradient(z, z + 1, torch.full_like(z, torch.nan))
    assert not broken.any()


def _posterior_mean(noisy, sigma, mean, deviation):
    """E[x0 | sigma eps + (1 - sigma) x0] for x0 ~ N(mean, deviation^2)."""
    keep = 1 - sigma
    gain = keep * deviation**2 / (keep**2 * deviation**2 + sigma**2)
    return mean + gain * (noisy - keep * mean)


def _train_gaussian_student(normalize):
    generator = torch.Generator().manual_seed(1)
    a, b = torch.tensor(1.5, requires_grad=True), torch.tensor(-1.0, requires_grad=True)
    optimizer = torch.optim.Adam([a, b], lr=2e-2, betas=(0.9, 0.95))
    updates = 500
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = 2e-2 * (1 - update / updates)
        z = a * torch.randn(256, 64, generator=generator) + b
        sigma = torch.rand(256, 1, generator=generator).clamp(0.02, 0.98)
        noisy = sigma * torch.randn(z.shape, generator=generator) + (1 - sigma) * z.detach()
        teacher = _posterior_mean(noisy, sigma, 2.0, 0.5)
        fake = _posterior_mean(noisy, sigma, b.item(), abs(a.item()))
        gradient = distribution_matching_gradient(z, teacher, fake, normalize=normalize)
        optimizer.zero_grad()
        # The mean over 64 dimensions makes the gradient small; Adam does not mind.
        distribution_matching_loss(z, gradient).backward()
        optimizer.step()
    return abs(a.item()), b.item()


def test_a_gaussian_student_becomes_the_gaussian_of_the_data():
    for normalize in (True, False):
        deviation, mean = _train_gaussian_student(normalize)
        assert abs(deviation - 0.5) < 0.005 and abs(mean - 2) < 0.02, (normalize, deviation, mean)
