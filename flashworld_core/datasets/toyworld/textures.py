"""Two-color patterns over a surface, soft-edged and of moderate frequency."""

from __future__ import annotations

import dataclasses

import numpy as np

KINDS = ("plain", "striped", "checkered", "shaded", "mottled")


@dataclasses.dataclass(frozen=True)
class Texture:
    """A pattern that mixes two colors.

    Attributes:
        kind: one of `KINDS`; plain shows only ``primary``.
        primary: RGB in [0, 1], the color the prompt names.
        secondary: RGB in [0, 1].
        frequency: cycles per meter of the pattern (how the solids map it: `solids.surface`).
        angle: radians by which stripes and mottles turn in the (u, v) plane.
        phase: shift of the pattern, in cycles.
    """

    kind: str
    primary: tuple[float, float, float]
    secondary: tuple[float, float, float]
    frequency: float = 1.0
    angle: float = 0.0
    phase: float = 0.0


def _wave(x: np.ndarray) -> np.ndarray:
    """A square wave of period 1 in [-1, 1] whose edges are ramps of 1/16 period, kind to small images."""
    x = x - np.floor(x)
    x -= 0.5
    np.abs(x, out=x)
    x -= 0.25
    x *= 32.0
    return np.clip(x, -1.0, 1.0, out=x)


def secondary_weight(texture: Texture, u: np.ndarray, v: np.ndarray, ramp: np.ndarray | None = None):
    """Share of the secondary color at pattern coordinates.

    Args:
        u, v: float32 arrays of one shape, in cycles.
        ramp: same shape, in [0, 1]: where "shaded" goes from primary to secondary. None: a slow wave in u, v.

    Returns:
        float32 weights in [0, 1] of that shape, or the number 0 for a plain texture.
    """
    if texture.kind == "plain":
        return np.float32(0)
    cos, sin = np.float32(np.cos(texture.angle)), np.float32(np.sin(texture.angle))
    phase = np.float32(texture.phase)
    if texture.kind == "striped":
        return 0.5 + 0.5 * _wave(u * cos + v * sin + phase)
    if texture.kind == "checkered":
        return 0.5 + 0.5 * _wave(u + phase) * _wave(v + phase)
    if texture.kind == "shaded":
        if ramp is None:
            return 0.5 + 0.5 * np.sin(np.float32(2 * np.pi) * (np.float32(0.3) * (u * cos + v * sin) + phase))
        return ramp
    # Mottled: two slow waves, the second bent by the first.
    turn = np.float32(2 * np.pi)
    first = np.sin(turn * (u * cos + v * sin + phase))
    second = np.sin(turn * np.float32(0.8) * (v * cos - u * sin) + np.float32(1.3) * first + np.float32(5) * phase)
    return 0.5 + 0.25 * (first + second)
