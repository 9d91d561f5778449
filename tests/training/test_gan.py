"""The adversarial losses: their forms, their signs, and R1's expectation."""

import torch
import torch.nn.functional as F
from torch import nn

from flashworld_core.training.objectives.gan import approximate_r1, critic_loss, student_loss


def test_losses_are_the_softplus_forms():
    fake, real = torch.randn(3, 8, 4, 6), torch.randn(3, 8, 4, 6)
    assert torch.allclose(student_loss(fake), (1 + (-fake).exp()).log().mean())
    assert torch.allclose(critic_loss(fake, real), (1 + fake.exp()).log().mean() + (1 + (-real).exp()).log().mean())


def test_a_higher_fake_logit_helps_the_student_and_costs_the_critic():
    fake = torch.zeros(4, requires_grad=True)
    student_loss(fake).backward()
    assert (fake.grad < 0).all()
    fake.grad = None
    critic_loss(fake, torch.zeros(4)).backward()
    assert (fake.grad > 0).all()


def test_r1_of_a_linear_critic():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(50, generator=generator, requires_grad=True)
    sigma, weight = 0.1, 100.0
    x = torch.randn(100_000, 50, generator=generator)
    noise = sigma * torch.randn(x.shape, generator=generator)
    loss = weight * approximate_r1(x @ a, (x + noise) @ a)
    loss.backward()
    expected = weight * sigma**2 * a.detach().square().sum()
    assert abs(loss.item() / expected.item() - 1) < 0.02
    direction = 2 * weight * sigma**2 * a.detach()
    assert (a.grad - direction).norm() / direction.norm() < 0.05


def test_r1_tends_to_the_squared_gradient_of_a_network():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    x = torch.randn(40, 6, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(critic(x).sum(), x)
    exact = gradient.square().sum(1).mean()
    sigma, copies = 1e-3, 2000
    with torch.no_grad():
        real = x.repeat(copies, 1)
        moved = real + sigma * torch.randn_like(real)
        difference = critic(moved) - critic(real)
    estimate = F.mse_loss(difference, torch.zeros_like(difference)) / sigma**2
    assert abs(estimate / exact - 1) < 0.05
    # The function itself, which works in single precision, agrees at a sigma single precision can see.
    coarse = approximate_r1(critic(real), critic(real + 0.05 * torch.randn_like(real))) / 0.05**2
    assert abs(coarse.item() / exact.item() - 1) < 0.05
