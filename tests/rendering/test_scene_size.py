"""Scenes of every size come out alike: the same picture up to scale, wherever the pack renders."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from generating import make_request

from flashworld_core.cameras import Cameras
from flashworld_core.cli.results import path_frames
from flashworld_core.formats.scenes import read_scene, write_scene
from flashworld_core.gaussians import SCENE_SCALE
from flashworld_core.generators import load_model
from flashworld_core.ops.transform import transform, transform_cameras
from flashworld_core.rendering.maps import render_maps
from flashworld_core.rendering.render import render
from flashworld_core.trajectories.presets import make_trajectory

SCALES = (1e-4, 1e-2, 1e3, 1e6)
SIZE = {"width": 96, "height": 64}


@pytest.fixture(scope="module")
def made():
    """The embedded model's scene of a unit-sized orbit, one step."""
    cameras = make_trajectory("orbit", views=4, **SIZE)
    generation = load_model("tiny").generate(make_request(cameras, prompt="a red box in a room", steps=1))
    return generation.gaussians, cameras


def scaled(made, scale: float):
    scene, cameras = made
    return transform(scene, scale=scale), transform_cameras(cameras, scale=scale)


def alike(image, expected):
    error = (image - expected).abs()
    assert error.mean() < 1e-4 and error.quantile(0.999) < 2e-2, f"mean {error.mean():.2g}, max {error.max():.2g}"


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("known", [True, False], ids=["generated", "foreign"])
def test_render_and_maps(made, scale, known):
    def of(scale):
        scene, cameras = scaled(made, scale)
        metadata = scene.metadata if known else {}
        return dataclasses.replace(scene, metadata=metadata), cameras

    expected = render(*of(1.0), modes=("rgb", "alpha"))
    seen = render(*of(scale), modes=("rgb", "alpha"))
    alike(seen.rgb, expected.rgb)
    assert abs(float(seen.alpha.mean() - expected.alpha.mean())) < 1e-4
    maps, wanted = render_maps(*of(scale)), render_maps(*of(1.0))
    alike(maps.images, wanted.images)
    alike(maps.depth, wanted.depth)
    assert maps.nearest == pytest.approx(scale * wanted.nearest, rel=1e-2)


@pytest.mark.parametrize("scale", SCALES)
def test_files_and_the_commands_videos(made, scale, tmp_path):
    scene, cameras = scaled(made, scale)
    write_scene(tmp_path / "scene.ply", scene)
    again = read_scene(tmp_path / "scene.ply")
    assert again.metadata[SCENE_SCALE] == pytest.approx(scene.metadata[SCENE_SCALE])
    alike(path_frames(again, cameras[:2], (48, 32)), path_frames(*_two(made), (48, 32)))


def _two(made):
    return made[0], made[1][:2]


@pytest.mark.parametrize("distance", [1e-3, 1.0, 1000.0, 200_000.0])
def test_a_path_of_any_size_is_generated_alike(distance):
    """An orbit at focus_distance 1000 used to come out nearly transparent in the scene's own views."""
    cameras = make_trajectory("orbit", views=3, focus_distance=distance, **SIZE)
    made = load_model("tiny").generate(make_request(cameras, prompt="a red box in a room", steps=1))
    alpha = render(made.gaussians, made.cameras, modes=("alpha",)).alpha
    reference = load_model("tiny").generate(
        make_request(make_trajectory("orbit", views=3, **SIZE), prompt="a red box in a room", steps=1)
    )
    expected = render(reference.gaussians, reference.cameras, modes=("alpha",)).alpha
    if distance >= 1:  # the margin of 0.01 counts in shorter paths: another request
        assert abs(float(alpha.mean() - expected.mean())) < 2e-2
    assert alpha.mean() > 0.9


def test_no_gaussians_and_a_single_camera_are_no_exception():
    scene = made_of_nothing()
    cameras = Cameras(torch.eye(4)[None], torch.tensor([[[50.0, 0, 24], [0, 50, 16], [0, 0, 1]]]), 48, 32)
    assert render(scene, cameras).rgb.min() == 1


def made_of_nothing():
    from flashworld_core.gaussians import Gaussians

    return Gaussians(torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 1, 3))
