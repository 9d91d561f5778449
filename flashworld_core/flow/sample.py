"""Steps along a flow: re-noising, the Euler step, and what a velocity says about data and noise.

Every function takes tensors [B, ...] and sigma as a float, a 0-d tensor or [B] (one noise level per sample), and works
and answers in float32 (float64 if the input is), whatever the network's own precision.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import FlashWorldError


def _prepare(sigma: float | Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Sigma shaped to broadcast over all but the first axis, and the tensors, in the working precision."""
    x = tensors[0]
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    sigma = torch.as_tensor(sigma).to(x.device, dtype)
    if sigma.ndim == 1 and len(sigma) in (1, len(x)):
        sigma = sigma.reshape(-1, *[1] * (x.ndim - 1))
    elif sigma.ndim != 0:
        raise FlashWorldError(
            f"flow: sigma must be one number or one per sample ([{len(x)}]), got shape {list(sigma.shape)}."
        )
    return sigma, *(t.to(dtype) for t in tensors)


def renoise(x0: Tensor, noise: Tensor, sigma: float | Tensor) -> Tensor:
    """Data brought to noise level sigma: sigma * noise + (1 - sigma) * x0."""
    sigma, x0, noise = _prepare(sigma, x0, noise)
    return sigma * noise + (1 - sigma) * x0


def velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """The training target, d x_sigma / d sigma = noise - x0."""
    _, x0, noise = _prepare(0.0, x0, noise)
    return noise - x0


def x0_from_velocity(x: Tensor, velocity: Tensor, sigma: float | Tensor) -> Tensor:
    """Return the predicted clean sample x0, x - sigma * velocity."""
    sigma, x, velocity = _prepare(sigma, x, velocity)
    return x - sigma * velocity


def noise_from_velocity(x: Tensor, velocity: Tensor, sigma: float | Tensor) -> Tensor:
    """Return the predicted noise, x + (1 - sigma) * velocity."""
    sigma, x, velocity = _prepare(sigma, x, velocity)
    return x + (1 - sigma) * velocity


def velocity_from_x0(x: Tensor, x0: Tensor, sigma: float | Tensor) -> Tensor:
    """The velocity that leads from x back to x0, (x - x0) / sigma.

    Raises:
        FlashWorldError: a sigma of 0, where data says nothing about the velocity.
    """
    sigma, x, x0 = _prepare(sigma, x, x0)
    if not bool((sigma > 0).all()):
        raise FlashWorldError("sigma must be above 0; at 0 the velocity is undefined.")
    return (x - x0) / sigma


def euler_step(x: Tensor, velocity: Tensor, sigma: float | Tensor, sigma_next: float | Tensor) -> Tensor:
    """One step of the probability-flow ODE, x + (sigma_next - sigma) * velocity."""
    sigma, x, velocity = _prepare(sigma, x, velocity)
    sigma_next, x = _prepare(sigma_next, x)
    return x + (sigma_next - sigma) * velocity
