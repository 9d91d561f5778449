"""Camera paths through a few key poses: a smooth curve for the position, slerp for the rotation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..cameras import Cameras
from ..errors import FlashWorldError
from ..geometry import (
    UP,
    checked_rotations,
    intrinsics_from_vertical_fov,
    look_at,
    matrices_to_quats,
    pose,
    quats_to_matrices,
    rotation_angle,
    slerp,
)
from .names import EASINGS

MAX_VIEWS = 100_000
_TABLE = 256  # samples per segment when the length of the path is measured
_SEGMENTS_AT_ONCE = 1024  # of which samples are kept in memory
HOLD = 1e-6  # two keys whose poses differ by less, relative to the average move (or in radians), are a hold
MAX_TANGENT = 3.0  # times the shorter of the two moves that meet at a key; more can overshoot (Fritsch, Carlson 1980)
Timing = Literal["constant_speed", "even", "times"]


@dataclasses.dataclass(frozen=True)
class Keyframe:
    """One pose the camera passes through.

    Attributes:
        camera_to_world: [4, 4] rigid, OpenCV axes, world units.
        intrinsics: [3, 3] pinhole matrix in pixels.
        time: seconds since any origin, or None.
    """

    camera_to_world: Tensor
    intrinsics: Tensor
    time: float | None = None

    @classmethod
    def looking_at(
        cls, position, target, *, vertical_fov_degrees: float, width: int, height: int, up=UP, time: float | None = None
    ) -> Keyframe:
        """A key pose by where it stands and what it looks at (see `poses.look_at`)."""
        intrinsics = intrinsics_from_vertical_fov(vertical_fov_degrees, width, height)
        return cls(look_at(position, target, up), intrinsics, time)


def keyframes_from_cameras(cameras: Cameras, times: Sequence[float] | None = None) -> list[Keyframe]:
    """Every view of a path as a key pose.

    Raises:
        FlashWorldError: not one time per view.
    """
    if times is not None and len(times) != len(cameras):
        raise FlashWorldError(f"{len(cameras)} views but {len(times)} times.")
    return [
        Keyframe(cameras.camera_to_world[i], cameras.intrinsics[i], None if times is None else float(times[i]))
        for i in range(len(cameras))
    ]


def interpolate(
    keyframes: Sequence[Keyframe],
    *,
    views: int,
    width: int,
    height: int,
    spline: Literal["catmull_rom", "linear"] = "catmull_rom",
    timing: Timing | None = None,
    easing: str = "linear",
    loop: bool = False,
) -> Cameras:
    """A path of ``views`` cameras through key poses; it begins at the first and ends at the last of them.

    Positions follow a centripetal Catmull-Rom curve (smooth, without loops or overshoot) or straight lines, rotations
    the shortest slerp, intrinsics a straight line. Where two neighboring keys stand at the same place the camera
    stops, turns, and moves on. Two neighboring keys of one pose are a hold: the camera rests there.

    Args:
        keyframes: at least one; one gives a camera that stands still.
        views: number of cameras.
        width, height: image size in pixels the key intrinsics belong to.
        spline: curve of the positions.
        timing: how time is shared. "constant_speed": evenly along the length of the path; turning on the spot counts
            as length too, one radian as much as the average move between two keys. A hold lasts as long as the times
            of its keys say, if every key has one, else as long as the average move. "even": the same share for every
            pair of keys. "times": by the keys' own times. Default: "times" if every key has one, else
            "constant_speed".
        easing: over the whole path, see `ease`.
        loop: the last key stands where the first does, and the curve passes it as it passes every other key.

    Returns:
        `Cameras`, float32 on the CPU.

    Raises:
        FlashWorldError: no keys, bad matrices, missing or unsorted times, or an unknown choice.
    """
    if not 1 <= views <= MAX_VIEWS:
        raise FlashWorldError(f"views must be between 1 and {MAX_VIEWS}, got {views}.")
    path = _Path(keyframes, spline, loop)
    if timing is None:
        timing = "times" if all(key.time is not None for key in keyframes) else "constant_speed"
    progress = ease(easing, torch.linspace(0.0, 1.0, views, dtype=torch.float64))
    c2w, intrinsics = path.at(path.parameters(progress, timing))
    return Cameras(c2w.float(), intrinsics.float(), width, height)


def resample(
    cameras: Cameras,
    views: int,
    *,
    spline: Literal["catmull_rom", "linear"] = "catmull_rom",
    timing: Timing = "constant_speed",
    easing: str = "linear",
) -> Cameras:
    """The same path with another number of cameras (see `interpolate`)."""
    return interpolate(
        keyframes_from_cameras(cameras),
        views=views,
        width=cameras.width,
        height=cameras.height,
        spline=spline,
        timing=timing,
        easing=easing,
    )


class _Path:
    """Key poses as a continuous curve over the parameter 0 .. keys - 1 (key i is at parameter i)."""

    def __init__(self, keyframes: Sequence[Keyframe], spline: str, loop: bool = False):
        if not keyframes:
            raise FlashWorldError("at least one keyframe is needed.")
        if spline not in ("catmull_rom", "linear"):
            raise FlashWorldError(f"unknown spline {spline!r}; choose catmull_rom or linear.")
        for i, key in enumerate(keyframes):
            if key.camera_to_world.shape != (4, 4) or key.intrinsics.shape != (3, 3):
                raise FlashWorldError(f"keyframe {i} needs a [4, 4] pose and [3, 3] intrinsics.")
        c2w = torch.stack([key.camera_to_world.double().cpu() for key in keyframes])
        self.intrinsics = torch.stack([key.intrinsics.double().cpu() for key in keyframes])
        if not (torch.isfinite(c2w).all() and torch.isfinite(self.intrinsics).all()):
            raise FlashWorldError("keyframes must hold finite numbers.")
        self.times = [key.time for key in keyframes]
        self.positions = c2w[:, :3, 3]
        self.quaternions = matrices_to_quats(checked_rotations(c2w[:, :3, :3], "the rotation of keyframes"))
        self.tangent_out, self.tangent_in = _tangents(self.positions, spline, loop)

    @property
    def segments(self) -> int:
        return len(self.positions) - 1

    def at(self, parameter: Tensor) -> tuple[Tensor, Tensor]:
        """Poses [V, 4, 4] and intrinsics [V, 3, 3] at [V] parameters."""
        if self.segments == 0:
            still = pose(quats_to_matrices(self.quaternions), self.positions)
            return still.expand(len(parameter), 4, 4), self.intrinsics.expand(len(parameter), 3, 3)
        i = parameter.long().clamp(0, self.segments - 1)
        t = parameter - i
        quaternions = slerp(self.quaternions[i], self.quaternions[i + 1], t)
        intrinsics = torch.lerp(self.intrinsics[i], self.intrinsics[i + 1], t[:, None, None])
        return pose(quats_to_matrices(quaternions), self.position_at(i, t)), intrinsics

    def position_at(self, i: Tensor, t: Tensor) -> Tensor:
        """[V, 3] positions at fraction t [V] of segments i [V]: a cubic Hermite curve."""
        t = t[:, None]
        start, end = self.positions[i], self.positions[i + 1]
        return (
            start
            + t * t * (3 - 2 * t) * (end - start)
            + t * (1 - t) ** 2 * self.tangent_out[i]
            - t * t * (1 - t) * self.tangent_in[i]
        )

    def parameters(self, progress: Tensor, timing: str) -> Tensor:
        """[V] parameters at [V] progress in [0, 1]."""
        if self.segments == 0:
            return progress
        if timing == "even":
            return progress * self.segments
        if timing == "times":
            if any(time is None or not math.isfinite(time) for time in self.times):
                raise FlashWorldError('timing "times" needs a finite time in every keyframe.')
            times = np.array(self.times, dtype=np.float64)
            if not (np.diff(times) > 0).all():
                raise FlashWorldError("keyframe times must increase from each key to the next.")
            wanted = times[0] + progress.numpy() * (times[-1] - times[0])
            return torch.from_numpy(np.interp(wanted, times, np.arange(len(times), dtype=np.float64)))
        if timing == "constant_speed":
            return self._by_length(progress)
        raise FlashWorldError(f"unknown timing {timing!r}; choose constant_speed, even or times.")

    def _by_length(self, progress: Tensor) -> Tensor:
        """Parameters at which a traveler of constant speed arrives after ``progress`` of the whole length."""
        turned = rotation_angle(self.quaternions[:-1], self.quaternions[1:])  # [segments]
        pieces = range(0, self.segments, _SEGMENTS_AT_ONCE)
        moved = torch.cat([self._moved(slice(k, k + _SEGMENTS_AT_ONCE)).sum(dim=1) for k in pieces])
        held = (moved <= HOLD * moved.mean()) & (turned <= HOLD)
        if bool(held.all()):  # all keys are one pose
            return progress * self.segments
        traveling = moved[(moved > 0) & ~held]
        per_radian = traveling.mean() if len(traveling) else moved.new_ones(())

        def steps(chosen: slice | Tensor) -> Tensor:
            """[n, _TABLE] lengths within segments. The larger of moving and turning, not their sum: the speed of a
            camera that moves and turns a little is its own speed. Slerp is even."""
            return torch.maximum(self._moved(chosen), turned[chosen, None] / _TABLE * per_radian)

        lengths = torch.cat([steps(slice(k, k + _SEGMENTS_AT_ONCE)).sum(dim=1) for k in pieces])
        lengths[held] = self._hold_lengths(held, lengths[~held])
        ends = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        wanted = progress * ends[-1]
        segment = (torch.searchsorted(ends, wanted, right=True) - 1).clamp(0, self.segments - 1)
        # Only the segments that a view falls into are looked at again, so memory does not grow with the keys.
        parameter = torch.empty_like(wanted)
        table = torch.linspace(0, 1, _TABLE + 1, dtype=torch.float64).numpy()
        order = segment.argsort(stable=True)
        for begin in range(0, len(order), _SEGMENTS_AT_ONCE):
            views = order[begin : begin + _SEGMENTS_AT_ONCE]
            used, which = torch.unique(segment[views], return_inverse=True)
            within = torch.nn.functional.pad(steps(used).cumsum(dim=1), (1, 0))
            within = torch.where(held[used, None], lengths[used, None] * torch.from_numpy(table), within)
            for i in range(len(used)):
                here = views[which == i]
                along = (wanted[here] - ends[used[i]]).numpy()
                parameter[here] = float(used[i]) + torch.from_numpy(np.interp(along, within[i].numpy(), table))
        return parameter

    def _moved(self, chosen: slice | Tensor) -> Tensor:
        """[n, _TABLE] lengths of the steps through some segments."""
        i = torch.arange(self.segments)[chosen].repeat_interleave(_TABLE + 1)
        table = torch.linspace(0, 1, _TABLE + 1, dtype=torch.float64).repeat(len(i) // (_TABLE + 1))
        return self.position_at(i, table).view(-1, _TABLE + 1, 3).diff(dim=1).norm(dim=-1)

    def _hold_lengths(self, held: Tensor, others: Tensor) -> Tensor:
        """Lengths that stand for the time of the holds, beside the ``others`` of the segments in which something moves.

        By the keys' times, which give holds their share of the whole time; without them, the average of the others.
        """
        times = self.times
        if all(time is not None and math.isfinite(time) for time in times):
            spans = torch.tensor(times, dtype=torch.float64).diff()
            if bool((spans > 0).all()):
                return others.sum() * spans[held] / spans[~held].sum()
        return others.mean().expand(int(held.sum()))


def _tangents(positions: Tensor, spline: str, loop: bool = False) -> tuple[Tensor, Tensor]:
    """Hermite tangents at the start and at the end of each segment, per unit of the segment's own parameter.

    Centripetal Catmull-Rom: knots are spaced by the square root of the distance between keys (Yuksel et al. 2011,
    "Parameterization and applications of Catmull-Rom curves", alpha = 1/2). Where the moves that meet at a key are of
    very different length, the velocity there is limited (`MAX_TANGENT`): a long move would swing aside beside two
    keys close together. Beyond the ends, and where the camera pauses on a repeated position, the neighbor is
    mirrored, so a pause does not bend the curve. In a loop the last segment and the first are neighbors.

    Returns:
        two [K - 1, 3] tensors.
    """
    step = positions.diff(dim=0)  # [K - 1, 3]
    if spline == "linear" or len(step) == 0:
        return step, step
    knot = step.norm(dim=-1).sqrt()  # [K - 1]
    before = torch.arange(len(step)) - 1  # the segment that ends where this one starts
    velocity = _key_velocities(step[before], knot[before], step, knot)  # [K - 1, 3]; at index 0 the loop's seam
    starts, ends = step.clone(), step.clone()
    meeting = (knot > 0) & (knot[before] > 0)
    if not loop:
        meeting[0] = False
    starts[meeting] = knot[meeting, None] * velocity[meeting]
    ends[before[meeting]] = knot[before[meeting], None] * velocity[meeting]
    return starts, ends


def _key_velocities(step_in: Tensor, knot_in: Tensor, step_out: Tensor, knot_out: Tensor) -> Tensor:
    """[n, 3] velocities at keys, per unit of knot, between the moves to and from them; NaN beside moves of length 0."""
    knot_in, knot_out = knot_in[:, None], knot_out[:, None]
    velocity = step_in / knot_in + step_out / knot_out - (step_in + step_out) / (knot_in + knot_out)
    shorter, longer = torch.minimum(knot_in, knot_out), torch.maximum(knot_in, knot_out)
    limit = MAX_TANGENT * shorter.square() / longer
    return velocity * (limit / velocity.norm(dim=1, keepdim=True)).clamp_max(1.0)


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
        raise FlashWorldError(f"unknown easing {name!r}; choose one of {', '.join(EASINGS)}.")
    return EASINGS[name](time)
