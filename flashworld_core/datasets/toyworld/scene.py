"""`Scene`: what stands where in which colors, drawn from a seed. Its prompt says the same in words."""

from __future__ import annotations

import dataclasses

import numpy as np

from ...errors import FlashWorldError
from .prompt import write_prompt
from .seeds import generator
from .solids import KINDS, Solid
from .textures import Texture

SKY_RADIUS = 17.0
"""Meters from the world's origin to the sky dome: a sphere with depth like everything else."""

COLORS = {
    "red": (0.84, 0.22, 0.20),
    "orange": (0.93, 0.53, 0.18),
    "yellow": (0.94, 0.80, 0.28),
    "green": (0.32, 0.63, 0.31),
    "teal": (0.17, 0.60, 0.61),
    "blue": (0.23, 0.43, 0.82),
    "purple": (0.54, 0.34, 0.72),
    "pink": (0.92, 0.55, 0.68),
    "white": (0.93, 0.92, 0.89),
    "brown": (0.52, 0.35, 0.23),
}
GROUNDS = {
    "green": (0.50, 0.66, 0.40),
    "sandy": (0.84, 0.75, 0.57),
    "grey": (0.64, 0.65, 0.66),
    "brown": (0.62, 0.49, 0.38),
    "terracotta": (0.78, 0.54, 0.42),
    "slate": (0.48, 0.54, 0.61),
    "mint": (0.66, 0.81, 0.73),
    "cream": (0.89, 0.84, 0.73),
}
SKIES = {  # Horizon, zenith.
    "pale": ((0.92, 0.94, 0.95), (0.66, 0.79, 0.91)),
    "blue": ((0.80, 0.90, 0.97), (0.30, 0.54, 0.87)),
    "golden": ((0.99, 0.86, 0.62), (0.63, 0.68, 0.83)),
    "pink": ((0.98, 0.82, 0.80), (0.66, 0.60, 0.82)),
    "grey": ((0.83, 0.84, 0.86), (0.58, 0.61, 0.66)),
    "turquoise": ((0.85, 0.96, 0.93), (0.29, 0.68, 0.73)),
}
WALLS = {
    "cream": (0.92, 0.88, 0.78),
    "light blue": (0.72, 0.82, 0.90),
    "sage": (0.72, 0.79, 0.68),
    "rose": (0.90, 0.76, 0.74),
    "grey": (0.78, 0.79, 0.80),
    "lavender": (0.80, 0.76, 0.89),
}
SIZES = {"small": (0.52, 0.66), "": (0.76, 0.98), "large": (1.10, 1.32), "tall": (1.10, 1.38)}
"""Meters across or high, by the word the prompt uses."""
_EYE_Z = -3.4  # Where cameras stand on average: things are placed so that they can all be seen from there.


@dataclasses.dataclass(frozen=True)
class Sky:
    """Colors of the dome (RGB in [0, 1]), and how strongly (0..1) soft clouds whiten it."""

    word: str
    horizon: tuple[float, float, float]
    zenith: tuple[float, float, float]
    clouds: float
    phase: float


@dataclasses.dataclass(frozen=True)
class Room:
    """Axis-aligned inside of a room in meters (world axes, y down, floor at y = 0)."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    walls: Texture
    ceiling: tuple[float, float, float]
    walls_word: str


@dataclasses.dataclass(frozen=True)
class Scene:
    """Everything a ray needs to know. World in meters, OpenCV axes (y down), ground at y = 0, middle at the origin.

    Attributes:
        seed, split: where it came from; camera paths take their own streams from the same pair.
        solids: one to five objects, none touching another.
        ground: texture of the ground or the room's floor.
        ground_word: its color in the prompt.
        sky: outdoors, else None.
        room: indoors, else None.
        light: unit vector from a surface towards the light.
        ambient, diffuse: strengths of the two lights.
        prompt: the scene in words.
    """

    seed: int
    split: str
    solids: tuple[Solid, ...]
    ground: Texture
    ground_word: str
    sky: Sky | None
    room: Room | None
    light: tuple[float, float, float]
    ambient: float
    diffuse: float
    prompt: str


def _jitter(rng, color, amount=0.03):
    return tuple(float(c) for c in np.clip(np.add(color, rng.uniform(-amount, amount, 3)), 0.02, 0.97))


def _second(rng, color, strength):
    """A lighter or a darker tone of the color, whichever has room."""
    lighter = np.mean(color) < 0.45 or (np.mean(color) < 0.62 and rng.random() < 0.5)
    target = np.array([0.97, 0.96, 0.93]) if lighter else np.multiply(color, 0.45)
    return tuple(float(c) for c in np.add(color, strength * (target - color)))


def _choice(rng, options, weights=None):
    return options[int(rng.choice(len(options), p=weights))]


def _surface_texture(rng, color, kinds, weights, frequency, strength):
    kind = _choice(rng, kinds, weights)
    color = _jitter(rng, color)
    # A shaded surface goes all the way to its second tone: kept close, so that the named color still fits.
    second = _second(rng, color, rng.uniform(*strength) * (0.6 if kind == "shaded" else 1.0))
    angle = _choice(rng, (0.0, np.pi / 2, np.pi / 4)) if kind == "striped" else rng.uniform(0, np.pi)
    return Texture(kind, color, second, float(rng.uniform(*frequency)), float(angle), float(rng.uniform()))


def _sample_solid(rng, kind, used_colors):
    size_word = _choice(rng, tuple(SIZES), (0.24, 0.46, 0.18, 0.12))
    if size_word == "tall" and kind == "sphere":
        size_word = ""
    size = rng.uniform(*SIZES[size_word])
    squeeze = rng.uniform(0.5, 0.65) if size_word == "tall" else rng.uniform(0.85, 1.15)
    width = height = depth = size
    if kind == "box":
        width, depth = size * squeeze, size * squeeze * rng.uniform(0.8, 1.25)
        height *= 1.0 if size_word == "tall" else rng.uniform(0.7, 1.0)
    elif kind == "cylinder":
        width = depth = size * squeeze * 0.85
    elif kind == "cone":
        width = depth = size * squeeze * 0.9
    color_word = _choice(rng, [name for name in COLORS if name not in used_colors])
    kinds, weights = ("plain", "striped", "checkered", "shaded"), (0.5, 0.24, 0.12, 0.14)
    texture = _surface_texture(rng, COLORS[color_word], kinds, weights, (1.3, 2.0), (0.55, 0.8))
    yaw = float(rng.uniform(-np.pi, np.pi))
    return Solid(kind, 0.0, 0.0, yaw, float(width), float(height), float(depth), texture, size_word, color_word)


def _place(rng, solids):
    """Give each solid a free spot in sight; one that finds none in 80 tries is left out (never the first)."""
    placed: list[Solid] = []
    for solid in solids:
        spread = 0.5 if not placed else 1.0
        for attempt in range(80):
            x, z = float(rng.uniform(-1.6, 1.6) * spread), float(rng.uniform(-0.7, 1.3) * spread)
            moved = dataclasses.replace(solid, x=x, z=z)
            # Nothing touches, hides behind another for good, stands half outside, or towers in the foreground.
            apart = all(
                np.hypot(x - other.x, z - other.z) > solid.footprint_radius + other.footprint_radius + 0.12
                and abs(_bearing(moved)[0] - _bearing(other)[0]) > 0.6 * (_bearing(moved)[1] + _bearing(other)[1])
                for other in placed
            )
            middle, half = _bearing(moved)
            if (apart and abs(middle) + half < 1.85 and (z > -0.3 or solid.height < 0.95)) or (
                attempt == 79 and not placed
            ):
                placed.append(moved)
                break
    return tuple(placed)


def _bearing(solid):
    """Where the solid appears from the average camera, sideways, and half its width: meters at the origin."""
    scale = -_EYE_Z / (solid.z - _EYE_Z)
    return solid.x * scale, solid.footprint_radius * scale


def _sample_room(rng):
    word = _choice(rng, tuple(WALLS))
    kinds, weights = ("plain", "striped", "shaded"), (0.5, 0.3, 0.2)
    walls = _surface_texture(rng, WALLS[word], kinds, weights, (0.7, 1.1), (0.15, 0.3))
    walls = dataclasses.replace(walls, angle=0.0)
    half = rng.uniform(2.7, 3.6)
    low = (-half, -rng.uniform(2.6, 3.1), -5.6)
    high = (half, 0.0, rng.uniform(2.2, 3.2))
    ceiling = _jitter(rng, (0.93, 0.92, 0.90), 0.02)
    return Room(tuple(map(float, low)), tuple(map(float, high)), walls, ceiling, word)


def sample_scene(seed: int, split: str = "train") -> Scene:
    """The scene of a seed: a pure function of (seed, split).

    Draws come from the "scene" stream in the order: indoors or out, ground, room or sky, number of solids,
    each solid, their places, light, wording.

    Raises:
        FlashWorldError: unknown split or seed out of range.
    """
    rng = generator(seed, split, "scene")
    indoors = rng.random() < 0.35
    ground_word = _choice(rng, tuple(GROUNDS))
    kinds, weights = ("plain", "checkered", "striped", "mottled"), (0.25, 0.3, 0.2, 0.25)
    ground = _surface_texture(rng, GROUNDS[ground_word], kinds, weights, (0.5, 0.8), (0.22, 0.42))
    room, sky = None, None
    if indoors:
        room = _sample_room(rng)
    else:
        word = _choice(rng, tuple(SKIES))
        horizon, zenith = (_jitter(rng, color, 0.02) for color in SKIES[word])
        sky = Sky(word, horizon, zenith, float(rng.uniform(0.2, 0.5) * (rng.random() < 0.5)), float(rng.uniform()))
    solids, used = [], {ground_word} | ({room.walls_word} if room else set())
    for _ in range(_choice(rng, (1, 2, 3, 4, 5), (0.14, 0.24, 0.26, 0.20, 0.16))):
        solids.append(_sample_solid(rng, _choice(rng, KINDS), used))
        used.add(solids[-1].color_word)
    solids = _place(rng, solids)
    # The light stands on the cameras' side (z < 0), 48 to 68 degrees high, so that what is seen is lit.
    elevation, azimuth = np.radians(rng.uniform(48, 68)), np.radians(rng.uniform(-60, 60))
    light = (np.cos(elevation) * np.sin(azimuth), -np.sin(elevation), -np.cos(elevation) * np.cos(azimuth))
    ambient, diffuse = rng.uniform(0.42, 0.52), rng.uniform(0.55, 0.66)
    scene = Scene(
        seed=seed,
        split=split,
        solids=solids,
        ground=ground,
        ground_word=ground_word,
        sky=sky,
        room=room,
        light=tuple(map(float, light)),
        ambient=float(ambient),
        diffuse=float(diffuse),
        prompt="",
    )
    return dataclasses.replace(scene, prompt=write_prompt(scene, int(rng.integers(2))))


def scene_alike(scene: Scene, number: int) -> Scene:
    """Another scene with the same prompt: the same solids in new places, turned and sized anew, under another light.

    Colors and patterns stay as they are drawn; what a prompt says nothing about differs. A pure function of the scene's
    seed and split and of ``number``.

    Raises:
        FlashWorldError: no arrangement found (does not happen for sampled scenes).
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(scene.seed, spawn_key=(2, number))))
    for _ in range(64):
        solids = []
        for solid in scene.solids:
            low, high = SIZES[solid.size_word]
            size = max(solid.width, solid.height)
            scale = float(rng.uniform(low, high)) / size
            solids.append(
                dataclasses.replace(
                    solid,
                    yaw=float(rng.uniform(-np.pi, np.pi)),
                    width=solid.width * scale,
                    height=solid.height * scale,
                    depth=solid.depth * scale,
                )  # fmt: skip
            )
        placed = _place(rng, solids)
        if len(placed) == len(solids):
            azimuth = np.arctan2(scene.light[0], -scene.light[2]) + rng.uniform(-0.6, 0.6)
            flat = float(np.hypot(scene.light[0], scene.light[2]))
            light = (float(flat * np.sin(azimuth)), scene.light[1], float(-flat * np.cos(azimuth)))
            return dataclasses.replace(scene, solids=placed, light=light)
    raise FlashWorldError(f"No other arrangement of the scene of seed {scene.seed} was found; use another seed.")
