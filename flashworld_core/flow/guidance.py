"""Classifier-free guidance: how strong, and at which noise levels."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from ..errors import FlashWorldError


@dataclasses.dataclass(frozen=True)
class Guidance:
    """Guided velocity (1 + w) v_c - w v_n while ``low`` <= t <= ``high``, else v_c.

    Attributes:
        strength: w; 0 is the conditional velocity alone, at half the work.
        low, high: noise levels between which it acts.
    """

    strength: float = 0.0
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self):
        if not 0 <= self.strength <= 1000:
            raise FlashWorldError(f"Guidance must be 0 (none) or more, up to 1000, got {self.strength}.")
        if not 0 <= self.low <= self.high <= 1:
            raise FlashWorldError(f"The guidance interval needs 0 <= low <= high <= 1, got {self.low} and {self.high}.")

    def acts(self, t: float) -> bool:
        """Whether the unconditional velocity is needed at noise level ``t``."""
        return self.strength != 0 and self.low <= t <= self.high


def guided(conditional: Tensor, unconditional: Tensor, strength: float) -> Tensor:
    """Mix two velocities of one shape: (1 + w) v_c - w v_n."""
    return (1 + strength) * conditional - strength * unconditional
