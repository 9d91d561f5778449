"""Camera moves by the names film crews use, and several of them one after another."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..cameras import Cameras
from ..errors import FlashWorldError
from ..geometry import checked_rotations, intrinsics_from_vertical_fov, invert_pose, look_at, pose, rotation_about
from .keyframes import ease
from .names import PRESETS

MAX_VIEWS = 100_000


@dataclasses.dataclass(frozen=True)
class Move:
    """What a move needs to know beside progress.

    Attributes:
        amount: how far it goes, in the preset's unit.
        focus_distance: distance in world units of the point straight ahead that orbit, arc, spiral and crane look at.
        turns: number of turns of a spiral.
    """

    amount: float
    focus_distance: float
    turns: float


def _shift(progress: Tensor, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Tensor:
    direction = progress.new_tensor([x, y, z])
    return pose(torch.eye(3, dtype=progress.dtype).expand(len(progress), 3, 3), progress[:, None] * direction)


def _turn(progress: Tensor, axis: str, amount: float) -> Tensor:
    return pose(rotation_about(axis, progress * amount), progress.new_zeros(len(progress), 3))


def _circle(progress: Tensor, start_degrees: float, end_degrees: float, focus_distance: float) -> Tensor:
    """A circle about the vertical axis through the focus point; angle 0 is the identity pose, positive is right."""
    angle = start_degrees + progress * (end_degrees - start_degrees)
    rotations = rotation_about("y", -angle)
    focus = progress.new_tensor([0.0, 0.0, focus_distance])
    return pose(rotations, focus - focus_distance * rotations[:, :, 2])


def _spiral(progress: Tensor, move: Move) -> Tensor:
    end = 2 * math.pi * move.turns
    # Radius and angle grow together, which alone would speed the camera up; a table of the length of the curve
    # turns progress into angle so that views are evenly spaced.
    table = np.linspace(0.0, end, 4097)
    length = (table * np.sqrt(1 + table**2) + np.arcsinh(table)) / 2
    angle = torch.from_numpy(np.interp(progress.numpy() * length[-1], length, table))
    radius = move.amount * angle / end
    positions = torch.stack([radius * angle.cos(), -radius * angle.sin(), torch.zeros_like(angle)], dim=-1)
    return look_at(positions, (0.0, 0.0, move.focus_distance))


def _crane(progress: Tensor, move: Move) -> Tensor:
    return look_at(progress[:, None] * progress.new_tensor([0.0, -move.amount, 0.0]), (0.0, 0.0, move.focus_distance))


# (progress [V] float64 in [0, 1], move) -> [V, 4, 4] camera-to-world, by the names in `PRESETS`
_POSES: dict[str, Callable[[Tensor, Move], Tensor]] = {
    "orbit": lambda p, m: _circle(p, 0.0, m.amount, m.focus_distance),
    "arc": lambda p, m: _circle(p, -m.amount / 2, m.amount / 2, m.focus_distance),
    "dolly_in": lambda p, m: _shift(p, z=m.amount),
    "dolly_out": lambda p, m: _shift(p, z=-m.amount),
    "truck": lambda p, m: _shift(p, x=m.amount),
    "pedestal": lambda p, m: _shift(p, y=-m.amount),
    "pan": lambda p, m: _turn(p, "y", m.amount),
    "tilt": lambda p, m: _turn(p, "x", m.amount),
    "roll": lambda p, m: _turn(p, "z", m.amount),
    "spiral": _spiral,
    "crane": _crane,
    "static": lambda p, m: _shift(p),
}


def make_trajectory(
    name: str,
    *,
    views: int,
    width: int,
    height: int,
    vertical_fov_degrees: float = 60.0,
    amount: float | None = None,
    easing: str = "linear",
    focus_distance: float = 1.0,
    turns: float = 2.0,
    start: Tensor | None = None,
) -> Cameras:
    """Cameras along a preset, or along several played one after another.

    The first camera stands at the origin, level, looking along +z (``arc`` alone begins half its amount to the left,
    so that its middle does). Both ends of the move are views: a full orbit ends where it began.

    Args:
        name: a key of `PRESETS`, or several joined by "+", each with its own amount after a colon where the default
            does not suit: ``"orbit"``, ``"truck:-0.5"``, ``"orbit:45+dolly_in:0.3"``. Several moves share the views
            evenly; each continues from where the one before ended.
        views: number of cameras, at least 1.
        width, height: image size in pixels.
        vertical_fov_degrees: field of view from the image's top to its bottom.
        amount: degrees or world units, see `PRESETS`; only for a single move without an amount in its name.
        easing: of each move, see `easing.ease`.
        focus_distance: distance, in world units, of the point ahead that orbit, arc, spiral and crane face.
        turns: turns of a spiral.
        start: [4, 4] camera-to-world the path is laid from; the identity if not given.

    Returns:
        `Cameras`, float32 on the CPU.

    Raises:
        FlashWorldError: an unknown name or easing, or a value out of range.
    """
    steps = parse_moves(name)
    if amount is not None:
        if len(steps) > 1 or steps[0][1] is not None:
            raise FlashWorldError(
                f"{name[:60]!r} and amount={amount} both say how far to go; write amounts into the name, "
                "as in orbit:45+dolly_in:0.3."
            )
        steps = [(steps[0][0], amount)]
    if not 1 <= views <= MAX_VIEWS:
        raise FlashWorldError(f"views must be between 1 and {MAX_VIEWS}, got {views}.")
    if not (math.isfinite(focus_distance) and focus_distance > 0):
        raise FlashWorldError(f"focus_distance must be positive, got {focus_distance}.")
    if not (math.isfinite(turns) and turns > 0):
        raise FlashWorldError(f"turns must be positive, got {turns}.")

    time = torch.linspace(0.0, 1.0, views, dtype=torch.float64) * len(steps)  # step k is time k .. k + 1
    index = time.long().clamp_max(len(steps) - 1)
    poses = torch.zeros(views, 4, 4, dtype=torch.float64)
    origin = torch.eye(4, dtype=torch.float64) if start is None else _checked_start(start)
    for k, (step, step_amount) in enumerate(steps):
        poses_of = _POSES[step]
        step_amount = PRESETS[step].default_amount if step_amount is None else float(step_amount)
        if not math.isfinite(step_amount):
            raise FlashWorldError(f"the amount of {step} must be a finite number, got {step_amount}.")
        move = Move(step_amount, focus_distance, turns)
        here = index == k
        if k > 0:  # continue from the last pose, also with moves that begin elsewhere (arc)
            origin = origin @ invert_pose(poses_of(torch.zeros(1, dtype=torch.float64), move)[0])
        poses[here] = origin @ poses_of(ease(easing, time[here] - k), move)
        origin = origin @ poses_of(torch.ones(1, dtype=torch.float64), move)[0]

    intrinsics = intrinsics_from_vertical_fov(vertical_fov_degrees, width, height).expand(views, 3, 3)
    return Cameras(poses.float(), intrinsics.float(), width, height)


def parse_moves(text: str) -> list[tuple[str, float | None]]:
    """``"orbit:45+dolly_in"`` as [("orbit", 45.0), ("dolly_in", None)].

    Raises:
        FlashWorldError: an unknown preset, or an amount that is not a number.
    """
    moves = []
    for part in re.split(r"\+(?=\s*[A-Za-z_]|\s*$)", text):
        name, colon, amount = part.partition(":")
        name = name.strip().lower().replace("-", "_").replace(" ", "_")
        if name not in PRESETS:
            raise FlashWorldError(f"unknown preset {name[:40]!r}; choose one of {', '.join(PRESETS)}.")
        try:
            moves.append((name, float(amount) if colon else None))
        except ValueError as error:
            raise FlashWorldError(
                f"the amount of {name} must be a number of {PRESETS[name].unit or 'nothing'}, "
                f"got {amount.strip()[:40]!r}."
            ) from error
    return moves


def concatenate(paths: Sequence[Cameras]) -> Cameras:
    """Several paths as one: each is moved as a whole so that its first view is the last view of the one before.

    That shared view appears once (with the earlier path's intrinsics), so V1 + V2 + ... - (paths - 1) views come out.

    Raises:
        FlashWorldError: no paths, an empty path, or paths of different image sizes.
    """
    if not paths or any(len(path) == 0 for path in paths):
        raise FlashWorldError("at least one path is needed, and none may be empty.")
    first = paths[0]
    poses, intrinsics = [first.camera_to_world], [first.intrinsics]
    for path in paths[1:]:
        if (path.width, path.height) != (first.width, first.height):
            raise FlashWorldError(
                f"all paths must have one image size, got {first.width}x{first.height} and "
                f"{path.width}x{path.height}; use Cameras.resized first."
            )
        if len(path) == 1:  # nothing but the shared view
            continue
        # In double precision, so that long chains do not drift.
        c2w, end = path.camera_to_world.double(), poses[-1][-1].double()
        poses.append((end @ invert_pose(c2w[0]) @ c2w[1:]).to(first.camera_to_world))
        intrinsics.append(path.intrinsics[1:].to(first.intrinsics))
    return Cameras(torch.cat(poses), torch.cat(intrinsics), first.width, first.height)


def _checked_start(start: Tensor) -> Tensor:
    start = torch.as_tensor(start, dtype=torch.float64).cpu()
    if start.shape != (4, 4) or not bool(torch.isfinite(start).all()):
        raise FlashWorldError("start must be a finite [4, 4] camera-to-world matrix.")
    return pose(checked_rotations(start[:3, :3], "the rotation part of start"), start[:3, 3])
