"""Distribution matching distillation (DMD, DMD2): the student's output moves to where the teacher finds it likelier.

The gradient of the reverse Kullback-Leibler divergence between the student's distribution and the teacher's, both
blurred to a noise level, is the difference of their scores. Both scores are given as clean latents: what the teacher
and the fake score network, which tracks the student, make of the same noisy latents.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_ERROR = 1e-6
"""Lower bound of the normalizer, so that a student that meets its teacher exactly divides by something."""


def guided(conditional: Tensor, unconditional: Tensor | None, weight: float) -> Tensor:
    """Classifier-free guidance: unconditional + weight (conditional - unconditional); weight 1 is the conditional.

    Some repositories write conditional + w (conditional - unconditional): their weight is one lower for the same mix.

    Args:
        conditional, unconditional: velocities (or clean latents) of one shape; ``unconditional`` may be None where
            ``weight`` is 1.
    """
    if weight == 1.0 or unconditional is None:
        return conditional
    return unconditional + weight * (conditional - unconditional)


@torch.no_grad()
def distribution_matching_gradient(latents: Tensor, teacher: Tensor, fake: Tensor, *, normalize: bool = True) -> Tensor:
    """DMD's direction g = (Z_F - Z_T) / mean |z - Z_T| (DMD, Eq. 7 and 8), one normalizer a sample.

    Args:
        latents: [B, ...] the student's clean latents z.
        teacher: the same shape, the teacher's predicted clean latents Z_T at the noisy z.
        fake: the same shape, Z_F of the fake score network.
        normalize: divide by the teacher's mean absolute error; off it is the plain difference.

    Returns:
        [B, ...] float32; entries that are not finite are 0.
    """
    latents, teacher, fake = latents.float(), teacher.float(), fake.float()
    gradient = fake - teacher
    if normalize:
        error = (latents - teacher).abs().flatten(1).mean(1).clamp_min(SMALLEST_ERROR)
        gradient = gradient / error.view(-1, *[1] * (latents.ndim - 1))
    return torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)


def distribution_matching_loss(latents: Tensor, gradient: Tensor) -> Tensor:
    """A loss whose gradient is ``gradient`` / numel: 0.5 mean (z - sg(z - g))^2.

    Its value says nothing about progress; report mean |g| instead.

    Args:
        latents: [B, ...] the student's clean latents, with their graph.
        gradient: the same shape, from `distribution_matching_gradient`.
    """
    latents = latents.float()
    return 0.5 * F.mse_loss(latents, (latents - gradient).detach())
