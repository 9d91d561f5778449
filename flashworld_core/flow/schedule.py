"""The shifted flow-matching schedule: tables of sigmas and timesteps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import FlashWorldError


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A falling table of noise levels, or the entries of one that a sampler uses.

    Attributes:
        sigmas: [N] float32 on the CPU, noise levels in [0, 1], falling.
        timesteps: [N] float32 on the CPU, sigmas times the number of training steps: what the network is told.

    Raises:
        FlashWorldError: tables that are empty, differ in length, leave [0, 1] or do not fall.
    """

    sigmas: Tensor
    timesteps: Tensor

    def __post_init__(self):
        if self.sigmas.ndim != 1 or self.sigmas.shape != self.timesteps.shape or not len(self.sigmas):
            raise FlashWorldError(
                "sigmas and timesteps must be [N] of one length N >= 1, got "
                f"{list(self.sigmas.shape)} and {list(self.timesteps.shape)}."
            )
        inside = bool(((self.sigmas >= 0) & (self.sigmas <= 1)).all())
        if not inside or not bool((self.sigmas[1:] < self.sigmas[:-1]).all()):
            raise FlashWorldError("sigmas must fall strictly and stay within [0, 1].")

    def __len__(self) -> int:
        return self.sigmas.shape[0]

    def select(self, indices: Sequence[int]) -> Schedule:
        """The entries at ``indices`` (0-based positions in this table, rising), as a shorter schedule.

        Raises:
            FlashWorldError: no index, an index outside the table, or indices that do not rise.
        """
        indices = [int(i) for i in indices]
        if not indices:
            raise FlashWorldError("No schedule index given; at least one step is needed.")
        outside = [i for i in indices if not 0 <= i < len(self)]
        if outside:
            raise FlashWorldError(f"Schedule index {outside[0]} is outside 0..{len(self) - 1}.")
        if any(b <= a for a, b in zip(indices, indices[1:], strict=False)):
            raise FlashWorldError(f"Schedule indices must rise (noise must fall), got {indices}.")
        return Schedule(self.sigmas[indices], self.timesteps[indices])

    def evenly(self, steps: int) -> Schedule:
        """``steps`` entries at the positions floor(i * N / steps): the first is always entry 0."""
        if not 1 <= steps <= len(self):
            raise FlashWorldError(f"Schedule.evenly: steps must be 1..{len(self)}, got {steps}.")
        return self.select([i * len(self) // steps for i in range(steps)])


def shift_sigmas(sigmas: Tensor, shift: float) -> Tensor:
    """Noise levels pushed towards 1: shift * s / (1 + (shift - 1) * s); shift 1 changes nothing.

    Larger pictures need more noise to lose their large shapes; the shift is how much more.
    """
    if not shift > 0:
        raise FlashWorldError(f"shift must be positive, got {shift}.")
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def shifted_schedule(shift: float = 3.0, entries: int = 1000) -> Schedule:
    """The table flow-matching models are trained on: s_k = (N - k) / N, shifted; no trailing zero.

    Computed in float32 in this order of operations, because networks are sensitive to the last bit of the timestep's
    sinusoid: entry 250 of the 1000-entry shift-3 table is 0.8999999761581421, timestep 900.

    Args:
        shift: see `shift_sigmas`.
        entries: N, the number of training steps; timesteps are sigma * N.
    """
    if entries < 1:
        raise FlashWorldError(f"entries must be at least 1, got {entries}.")
    sigmas = shift_sigmas(torch.arange(entries, 0, -1, dtype=torch.float32) / entries, shift)
    return Schedule(sigmas, sigmas * entries)


def ode_levels(steps: int, shift: float = 3.0) -> list[float]:
    """Noise levels t_0 = 1 > ... > t_steps = 0 of an ODE sampler: u_i even from 1 to 0, then `shift_sigmas`.

    In double precision. Two steps with shift 3 visit 1, 0.75 and 0.
    """
    if not 1 <= steps <= 1000:
        raise FlashWorldError(f"steps must be 1..1000, got {steps}.")
    return shift_sigmas(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift).tolist()
