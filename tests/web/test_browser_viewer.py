"""The splat viewer in a browser, against the Python renderer at the same cameras."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from viewer_tools import BACKGROUND, POSES, cameras, keep, picture, psnr, reference, scene

from flashworld_core.gaussians import Gaussians
from flashworld_core.rendering.constants import LOW_PASS, matching_low_pass, mean_focal
from flashworld_core.rendering.maps import colorize_depth
from flashworld_core.rendering.render import render

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_pixels_agree_with_the_python_renderer(viewer, shots, degree):
    gaussians = scene(degree=degree)
    viewer.open("one", gaussians)
    for i, view in enumerate(POSES):
        seen, wanted = viewer.see("one", view), reference(gaussians, view)
        assert seen.shape == wanted.shape
        keep(shots, f"degree{degree}_{i}", seen, wanted)
        assert psnr(seen, wanted) > 42, (degree, i)


def test_each_degree_of_the_harmonics_is_seen(viewer):
    gaussians = scene()
    viewer.open("one", gaussians)
    viewer.see("one", POSES[2])
    pictures = [picture(viewer.call("set", "one", {"degree": degree})) for degree in range(4)]
    for degree, seen in enumerate(pictures):
        assert psnr(seen, reference(gaussians, POSES[2], sh_degree=degree)) > 42, degree
        assert degree == 0 or psnr(seen, pictures[degree - 1]) < 40, degree


def test_large_faint_thin_and_far_gaussians(viewer, shots):
    """What quantization, the low-pass and the clamped Jacobian could get wrong."""
    g = torch.Generator().manual_seed(5)
    n = 3000
    depth = torch.rand(n, generator=g) * 6 + 0.2
    across = (torch.rand(n, 2, generator=g) - 0.5) * torch.tensor([4.0, 3.0]) * depth[:, None]
    scales = torch.exp(torch.randn(n, 3, generator=g) * 1.5 - 4) * depth[:, None]
    scales[::7, 0] = 0
    scales[::50] *= 20
    opacities = torch.rand(n, generator=g) ** 2
    opacities[::5] = 1.0
    sh = torch.randn(n, 1, 3, generator=g)
    quats = torch.randn(n, 4, generator=g)
    means = torch.cat([across, depth[:, None]], 1)
    means[::13] *= 100
    scales[::13] *= 100
    gaussians = Gaussians(means, quats, scales, opacities, sh)
    viewer.open("one", gaussians)
    for i in (0, 1):
        seen, wanted = viewer.see("one", POSES[i]), reference(gaussians, POSES[i])
        keep(shots, f"extremes_{i}", seen, wanted)
        assert psnr(seen, wanted) > 36, i


@pytest.mark.parametrize("size", [1e-4, 1e6])
def test_scenes_of_any_size_are_seen(viewer, size):
    made = scene()
    gaussians = dataclasses.replace(made, means=made.means * size, scales=made.scales * size)
    viewer.open("one", gaussians)
    assert psnr(viewer.see("one", POSES[0]), reference(gaussians, POSES[0])) > 42
    depth = picture(viewer.call("set", "one", {"mode": "depth"}))
    viewer.open("unit", made)
    viewer.see("unit", POSES[0])
    assert psnr(depth, picture(viewer.call("set", "unit", {"mode": "depth"}))) > 42


def test_generated_scenes_are_as_soft_as_their_own_views(viewer, shots):
    made_at = 0.25 * mean_focal(cameras(POSES[1]))
    gaussians = dataclasses.replace(scene(), metadata={"focal_px": made_at})
    low_pass = matching_low_pass(gaussians.metadata, cameras(POSES[1]))
    viewer.open("one", gaussians)
    soft = viewer.see("one", POSES[1])
    keep(shots, "soft", soft, reference(gaussians, POSES[1], low_pass=low_pass))
    assert psnr(soft, reference(gaussians, POSES[1], low_pass=low_pass)) > 42
    sharp = picture(viewer.call("set", "one", {"soft": False}))
    assert psnr(sharp, reference(gaussians, POSES[1], low_pass=LOW_PASS)) > 42 and psnr(sharp, soft) < 40


def test_the_antialiased_filter_thins_what_it_widens(viewer, shots):
    small = dataclasses.replace(scene(), scales=scene().scales * 0.15, metadata={"filter": "antialiased"})
    viewer.open("one", small)
    seen, wanted = viewer.see("one", POSES[1]), reference(small, POSES[1])
    keep(shots, "antialiased", seen, wanted)
    assert psnr(seen, wanted) > 42
    assert psnr(seen, reference(dataclasses.replace(small, metadata={}), POSES[1])) < 30


def test_depth_and_opacity_modes(viewer, shots):
    gaussians = scene()
    viewer.open("one", gaussians)
    viewer.see("one", POSES[1])
    seen = picture(viewer.call("set", "one", {"mode": "opacity"}))
    wanted = render(gaussians, cameras(POSES[1]), modes=("alpha", "expected_depth"))
    assert psnr(seen, wanted.alpha[0, ..., None].expand(-1, -1, 3)) > 42
    seen = picture(viewer.call("set", "one", {"mode": "depth"}))
    near, far = viewer.run("tools.viewers.one.stage.renderer.depths")
    colors = colorize_depth(wanted.expected_depth[0], near, far)
    solid = wanted.alpha[0] > 0.999
    keep(shots, "depth", seen, colors)
    assert solid.float().mean() > 0.3 and float((seen - colors)[solid].abs().mean()) < 0.01
    points = picture(viewer.call("set", "one", {"mode": "points"}))
    keep(shots, "points", points, seen)
    assert psnr(points, reference(gaussians, POSES[1])) < 30


def test_after_flying_around_the_order_is_right(viewer, shots):
    gaussians = scene()
    viewer.open("one", gaussians, {"settings": {"background": BACKGROUND, "navigation": "fly", "path": False}})
    viewer.see("one", POSES[0])
    page = viewer.page
    page.mouse.move(150, 120)
    page.mouse.down()
    for step in range(8):
        page.mouse.move(150 + 20 * step, 120 + 5 * step)
    page.mouse.up()
    pose = "JSON.stringify(tools.viewers.one.getView())"
    for key in ("w", "d", "e", "ArrowLeft"):
        before = viewer.run(pose)
        page.keyboard.down(key)
        page.wait_for_timeout(250)
        page.wait_for_function(f"before => {pose} !== before", arg=before)
        page.keyboard.up(key)
    viewer.run("tools.viewers.one.settled()")
    view = viewer.run("tools.viewers.one.getView()")
    assert np.abs(np.array(view["position"])).min() > 1e-4  # all three keys moved it
    seen, wanted = picture(viewer.call("picture", "one")), reference(gaussians, view)
    keep(shots, "flown", seen, wanted)
    assert psnr(seen, wanted) > 42
    # And once more from behind, where the order is the opposite one.
    assert psnr(viewer.see("one", POSES[3]), reference(gaussians, POSES[3])) > 42


def test_several_viewers_share_one_context(viewer, shots):
    first, second = scene(seed=1), scene(5000, degree=1, seed=2)
    viewer.open("a", first)
    viewer.open("b", second)
    viewer.open("c", first)
    for name, gaussians, view in (("a", first, 0), ("b", second, 1), ("c", first, 2)):
        assert psnr(viewer.see(name, POSES[view]), reference(gaussians, POSES[view])) > 42, name
    viewer.page.screenshot(path=shots / "viewer_several.png")
    shared = "[...'abc'].every((name) => tools.viewers[name].gpu === tools.viewers.a.gpu)"
    assert viewer.run(shared)
    viewer.run("tools.viewers.a.dispose()")
    assert psnr(viewer.see("c", POSES[1]), reference(first, POSES[1])) > 42
    assert psnr(viewer.see("b", POSES[0]), reference(second, POSES[0])) > 42
