"""Paths through key poses: the curve, the speed along it, and the cases that stop or only turn."""

import math

import pytest
import torch

from flashworld_core.cameras import Cameras
from flashworld_core.errors import FlashWorldError
from flashworld_core.geometry import (
    intrinsics_from_vertical_fov,
    matrices_to_quats,
    pose,
    rotation_about,
    rotation_angle,
)
from flashworld_core.trajectories import keyframes
from flashworld_core.trajectories.document import KeyPose, PathDocument, sample_document
from flashworld_core.trajectories.keyframes import Keyframe, interpolate, keyframes_from_cameras, resample
from flashworld_core.trajectories.presets import make_trajectory

SIZE = {"width": 64, "height": 48}


def key(position=(0.0, 0, 0), pan=0.0, fov=60.0, time=None):
    rotation = rotation_about("y", torch.tensor(float(pan), dtype=torch.float64))
    c2w = pose(rotation, torch.tensor(position, dtype=torch.float64))
    return Keyframe(c2w, intrinsics_from_vertical_fov(fov, 64, 48), time)


CORNERS = [(0.0, 0, 0), (1.0, 0, 0), (1.5, 1, 0), (1.4, 1, 2), (-1.0, 0.5, 2)]


def path(keys, views, **options):
    return interpolate(keys, views=views, **SIZE, **options)


def turned(cameras):
    """[V - 1] angles between neighboring views in degrees."""
    quaternions = matrices_to_quats(cameras.camera_to_world[:, :3, :3].double())
    return torch.rad2deg(rotation_angle(quaternions[:-1], quaternions[1:]))


def barry_goldman(points, segment, t):
    """Centripetal Catmull-Rom by Barry and Goldman's pyramid of linear interpolations: the slow, obvious twin."""
    before = 2 * points[0] - points[1] if segment == 0 else points[segment - 1]
    after = 2 * points[-1] - points[-2] if segment == len(points) - 2 else points[segment + 2]
    p = [before, points[segment], points[segment + 1], after]
    k = [0.0]
    for a, b in zip(p[:-1], p[1:], strict=True):
        k.append(k[-1] + math.sqrt(float((b - a).norm())))
    at = k[1] + t * (k[2] - k[1])

    def between(i, j, a, b):
        return ((k[j] - at) * a + (at - k[i]) * b) / (k[j] - k[i])

    a = [between(i, i + 1, p[i], p[i + 1]) for i in range(3)]
    b = [between(i, i + 2, a[i], a[i + 1]) for i in range(2)]
    return between(1, 2, *b)


def test_the_curve_is_centripetal_catmull_rom():
    points = torch.tensor(CORNERS, dtype=torch.float64)
    cameras = path([key(c) for c in CORNERS], 41, timing="even")
    for view in range(41):
        segment = min(view // 10, 3)
        expected = barry_goldman(points, segment, view / 10 - segment)
        torch.testing.assert_close(cameras.positions[view], expected.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("spline", ["catmull_rom", "linear"])
def test_it_passes_through_the_keys(spline):
    keys = [key(c, pan=20 * i, fov=40 + 5 * i) for i, c in enumerate(CORNERS)]
    cameras = path(keys, 5, timing="even", spline=spline)
    torch.testing.assert_close(cameras.camera_to_world, torch.stack([k.camera_to_world for k in keys]).float())
    torch.testing.assert_close(cameras.intrinsics, torch.stack([k.intrinsics for k in keys]).float())
    many = path(keys, 50, spline=spline)
    torch.testing.assert_close(many.camera_to_world[[0, -1]], cameras.camera_to_world[[0, -1]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("spline", ["catmull_rom", "linear"])
def test_constant_speed(spline):
    """Uneven keys, a turning camera: the views are evenly spaced all the same."""
    cameras = path([key(c, pan=15 * i) for i, c in enumerate(CORNERS)], 2001, spline=spline)
    steps = cameras.positions.double().diff(dim=0).norm(dim=1)
    # At the corners of straight lines one chord cuts the corner.
    kinks = 0 if spline == "catmull_rom" else 3
    assert int(((steps / steps.median() - 1).abs() > 3e-3).sum()) <= kinks


def test_straight_lines_stay_straight_and_do_not_overshoot():
    cameras = path([key((0.0, 0, 0)), key((0.0, 0, 0.01)), key((0.0, 0, 5)), key((0.0, 0, 5.01))], 300)
    assert torch.equal(cameras.positions[:, :2], torch.zeros(300, 2))
    assert bool((cameras.positions[:, 2].diff() > 0).all())


def test_turning_on_the_spot_takes_time_and_turns_evenly():
    cameras = path([key(pan=0), key(pan=10), key(pan=70)], 15)
    torch.testing.assert_close(turned(cameras), torch.full((14,), 5.0, dtype=torch.float64), rtol=0, atol=1e-3)
    assert torch.equal(cameras.positions, torch.zeros(15, 3))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_move_stop_turn_move_is_the_same_at_every_scale(scale):
    corner = (0.0, 0, scale)
    keys = [key(), key(corner), key(corner, pan=90), key((scale, 0, scale), pan=90)]
    cameras = path(keys, 358)
    moving = cameras.positions.diff(dim=0).norm(dim=1) > 1e-3 * scale / 357
    turning = turned(cameras) > 0.01
    # Each move is as long as a turn by one radian, so the quarter turn takes pi/2 of 2 + pi/2.
    assert int((turning & ~moving).sum()) == pytest.approx(357 * (math.pi / 2) / (2 + math.pi / 2), abs=2)
    assert int((moving & ~turning).sum()) == pytest.approx(357 * 2 / (2 + math.pi / 2), abs=2)
    # The pause does not bend the moves beside it.
    torch.testing.assert_close(cameras.positions[:, 1], torch.zeros(358))
    off_the_lines = torch.minimum(cameras.positions[:, 0].abs(), (cameras.positions[:, 2] - scale).abs())
    assert float(off_the_lines.max()) < 1e-6 * scale


def test_rotation_takes_the_short_way():
    cameras = path([key(pan=170), key(pan=-170)], 5)
    torch.testing.assert_close(turned(cameras), torch.full((4,), 5.0, dtype=torch.float64), rtol=0, atol=1e-3)


def test_times():
    keys = [key((0.0, 0, 0), time=10), key((0.0, 0, 1), time=11), key((0.0, 0, 2), time=14)]
    cameras = path(keys, 5, spline="linear")  # times are used where every key has one
    torch.testing.assert_close(cameras.positions[:, 2], torch.tensor([0, 1, 4 / 3, 5 / 3, 2]))
    even = path(keys, 5, spline="linear", timing="even")
    torch.testing.assert_close(even.positions[:, 2], torch.tensor([0, 0.5, 1, 1.5, 2]))


def test_easing_over_the_whole_path():
    cameras = path([key(), key((0.0, 0, 1)), key((0.0, 0, 4))], 5, easing="ease_in")
    torch.testing.assert_close(cameras.positions[:, 2], 4 * torch.tensor([0, 1, 4, 9, 16]) / 16, rtol=0, atol=1e-3)


def test_lens_changes_linearly():
    cameras = path([key(fov=40), key((0.0, 0, 1), fov=80)], 3)
    focal = cameras.intrinsics[:, 0, 0]
    torch.testing.assert_close(focal[1], (focal[0] + focal[2]) / 2)


@pytest.mark.parametrize("timing", ["constant_speed", "even"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_camera_that_stands_still(count, timing):
    cameras = path([key((1.0, 2, 3), pan=20)] * count, 4, timing=timing)
    torch.testing.assert_close(
        cameras.camera_to_world, key((1.0, 2, 3), pan=20).camera_to_world.float().expand(4, 4, 4)
    )


def test_resample():
    orbit = make_trajectory("orbit:90", views=25, **SIZE)
    finer = resample(orbit, 49)
    exact = make_trajectory("orbit:90", views=49, **SIZE)
    torch.testing.assert_close(finer.camera_to_world, exact.camera_to_world, rtol=0, atol=1e-3)
    torch.testing.assert_close(resample(orbit, 25).camera_to_world, orbit.camera_to_world, rtol=0, atol=1e-3)
    assert (finer.width, finer.height) == (64, 48)
    assert len(resample(orbit, 1)) == 1
    still = resample(orbit[:1], 6)
    torch.testing.assert_close(still.camera_to_world, orbit.camera_to_world[:1].expand(6, 4, 4))


def test_looking_at():
    frame = Keyframe.looking_at((1.0, 0, 0), (0.0, 0, 0), vertical_fov_degrees=90, time=2.0, **SIZE)
    assert frame.camera_to_world[:3, 2].tolist() == pytest.approx([-1, 0, 0])
    assert float(frame.intrinsics[1, 1]) == pytest.approx(24) and frame.time == 2.0


def test_keyframes_from_cameras():
    orbit = make_trajectory("orbit", views=3, **SIZE)
    keys = keyframes_from_cameras(orbit, [0, 1, 5])
    assert [k.time for k in keys] == [0, 1, 5]
    assert torch.equal(torch.stack([k.camera_to_world for k in keys]), orbit.camera_to_world)
    with pytest.raises(FlashWorldError, match="3 views but 2 times"):
        keyframes_from_cameras(orbit, [0, 1])


@pytest.mark.parametrize(
    ("keys", "options", "message"),
    [
        ([], {}, "at least one keyframe"),
        ([key()], {"views": 0}, "views"),
        ([key(), key((1.0, 0, 0))], {"spline": "bezier"}, "unknown spline 'bezier'"),
        ([key(), key((1.0, 0, 0))], {"timing": "soon"}, "unknown timing 'soon'"),
        ([key(), key((1.0, 0, 0))], {"easing": "bouncy"}, "unknown easing"),
        ([key(), key((1.0, 0, 0))], {"timing": "times"}, "finite time in every keyframe"),
        ([key(time=1), key((1.0, 0, 0), time=1)], {}, "must increase"),
        ([key((math.nan, 0, 0))], {}, "finite"),
        ([Keyframe(2 * torch.eye(4), torch.eye(3))], {}, "no rotation"),
        ([Keyframe(torch.eye(3), torch.eye(3))], {}, r"keyframe 0 needs a \[4, 4\] pose"),
    ],
)
def test_mistakes_are_named(keys, options, message):
    with pytest.raises(FlashWorldError, match=message):
        interpolate(keys, **{"views": 3, **SIZE, **options})


def test_result_is_a_plain_record():
    cameras = path([key(), key((1.0, 0, 0))], 3)
    assert isinstance(cameras, Cameras) and cameras.camera_to_world.dtype == torch.float32


# --- holds, loops, keys close together --------------------------------------------------------------------------------


def sampled(positions, frames=49, times=None, timing="constant_speed", loop=False):
    keys = tuple(
        KeyPose(tuple(map(float, p)), (1.0, 0.0, 0.0, 0.0), None, None if times is None else float(times[i]))
        for i, p in enumerate(positions)
    )
    document = PathDocument("catmull_rom", timing, loop, keys)
    return sample_document(document, frames=frames, width=64, height=48).positions.double()


def held_steps(positions):
    return int((positions.diff(dim=0).norm(dim=1) < 1e-6).sum())


@pytest.mark.parametrize("gap", [0.0, 1e-9])
def test_a_hold_lasts_as_long_as_its_keys_say(gap):
    keys = [(0, 0, 0), (1, 0, 0), (1, gap, 0), (2, 0, 0)]
    assert held_steps(sampled(keys)) == 16  # a third of 48 steps: as long as the average move
    assert held_steps(sampled(keys, times=[0, 1, 9, 10])) in (37, 38)  # eight tenths
    assert held_steps(sampled(keys, times=[0, 1, 9, 10], timing="times")) in (37, 38)


@pytest.mark.parametrize("gap", [1e-3, 1e-5, 1e-9])
def test_no_overshoot_on_straight_moves_beside_close_keys(gap):
    p = sampled([(0, 0, 0), (1, 0, 0), (1, gap, 0), (2, 0, 0)], 2000)
    assert -0.5 * gap <= float(p[:, 1].min()) and float(p[:, 1].max()) <= 1.5 * gap
    straight = sampled([(0, 0, 0), (1, 0, 0), (1 + gap, 0, 0), (2, 0, 0)], 2000)
    assert bool((straight[:, 0].diff() >= -1e-9).all())


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("timing", ["constant_speed", "even", "times"])
def test_a_closed_turn_has_no_seam(timing, closed):
    square = [(2, 0, 0), (0, 0, 2), (-2, 0, 0), (0, 0, -2)]
    p = sampled(square + square[:1] * closed, 1001, range(4 + closed), timing, loop=True)
    assert torch.equal(p[0], p[-1])
    radius = p.norm(dim=1)
    assert float(radius.min()) > 1.76 and float(radius.max()) < 2.001
    first, last = p[1] - p[0], p[-1] - p[-2]
    assert float(torch.nn.functional.cosine_similarity(first, last, dim=0)) > math.cos(math.radians(2))
    quarters = p[:-1].view(4, 250, 3).norm(dim=2)  # every quarter is the same curve
    torch.testing.assert_close(quarters, quarters[:1].expand(4, 250), rtol=0, atol=1e-3)


def test_many_keys_need_no_memory_for_their_samples(monkeypatch):
    keys = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).tolist()
    whole = sampled(keys, 300)
    monkeypatch.setattr(keyframes, "_SEGMENTS_AT_ONCE", 7)
    torch.testing.assert_close(sampled(keys, 300), whole, rtol=0, atol=1e-9)
