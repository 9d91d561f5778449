"""Objects in scenes: where they stand, which way they face, their colors, and where a pixel is."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch.testing import assert_close

from flashworld_core.errors import FlashWorldError
from flashworld_core.gaussians import FILTER, FIRST_VIEW, MERGED_FROM, SCENE_SCALE, Gaussians
from flashworld_core.ops.place import ANCHORS, Placement, box, filters_differ, place, placed, rotation_of, turn_towards
from flashworld_core.ops.transform import transform_cameras
from flashworld_core.rendering.pick import point_at
from flashworld_core.rendering.render import render
from flashworld_core.trajectories.presets import make_trajectory


def cloud(count=400, seed=0, degree=2, metadata=None) -> Gaussians:
    g = torch.Generator().manual_seed(seed)
    means = torch.rand(count, 3, generator=g) - 0.5
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=1)
    sh = 0.3 * torch.randn(count, (degree + 1) ** 2, 3, generator=g)
    scales = 0.02 + 0.05 * torch.rand(count, 3, generator=g)
    return Gaussians(means, quats, scales, torch.full((count,), 0.8), sh, metadata or {})


def floor() -> Gaussians:
    """A wide floor at y = 1 around z = 4."""
    x, z = torch.meshgrid(torch.arange(-3, 3.01, 0.1), torch.arange(1, 7.01, 0.1), indexing="ij")
    means = torch.stack([x, torch.ones_like(x), z], dim=-1).view(-1, 3)
    n = len(means)
    metadata = {SCENE_SCALE: 2.0, FIRST_VIEW: {"a": 1}, "seed": 3}
    scales = torch.tensor([0.06, 0.004, 0.06]).repeat(n, 1)
    return Gaussians(
        means, torch.eye(4)[:1].repeat(n, 1), scales, torch.full((n,), 0.95), torch.zeros(n, 1, 3), metadata
    )


def view_of(width, height):
    return make_trajectory("orbit", views=1, width=width, height=height)


def test_it_stands_at_its_place_whatever_way_it_is_turned():
    thing = cloud()
    for placement in (
        Placement((1.0, 2.0, 3.0)),
        Placement((1.0, 2.0, 3.0), turn=77.0, scale=0.3),
        Placement((-4.0, 0.0, 0.5), anchor="middle", roll=0.0, scale=5.0),
    ):
        low, high = box(placed(thing, placement))
        middle = (low + high) / 2
        if placement.anchor == "bottom" and placement.turn == 0:
            assert_close(torch.stack([middle[0], high[1], middle[2]]), torch.tensor(placement.position).double())
        assert abs(float(high[1]) - placement.position[1]) < 1e-5 or placement.anchor == "middle"
        size = (high - low)[1] / (box(thing)[1] - box(thing)[0])[1]
        assert float(size) == pytest.approx(placement.scale, rel=1e-4)
    origin = placed(thing, Placement((1.0, 0, 0), anchor="origin", scale=2.0))
    assert_close(origin.means, thing.means * 2 + torch.tensor([1.0, 0, 0]))


def test_the_directions_of_the_angles():
    front = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)  # an object's front faces -z
    top, right = torch.tensor([0.0, -1.0, 0.0]).double(), torch.tensor([1.0, 0.0, 0.0]).double()
    assert (rotation_of(Placement(turn=30.0)) @ front)[0] < 0, "the front turns to the viewer's left"
    assert (rotation_of(Placement(tilt=30.0)) @ top)[2] < 0, "the top leans to the viewer"
    assert (rotation_of(Placement(roll=30.0)) @ top)[0] > 0, "clockwise"
    assert (rotation_of(Placement(roll=30.0)) @ right)[1] > 0
    for angle in range(0, 360, 45):
        viewer = (2 + math.sin(math.radians(angle)), 9.0, 3 + math.cos(math.radians(angle)))
        turned = rotation_of(Placement(turn=turn_towards((2.0, 0.0, 3.0), viewer))) @ front
        assert_close(turned[[0, 2]], torch.tensor([viewer[0] - 2, viewer[2] - 3]).double(), rtol=0, atol=1e-6)
    assert turn_towards((0, 0, 0), (0, 5, 0)) == 0


def test_colors_that_depend_on_the_view_turn_along():
    """The object in its place, seen by cameras moved alike, looks as it did."""
    thing, placement = (
        cloud(),
        Placement((0.5, -1.0, 6.0), turn=40.0, tilt=20.0, roll=-65.0, scale=1.7, anchor="origin"),
    )
    cameras = make_trajectory("orbit", views=3, width=48, height=48, focus_distance=2.0)
    cameras = transform_cameras(cameras, translation=(0.0, 0.0, -2.0))
    moved = transform_cameras(cameras, rotation=rotation_of(placement), scale=1.7, translation=placement.position)
    before, after = render(thing, cameras).rgb, render(placed(thing, placement), moved).rgb
    assert_close(before, after, rtol=0, atol=2e-3)
    plain = dataclasses.replace(placed(thing, placement), sh=thing.sh)
    assert float((render(plain, moved).rgb - before).abs().max()) > 0.05, "coefficients left as they were show"


def test_both_are_in_the_result_and_the_scene_keeps_its_story():
    scene, thing = floor(), cloud(metadata={"seed": 9, SCENE_SCALE: 1.0})
    made = place(scene, thing, Placement((0.0, 1.0, 4.0), scale=0.5))
    assert len(made) == len(scene) + len(thing) and made.sh_degree == 2
    assert torch.equal(made.means[: len(scene)], scene.means)
    assert made.metadata[FIRST_VIEW] == {"a": 1} and made.metadata[SCENE_SCALE] == 2.0 and made.metadata["seed"] == 3
    assert [origin["seed"] for origin in made.metadata[MERGED_FROM]] == [3, 9]
    assert not filters_differ(scene, thing) and filters_differ(scene, cloud(metadata={FILTER: "antialiased"}))


def test_a_place_in_a_view_is_a_point_of_the_scene():
    scene = floor()
    camera = make_trajectory("orbit", views=2, width=90, height=60)[0]
    for x, y in ((0.5, 0.8), (0.25, 0.7)):
        point = point_at(scene, camera, x, y)
        assert abs(float(point[1]) - 1) < 0.05
        k = camera.intrinsics[0].double()
        assert_close((k @ point / point[2])[:2], torch.tensor([x * 90, y * 60]).double(), rtol=0, atol=1e-4)
    large = camera.resized(1800, 1200)
    assert_close(point_at(scene, large, 0.5, 0.8), point_at(scene, camera, 0.5, 0.8), rtol=0, atol=0.1)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: point_at(floor(), view_of(30, 20), 0.5, 0.1), "Nothing of the"),
        (
            lambda: point_at(floor(), view_of(30, 20), 1.5, 0.1),
            "between 0 and 1",
        ),
        (lambda: placed(cloud(), Placement(scale=0.0)), "scale must be"),
        (lambda: placed(cloud(), Placement(turn=float("nan"))), "Angles"),
        (lambda: placed(cloud(), Placement((0.0, float("inf"), 0.0))), "finite"),
        (lambda: placed(cloud(), Placement(anchor="top")), ", ".join(ANCHORS)),
        (lambda: placed(cloud()[:0], Placement()), "object is empty"),
    ],
)
def test_what_does_not_work_is_said(action, message):
    with pytest.raises(FlashWorldError, match=message):
        action()
