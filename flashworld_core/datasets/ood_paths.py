"""Camera paths for out-of-distribution training, where there is a picture or a prompt but no clip.

A path is one of three: the cameras of a clip of another set, a move of WorldScore's, or a preset of ours with a random
amount. Paths of moves and presets begin at the origin, looking along +z; one unit is the distance of what they look at.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..cameras import Cameras
from ..geometry import (
    intrinsics_from_vertical_fov,
    matrices_to_quats,
    pose,
    quats_to_matrices,
    rotation_about,
    slerp,
)
from ..trajectories.presets import make_trajectory

FIELD_OF_VIEW = (45.0, 75.0)
"""Degrees, vertical, of paths that bring no lens of their own."""
SHIFT, TURN = 0.06, 2.0
"""Novel views lie off the path by up to this share of its reach along each axis, and this many degrees."""
KINDS = {"clip": 1.0, "worldscore": 1.0, "preset": 1.0}
"""How often each kind of path is drawn."""

# WorldScore's moves as the pose they end at: degrees turned to the right, and x, y, z. Its moves are half a unit, its
# orbits and pans 30 degrees, and "pull" goes 0.3 units aside and back while it turns.
_HALF = math.sin(math.radians(30)), 1 - math.cos(math.radians(30))
WORLDSCORE = {
    "push_in": (0, (0, 0, 0.5)),
    "pull_out": (0, (0, 0, -0.5)),
    "move_left": (0, (-0.5, 0, 0)),
    "move_right": (0, (0.5, 0, 0)),
    "orbit_left": (30, (-_HALF[0], 0, _HALF[1])),
    "orbit_right": (-30, (_HALF[0], 0, _HALF[1])),
    "pan_left": (-30, (0, 0, 0)),
    "pan_right": (30, (0, 0, 0)),
    "pull_left": (30, (-0.3, 0, -0.3)),
    "pull_right": (-30, (0.3, 0, -0.3)),
    "fixed": (0, (0, 0, 0)),
}
# Presets with the range their amount is drawn from.
PRESETS = {
    "orbit": (10, 60),
    "arc": (10, 60),
    "dolly_in": (0.15, 0.6),
    "dolly_out": (0.15, 0.6),
    "truck": (0.15, 0.6),
    "pedestal": (0.1, 0.4),
    "crane": (0.1, 0.5),
    "spiral": (0.1, 0.3),
}
_EITHER_WAY = ("orbit", "arc", "truck", "pedestal", "crane")


def worldscore_path(name: str, views: int) -> Tensor:
    """[views, 4, 4] float64 poses of a WorldScore move: positions linear, rotations slerped."""
    degrees, end = WORLDSCORE[name]
    turned = rotation_about("y", torch.tensor(float(degrees), dtype=torch.float64))
    both = pose(torch.stack([torch.eye(3, dtype=torch.float64), turned]), torch.tensor([(0, 0, 0), end]).double())
    return along(both, np.linspace(0, 1, views))


def preset_path(rng: np.random.Generator, views: int) -> Tensor:
    """[views, 4, 4] float64 poses of one of our presets by a random amount."""
    name = list(PRESETS)[int(rng.integers(len(PRESETS)))]
    amount = float(rng.uniform(*PRESETS[name]))
    if name in _EITHER_WAY and rng.random() < 0.5:
        amount = -amount
    easing = ("linear", "ease_in_out")[int(rng.integers(2))]
    made = make_trajectory(name, views=views, width=1, height=1, amount=amount, easing=easing)
    return made.camera_to_world.double()


def along(poses: Tensor, places: np.ndarray) -> Tensor:
    """[P, 4, 4] poses at places 0 .. 1 of a path [V, 4, 4]; between views positions are linear, rotations slerped."""
    place = torch.from_numpy(np.asarray(places, dtype=np.float64)) * (len(poses) - 1)
    left = place.long().clamp(0, max(len(poses) - 2, 0))
    right = (left + 1).clamp_max(len(poses) - 1)
    share = place - left
    quats = matrices_to_quats(poses[:, :3, :3].double())
    positions = torch.lerp(poses[left, :3, 3].double(), poses[right, :3, 3].double(), share[:, None])
    return pose(quats_to_matrices(slerp(quats[left], quats[right], share)), positions)


def between(rng: np.random.Generator, poses: Tensor, count: int) -> Tensor:
    """[count, 4, 4] novel poses: evenly spaced between the views of a path, each moved off it a little."""
    if not count:
        return poses.new_zeros(0, 4, 4, dtype=torch.float64)
    made = along(poses, (np.arange(count) + 0.5) / count)
    reach = float((poses[:, :3, 3] - poses[0, :3, 3]).norm(dim=1).max())
    made[:, :3, 3] += torch.from_numpy(rng.uniform(-SHIFT, SHIFT, (count, 3))) * reach
    yaw, pitch = torch.from_numpy(rng.uniform(-TURN, TURN, (2, count)))
    made[:, :3, :3] = rotation_about("y", yaw) @ made[:, :3, :3] @ rotation_about("x", pitch)
    return made


def made_up_path(rng: np.random.Generator, kind: str, views: int, width: int, height: int) -> tuple[Cameras, int]:
    """A path of a move or preset, and the view a picture is given at: the first of WorldScore's, else any."""
    if kind == "worldscore":
        poses, index = worldscore_path(list(WORLDSCORE)[int(rng.integers(len(WORLDSCORE)))], views), 0
    else:
        poses, index = preset_path(rng, views), int(rng.integers(views))
    k = intrinsics_from_vertical_fov(float(rng.uniform(*FIELD_OF_VIEW)), width, height).expand(views, 3, 3)
    return Cameras(poses, k.clone(), width, height), index
