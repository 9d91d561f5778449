"""Pictures larger than the generation views are as soft as those, not full of gaps."""

from __future__ import annotations

import pytest
import torch
from splat_scenes import make_cameras, make_gaussians

from flashworld_core.errors import FlashWorldError
from flashworld_core.gaussians import FOCAL_PX as FOCAL
from flashworld_core.rendering.constants import LOW_PASS, matching_low_pass, mean_focal
from flashworld_core.rendering.render import render


def test_the_filter_keeps_its_angle():
    cameras = make_cameras(2, 24, 16)
    made_at = {FOCAL: mean_focal(cameras)}
    assert matching_low_pass(made_at, cameras) == pytest.approx(LOW_PASS)
    assert matching_low_pass(made_at, cameras.resized(96, 64)) == pytest.approx(16 * LOW_PASS)
    assert matching_low_pass(made_at, cameras.resized(12, 8)) == LOW_PASS


@pytest.mark.parametrize("value", [None, "x", 0, -1, float("nan"), float("inf"), []])
def test_files_by_anyone_get_the_usual_filter(value):
    assert matching_low_pass({FOCAL: value}, make_cameras(1, 24, 16)) == LOW_PASS
    assert matching_low_pass({}, make_cameras(1, 24, 16)) == LOW_PASS


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_a_large_picture_shows_what_the_small_one_does(backend):
    scene, cameras = make_gaussians(300, 0, size=0.02), make_cameras(1, 24, 16)
    small = render(scene, cameras, modes=("alpha",), backend=backend).alpha
    large = cameras.resized(96, 64)
    matched = matching_low_pass({FOCAL: mean_focal(cameras)}, large)

    def error(low_pass):
        alpha = render(scene, large, modes=("alpha",), low_pass=low_pass, backend=backend).alpha
        return float((torch.nn.functional.avg_pool2d(alpha[None], 4)[0] - small).abs().mean())

    assert error(matched) < 0.5 * error(LOW_PASS)


def test_impossible_filters_are_refused():
    scene, cameras = make_gaussians(3, 0), make_cameras(1, 8, 8)
    for value in (-0.1, 0, float("nan"), float("inf")):
        with pytest.raises(FlashWorldError, match="low_pass"):
            render(scene, cameras, low_pass=value)
