"""Drawing an object: solids that touch, turned and scaled to fill the cube."""

from __future__ import annotations

import colorsys
import dataclasses
from typing import Literal

import numpy as np

from ...errors import FlashWorldError

SPLITS = {"train": 0, "test": 1}
EXTENT = 0.94  # longest side of an object's bounding box, in sides of the cube
LARGEST_COUNT = 4
# Toward the light, in world axes (y down), and how much of a color is left where it does not shine.
LIGHT = np.array([-0.45, -0.8, -0.4]) / np.linalg.norm([-0.45, -0.8, -0.4])
AMBIENT = 0.5


@dataclasses.dataclass(frozen=True)
class Solid:
    """An ellipsoid or a box.

    Attributes:
        kind: which of the two.
        center: [3] in world units.
        half: [3] half axes, or half sides.
        rotation: [3, 3] its own axes (columns) in world axes.
        color: [3] in [0, 1].
    """

    kind: Literal["ellipsoid", "box"]
    center: np.ndarray
    half: np.ndarray
    rotation: np.ndarray
    color: np.ndarray

    def extent(self) -> np.ndarray:
        """[3] half sides of its bounding box along the world's axes."""
        axes = self.rotation * self.half
        return np.sqrt((axes**2).sum(1)) if self.kind == "ellipsoid" else np.abs(axes).sum(1)


@dataclasses.dataclass(frozen=True)
class ProceduralObject:
    solids: tuple[Solid, ...]


def draw_object(seed: int, split: str = "train") -> ProceduralObject:
    """Draw the object of a seed; seeds of the two splits are unrelated.

    Raises:
        FlashWorldError: an unknown split, or a negative seed.
    """
    if split not in SPLITS or seed < 0:
        raise FlashWorldError(f"Objects need a split of {', '.join(SPLITS)} and a seed >= 0, got {split!r}, {seed}.")
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(7, SPLITS[split]))))
    yaw, hue = rng.uniform(0, 2 * np.pi), rng.uniform()
    solids: list[Solid] = []
    for i in range(int(rng.integers(1, LARGEST_COUNT + 1))):
        kind = "box" if rng.uniform() < 0.5 else "ellipsoid"
        half = rng.uniform(0.55, 1.0, 3) * rng.uniform(0.16, 0.3)
        turn = _about_y(yaw + (rng.uniform(-0.4, 0.4) if i else 0.0))
        center = np.zeros(3)
        if solids:
            other = solids[int(rng.integers(len(solids)))]
            axis, sign = int(rng.integers(3)), rng.choice([-1.0, 1.0])
            step = rng.uniform(-0.35, 0.35, 3) * other.half
            step[axis] = sign * (other.half[axis] + half[axis] * rng.uniform(0.35, 0.85))
            center = other.center + other.rotation @ step
        color = colorsys.hsv_to_rgb((hue + 0.27 * i + rng.uniform(0, 0.08)) % 1, rng.uniform(0.55, 0.95),
                                    rng.uniform(0.65, 0.95))  # fmt: skip
        solids.append(Solid(kind, center, half, turn, np.array(color)))
    low = np.min([s.center - s.extent() for s in solids], 0)
    high = np.max([s.center + s.extent() for s in solids], 0)
    factor, middle = EXTENT / (high - low).max(), (low + high) / 2
    return ProceduralObject(
        tuple(dataclasses.replace(s, center=(s.center - middle) * factor, half=s.half * factor) for s in solids)
    )


def shaded(color: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Colors [n, 3] under the light: the object's look everywhere, baked into its surface."""
    return color * (AMBIENT + (1 - AMBIENT) * np.clip(normals @ LIGHT, 0, None))[:, None]


def _about_y(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
