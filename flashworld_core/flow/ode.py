"""Sampling by the probability-flow ODE with Euler steps: data from noise, one network pass or two a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .guidance import Guidance, guided

SIGMA_MIN = 1e-5  # noise left in data: x_t = (1 - t) x0 + (s + (1 - s) t) e
TIME_SCALE = 1000.0  # networks are told 1000 t


@dataclasses.dataclass(frozen=True)
class OdeStep:
    """Where a sampler is after a step.

    Attributes:
        index: the step, 0-based.
        x: [B or n, ...] state at the step's end.
        data: what the network believes in, of the same shape.
    """

    index: int
    x: Tensor
    data: Tensor


def along_time(t: Tensor, x: Tensor) -> Tensor:
    """Values of samples [B] in a shape that broadcasts over ``x`` [B, ...]."""
    return t.reshape(-1, *[1] * (x.ndim - 1))


def noised(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) x0 + (s + (1 - s) t) e, with ``t`` in a shape that broadcasts."""
    return (1 - t) * x0 + (SIGMA_MIN + (1 - SIGMA_MIN) * t) * noise


def velocity_target(x0: Tensor, noise: Tensor) -> Tensor:
    """d x_t / dt = (1 - s) e - x0."""
    return (1 - SIGMA_MIN) * noise - x0


def data_of(x: Tensor, velocity: Tensor, t: float) -> Tensor:
    """The data a velocity at x_t means: (1 - s) x - (s + (1 - s) t) v."""
    return (1 - SIGMA_MIN) * x - (SIGMA_MIN + (1 - SIGMA_MIN) * t) * velocity


def euler_samples(
    network: Callable[[Tensor, Tensor, Tensor], Tensor],
    noise: Tensor,
    condition: Tensor,
    levels: Sequence[float],
    guidance: Guidance | None = None,
    negative: Tensor | None = None,
) -> Iterator[OdeStep]:
    """Run x <- x - (t_i - t_{i+1}) v from noise to data, yielding after every step.

    Args:
        network: ``network(x, t, condition)``, the velocity at x for times t [B] in 0..1000.
        noise: the state at t = 1.
        condition: [B, ...]; its length says how many samples there are.
        levels: t_0 = 1 down to 0, as `schedule.ode_levels` makes them.
        guidance: None for none.
        negative: the condition to lead away from; None: zeros.
    """
    x, guidance = noise, guidance or Guidance()
    for index, (t, after) in enumerate(zip(levels, levels[1:], strict=False)):
        time = torch.full((len(condition),), TIME_SCALE * t, dtype=torch.float32, device=x.device)
        v = network(x, time, condition)
        if guidance.acts(t):
            other = torch.zeros_like(condition) if negative is None else negative
            v = guided(v, network(x, time, other), guidance.strength)
        data = data_of(x, v, t)
        x = x - (t - after) * v
        yield OdeStep(index, x, data)
