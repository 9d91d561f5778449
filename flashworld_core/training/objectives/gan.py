"""The adversarial objectives: non-saturating losses, and the gradient penalty R1 by finite differences.

A logit is how real the critic finds a place of a view; losses are averaged over views and places, not logits.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def student_loss(fake_logits: Tensor) -> Tensor:
    """What the student minimizes: mean softplus(-l(fake)). Falls as the critic is taken in."""
    return F.softplus(-fake_logits.float()).mean()


def critic_loss(fake_logits: Tensor, real_logits: Tensor) -> Tensor:
    """What the critic minimizes: mean softplus(l(fake)) + mean softplus(-l(real))."""
    return F.softplus(fake_logits.float()).mean() + F.softplus(-real_logits.float()).mean()


def approximate_r1(real_logits: Tensor, perturbed_logits: Tensor) -> Tensor:
    """Approximated R1 (APT): mean (l(x + sigma xi) - l(x))^2 over real x and xi ~ N(0, 1).

    For small sigma its expectation is sigma^2 E|grad l|^2, so a weight of lambda here is R1 of lambda sigma^2. The
    gradient flows through both logits.

    Args:
        real_logits, perturbed_logits: the same shape.
    """
    return F.mse_loss(perturbed_logits.float(), real_logits.float())
