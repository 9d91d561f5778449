"""Easing: how progress along a path follows time."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..errors import FlashWorldError

EASINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda t: t,
    "ease_in": lambda t: t * t,
    "ease_out": lambda t: t * (2 - t),
    "ease_in_out": lambda t: t * t * (3 - 2 * t),
}


def ease(name: str, time: Tensor) -> Tensor:
    """Progress in [0, 1] at ``time`` in [0, 1]; 0 and 1 are kept and progress never runs backwards.

    Args:
        name: "linear" (constant speed), "ease_in" (starts from rest), "ease_out" (comes to rest) or "ease_in_out"
            (both: the smoothstep 3 t^2 - 2 t^3).
        time: any shape.

    Raises:
        FlashWorldError: unknown name.
    """
    if name not in EASINGS:
        raise FlashWorldError(f"ease: unknown easing {name!r}; choose one of {', '.join(EASINGS)}.")
    return EASINGS[name](time)
