"""Presets: where each move goes, and several of them in a row."""

import math

import pytest
import torch

from flashworld_core.errors import FlashWorldError
from flashworld_core.trajectories.keyframes import ease
from flashworld_core.trajectories.names import EASINGS, PRESETS
from flashworld_core.trajectories.presets import concatenate, make_trajectory, parse_moves

SIZE = {"width": 64, "height": 48}
C30, S30 = math.cos(math.radians(30)), 0.5

# (amount, final position, final direction of view, final direction of the picture's right edge)
FINAL = {
    "orbit": (30, (S30, 0, 1 - C30), (-S30, 0, C30), (C30, 0, S30)),
    "arc": (60, (S30, 0, 1 - C30), (-S30, 0, C30), (C30, 0, S30)),
    "dolly_in": (0.7, (0, 0, 0.7), (0, 0, 1), (1, 0, 0)),
    "dolly_out": (0.7, (0, 0, -0.7), (0, 0, 1), (1, 0, 0)),
    "truck": (0.7, (0.7, 0, 0), (0, 0, 1), (1, 0, 0)),
    "pedestal": (0.7, (0, -0.7, 0), (0, 0, 1), (1, 0, 0)),
    "pan": (30, (0, 0, 0), (S30, 0, C30), (C30, 0, -S30)),
    "tilt": (30, (0, 0, 0), (0, -S30, C30), (1, 0, 0)),
    "roll": (30, (0, 0, 0), (0, 0, 1), (C30, S30, 0)),
    "spiral": (1, (1, 0, 0), (-math.sqrt(0.5), 0, math.sqrt(0.5)), (math.sqrt(0.5), 0, math.sqrt(0.5))),
    "crane": (1, (0, -1, 0), (0, math.sqrt(0.5), math.sqrt(0.5)), (1, 0, 0)),
    "static": (0, (0, 0, 0), (0, 0, 1), (1, 0, 0)),
}


def test_every_preset_is_tested_and_described():
    assert set(FINAL) == set(PRESETS)
    for name, preset in PRESETS.items():
        assert preset.name == name and preset.description.endswith(".")
        assert preset.unit in ("degrees", "world units") or name == "static"


@pytest.mark.parametrize("name", FINAL)
def test_where_it_ends(name):
    amount, position, forward, right = FINAL[name]
    last = make_trajectory(name, views=7, amount=amount, **SIZE).camera_to_world[-1]
    assert last[:3, 3].tolist() == pytest.approx(position, abs=1e-6)
    assert last[:3, 2].tolist() == pytest.approx(forward, abs=1e-6)
    assert last[:3, 0].tolist() == pytest.approx(right, abs=1e-6)


@pytest.mark.parametrize("name", FINAL)
def test_where_it_begins(name):
    cameras = make_trajectory(name, views=7, **SIZE)
    picture = 3 if name == "arc" else 0  # an arc has the picture in its middle
    torch.testing.assert_close(cameras.camera_to_world[picture], torch.eye(4))
    assert len(cameras) == 7 and (cameras.width, cameras.height) == (64, 48)
    assert cameras.camera_to_world.dtype == cameras.intrinsics.dtype == torch.float32
    gram = cameras.camera_to_world[:, :3, :3].transpose(1, 2) @ cameras.camera_to_world[:, :3, :3]
    torch.testing.assert_close(gram, torch.eye(3).expand_as(gram), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(FINAL) - {"static"}))
def test_sign_and_default_amount(name):
    ahead = make_trajectory(name, views=2, **SIZE)
    assert torch.equal(
        ahead.camera_to_world,
        make_trajectory(name, views=2, amount=PRESETS[name].default_amount, **SIZE).camera_to_world,
    )
    back = make_trajectory(name, views=2, amount=-PRESETS[name].default_amount, **SIZE)
    assert not torch.allclose(ahead.camera_to_world[1], back.camera_to_world[1], atol=1e-3)


@pytest.mark.parametrize("name", ["orbit", "arc", "spiral", "crane"])
def test_the_focus_stays_in_the_middle(name):
    cameras = make_trajectory(name, views=9, focus_distance=3.0, **SIZE)
    seen = cameras.world_to_camera @ torch.tensor([0.0, 0, 3, 1])
    pixel = cameras.intrinsics @ seen[:, :3, None]
    torch.testing.assert_close(
        pixel[:, :2, 0] / pixel[:, 2], torch.tensor([[32.0, 24]]).expand(9, 2), rtol=0, atol=1e-3
    )
    if name in ("orbit", "arc"):
        torch.testing.assert_close(seen[:, 2], torch.full((9,), 3.0))


def test_full_orbit_closes():
    cameras = make_trajectory("orbit:360", views=13, **SIZE)
    torch.testing.assert_close(cameras.camera_to_world[-1], torch.eye(4), rtol=0, atol=1e-6)
    torch.testing.assert_close(cameras.positions[6], torch.tensor([0.0, 0, 2]), rtol=0, atol=1e-6)
    steps = cameras.positions.diff(dim=0).norm(dim=1)
    torch.testing.assert_close(steps, steps[:1].expand_as(steps), rtol=0, atol=1e-6)


def test_spiral_is_evenly_spaced_and_turns():
    positions = make_trajectory("spiral", views=401, turns=3, amount=2.0, **SIZE).positions
    steps = positions.diff(dim=0).norm(dim=1)
    # Chords of a curve are a little shorter than its arcs where it is most curved, near the middle.
    assert float(steps[5:].max() / steps[5:].min()) < 1.01
    angle = torch.atan2(-positions[1:, 1], positions[1:, 0]).diff()
    total = torch.where(angle < -math.pi, angle + 2 * math.pi, angle).sum()
    assert float(total) == pytest.approx(6 * math.pi, abs=0.6)  # the first step's own angle is not in the sum


def test_field_of_view():
    cameras = make_trajectory("static", views=1, vertical_fov_degrees=90, **SIZE)
    assert cameras.intrinsics[0].tolist() == [[pytest.approx(24), 0, 32], [0, pytest.approx(24), 24], [0, 0, 1]]


def test_easing_shapes():
    time = torch.linspace(0, 1, 101, dtype=torch.float64)
    for name in EASINGS:
        progress = ease(name, time)
        assert progress[0] == 0 and progress[-1] == 1 and bool((progress.diff() > 0).all())
    speed = {name: ease(name, time).diff() * 100 for name in EASINGS}
    at_rest, moving = pytest.approx(0, abs=0.05), pytest.approx(2, abs=0.05)
    torch.testing.assert_close(speed["linear"], torch.ones(100, dtype=torch.float64))
    assert speed["ease_in"][0] == at_rest and speed["ease_in"][-1] == moving
    assert speed["ease_out"][0] == moving and speed["ease_out"][-1] == at_rest
    assert speed["ease_in_out"][0] == at_rest and speed["ease_in_out"][-1] == at_rest
    assert speed["ease_in_out"][50] == pytest.approx(1.5, abs=0.01)


def test_easing_moves_the_views_along_the_same_path():
    eased = make_trajectory("dolly_in:1", views=5, easing="ease_in", **SIZE).positions[:, 2]
    torch.testing.assert_close(eased, torch.tensor([0, 1 / 16, 4 / 16, 9 / 16, 1]))


def test_moves_in_a_row():
    cameras = make_trajectory("orbit:30+dolly_in:0.5", views=9, **SIZE)
    orbit = make_trajectory("orbit:30", views=5, **SIZE)
    torch.testing.assert_close(cameras.camera_to_world[:5], orbit.camera_to_world)
    forward = cameras.camera_to_world[4, :3, 2]
    expected = cameras.positions[4] + torch.linspace(0, 0.5, 5)[:, None] * forward
    torch.testing.assert_close(cameras.positions[4:], expected)
    torch.testing.assert_close(cameras.camera_to_world[4:, :3, :3], orbit.camera_to_world[-1:, :3, :3].expand(5, 3, 3))


def test_moves_in_a_row_equal_paths_concatenated():
    parts = ["pan:20", "arc:-40", "crane:0.3"]
    whole = make_trajectory("+".join(parts), views=13, easing="ease_in_out", **SIZE)
    paths = [make_trajectory(part, views=5, easing="ease_in_out", **SIZE) for part in parts]
    joined = concatenate(paths)
    assert len(joined) == 13
    torch.testing.assert_close(joined.camera_to_world, whole.camera_to_world, rtol=0, atol=1e-6)
    torch.testing.assert_close(joined.intrinsics, whole.intrinsics)


def test_moves_in_a_row_with_few_views():
    """Views that fall between moves are exact, however few there are."""
    few = make_trajectory("orbit:30+dolly_in:0.5+pan:10", views=2, **SIZE)
    many = make_trajectory("orbit:30+dolly_in:0.5+pan:10", views=31, **SIZE)
    torch.testing.assert_close(few.camera_to_world, many.camera_to_world[[0, 30]])
    assert len(make_trajectory("orbit+pan", views=1, **SIZE)) == 1


def test_start_lays_the_path_elsewhere():
    start = make_trajectory("orbit:70+crane:0.4", views=2, **SIZE).camera_to_world[1]
    path = make_trajectory("truck:2", views=3, start=start, **SIZE)
    torch.testing.assert_close(path.camera_to_world[0], start)
    torch.testing.assert_close(path.positions[2], start[:3, 3] + 2 * start[:3, 0])


def test_concatenate_one_view_paths_and_refusals():
    orbit, single = make_trajectory("orbit", views=4, **SIZE), make_trajectory("pan", views=1, **SIZE)
    assert torch.equal(concatenate([orbit, single]).camera_to_world, orbit.camera_to_world)
    torch.testing.assert_close(concatenate([single, orbit]).camera_to_world, orbit.camera_to_world)
    assert len(concatenate([orbit])) == 4
    with pytest.raises(FlashWorldError, match="one image size"):
        concatenate([orbit, orbit.resized(32, 24)])
    for paths in ([], [orbit, orbit[4:]]):
        with pytest.raises(FlashWorldError, match="at least one path"):
            concatenate(paths)


def test_parse_moves():
    assert parse_moves(" Orbit : 45 + dolly-in:-1e+2+ pan ") == [("orbit", 45.0), ("dolly_in", -100.0), ("pan", None)]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("swoop", {}, "unknown preset 'swoop'; choose one of orbit"),
        ("", {}, "unknown preset ''"),
        ("orbit+", {}, "unknown preset ''"),
        ("orbit:wide", {}, "number of degrees, got 'wide'"),
        ("orbit:nan", {}, "finite"),
        ("orbit:10+pan", {"amount": 3}, "both say how far"),
        ("orbit:10", {"amount": 3}, "both say how far"),
        ("orbit", {"views": 0}, "views"),
        ("orbit", {"views": 10**9}, "views"),
        ("orbit", {"easing": "bouncy"}, "unknown easing 'bouncy'"),
        ("orbit", {"focus_distance": 0}, "focus_distance"),
        ("spiral", {"turns": math.inf}, "turns"),
        ("orbit", {"vertical_fov_degrees": 180}, "field of view"),
        ("orbit", {"width": 0}, "image size"),
        ("orbit", {"start": torch.zeros(4, 4)}, "no rotation"),
        ("orbit", {"start": torch.eye(3)}, r"\[4, 4\]"),
    ],
)
def test_mistakes_are_named(name, options, message):
    with pytest.raises(FlashWorldError, match=message):
        make_trajectory(name, **{"views": 3, **SIZE, **options})
