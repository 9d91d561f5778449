"""Put an object into a scene."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import FlashWorldError
from ..gaussians import FILTER, MERGED_FROM, Gaussians
from ..geometry import rotation_about
from .merge import merge
from .transform import transform

ANCHORS = ("bottom", "middle", "origin")
_SOLID = 0.1  # opacity from which on a Gaussian counts for an object's size
_EDGE = 0.005  # share of an object's Gaussians that may lie beyond its box on each side


@dataclasses.dataclass(frozen=True)
class Placement:
    """How an object stands in a scene.

    Attributes:
        position: x, y, z in the scene's world (y points down), where the anchor goes.
        turn: degrees about the vertical; positive turns the front of an object that faces the viewer to the viewer's
            left.
        tilt: degrees about the axis to the right; positive leans the top towards the viewer of an object's front.
        roll: degrees about the axis ahead; positive turns it clockwise as the viewer of its front sees it.
        scale: factor on the object's size.
        anchor: what of the object goes to the position, one of `ANCHORS`: the middle of its lower end (before it is
            turned, so turn and tilt keep that point in place), the middle of its box, or its own origin.
    """

    position: Sequence[float] = (0.0, 0.0, 0.0)
    turn: float = 0.0
    tilt: float = 0.0
    roll: float = 0.0
    scale: float = 1.0
    anchor: str = "bottom"


def rotation_of(placement: Placement) -> Tensor:
    """[3, 3] float64: roll first, then tilt, then turn.

    Raises:
        FlashWorldError: an angle that is not finite.
    """
    rotation = torch.eye(3, dtype=torch.float64)
    for axis, degrees in (("y", placement.turn), ("x", placement.tilt), ("z", placement.roll)):
        if not math.isfinite(degrees):
            raise FlashWorldError(f"Angles must be finite numbers of degrees, got {degrees}.")
        rotation = rotation @ rotation_about(axis, torch.tensor(float(degrees), dtype=torch.float64))
    return rotation


def box(gaussians: Gaussians) -> tuple[Tensor, Tensor]:
    """Lower and upper corner [3] float64 of what shows of an object, but for strays.

    Raises:
        FlashWorldError: an empty object.
    """
    if not len(gaussians):
        raise FlashWorldError("The object is empty: it has no Gaussians.")
    means = gaussians.means.detach().double().cpu()
    solid = (gaussians.opacities.detach().cpu() >= _SOLID) & torch.isfinite(means).all(dim=1)
    means = means[solid] if bool(solid.any()) else means
    ordered, last = means.sort(dim=0).values, len(means) - 1
    return ordered[round(_EDGE * last)], ordered[round((1 - _EDGE) * last)]


def anchor_point(gaussians: Gaussians, anchor: str) -> Tensor:
    """[3] float64, in the object's own world.

    Raises:
        FlashWorldError: an unknown anchor, or an empty object.
    """
    if anchor not in ANCHORS:
        raise FlashWorldError(f"anchor must be one of {', '.join(ANCHORS)}, got {anchor!r}.")
    if anchor == "origin":
        return torch.zeros(3, dtype=torch.float64)
    low, high = box(gaussians)
    middle = (low + high) / 2
    return torch.stack([middle[0], high[1], middle[2]]) if anchor == "bottom" else middle


def placed(thing: Gaussians, placement: Placement) -> Gaussians:
    """Move an object to its place; positions, sizes, orientations and view-dependent colors follow.

    Raises:
        FlashWorldError: an empty object, an unknown anchor, or numbers that are no placement.
    """
    rotation = rotation_of(placement)
    position = torch.tensor([float(value) for value in placement.position], dtype=torch.float64)
    offset = placement.scale * (rotation @ anchor_point(thing, placement.anchor))
    return transform(thing, rotation=rotation, scale=placement.scale, translation=position - offset)


def place(scene: Gaussians, thing: Gaussians, placement: Placement) -> Gaussians:
    """Put an object into a scene.

    Returns:
        The scene's Gaussians, then the object's. Metadata are the scene's; those of both are in ``merged_from``.

    Raises:
        FlashWorldError: as `placed`.
    """
    both = merge([scene, placed(thing, placement)])
    origins = both.metadata.get(MERGED_FROM)
    metadata = {**scene.metadata, **({} if origins is None else {MERGED_FROM: origins})}
    return dataclasses.replace(both, metadata=metadata)


def filters_differ(scene: Gaussians, thing: Gaussians) -> bool:
    """Whether the two were made for different low-pass filters, so that the object is drawn with one not its own."""
    return scene.metadata.get(FILTER) != thing.metadata.get(FILTER)


def turn_towards(position: Sequence[float], viewpoint: Sequence[float]) -> float:
    """Degrees of `Placement.turn` that show an object's front at ``position`` to a viewer at ``viewpoint``.

    Straight above or below the object every turn does; that is 0.
    """
    x, z = float(viewpoint[0]) - float(position[0]), float(viewpoint[2]) - float(position[2])
    return math.degrees(math.atan2(-x, -z)) if math.hypot(x, z) > 1e-9 else 0.0
