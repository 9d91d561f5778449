"""What camera moves and easings are called, their texts and default amounts: what a help text needs, without torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named move; `presets` has its poses.

    Attributes:
        name: as given to `presets.make_trajectory`.
        description: one sentence for help texts; says what a positive amount does.
        default_amount: used where the caller names none.
        unit: of the amount.
    """

    name: str
    description: str
    default_amount: float
    unit: Literal["degrees", "world units", ""]


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "orbit",
            "Circles the point ahead, facing it, starting at the picture; positive goes to the right.",
            30.0,
            "degrees",
        ),
        Preset(
            "arc",
            "Circles the point ahead from half the amount on the left to half on the right; the middle is the picture.",
            30.0,
            "degrees",
        ),
        Preset("dolly_in", "Moves straight forward.", 0.5, "world units"),
        Preset("dolly_out", "Moves straight backward.", 0.5, "world units"),
        Preset(
            "truck",
            "Moves sideways without turning; positive to the right, negative to the left.",
            0.5,
            "world units",
        ),
        Preset("pedestal", "Moves vertically without turning; positive up, negative down.", 0.5, "world units"),
        Preset("pan", "Turns on the spot; positive to the right, negative to the left.", 30.0, "degrees"),
        Preset("tilt", "Nods on the spot; positive up, negative down.", 15.0, "degrees"),
        Preset(
            "roll",
            "Rolls about the line of sight; positive clockwise, as seen by the camera operator.",
            15.0,
            "degrees",
        ),
        Preset(
            "spiral",
            "Winds outward in the plane of the picture, facing the point ahead; the amount is the final radius.",
            0.25,
            "world units",
        ),
        Preset(
            "crane",
            "Rises while keeping the point ahead in the middle of the picture; negative sinks.",
            0.5,
            "world units",
        ),
        Preset("static", "Stays where it is.", 0.0, ""),
    )
}
# Progress of a number or tensor of times in [0, 1]; see `keyframes.ease`.
EASINGS: dict[str, Callable[[Any], Any]] = {
    "linear": lambda t: t,
    "ease_in": lambda t: t * t,
    "ease_out": lambda t: t * (2 - t),
    "ease_in_out": lambda t: t * t * (3 - 2 * t),
}
