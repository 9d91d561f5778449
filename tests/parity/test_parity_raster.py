"""Rendering against the official graph's images: the network-free scene, and the first step's Gaussians."""

import importlib.util

import pytest
import torch

from flashworld_core.cameras import Cameras
from flashworld_core.gaussians import Gaussians
from flashworld_core.generators.flashworld.cameras import vectors_to_cameras
from flashworld_core.generators.flashworld.sampler import FAR, NEAR
from flashworld_core.rendering.render import render

BACKENDS = [
    "torch",
    pytest.param(
        "cpu", marks=pytest.mark.skipif(not importlib.util.find_spec("numba"), reason="numba is not installed")
    ),
    pytest.param(
        "gsplat", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")]
    ),
]
# World and camera axes y, z flipped: the stored sets are OpenGL (y up, looking along -z) on both sides.
FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))


def opengl_gaussians(rows):
    """The scene of rows (xyz, opacity, scale, quaternion wxyz, SH), in its own OpenGL world."""
    rows = rows.reshape(-1, rows.shape[-1])
    return Gaussians(rows[:, :3], rows[:, 7:11], rows[:, 4:7], rows[:, 3], rows[:, 11:].reshape(len(rows), -1, 3))


def check(output, rgb, depth, mean, usual):
    """Stored rgb [V, 3, H, W] is in [-1, 1], depth [V, 1, H, W] the sum of weight * z.

    All but 1 % of the values within ``usual``, none further than 1e-2, which is what one hard decision (alpha 1/255,
    transmittance 1e-4, depth order) that falls on the other side can move. Depth errors count relative to its range.
    """
    got = (output.rgb * 2 - 1).clamp(-1, 1).permute(0, 3, 1, 2)
    pairs = [(got, rgb)] if depth is None else [(got, rgb), (output.depth[:, None], depth)]
    for actual, expected in pairs:
        assert actual.shape == expected.shape
        error = (actual.cpu() - expected).abs() / expected.abs().max().clamp_min(1)
        assert error.mean() <= mean and error.max() <= 1e-2, (error.mean(), error.max())
        assert (error > usual).float().mean() <= 0.01, error.flatten().sort().values[-20:]


@pytest.mark.parametrize("backend", BACKENDS)
def test_units_scene(parity_tensors, units_json, backend):
    units, facts = parity_tensors("units"), units_json["raster"]
    # Only the camera axes turn here: the world stays the stored one, so that SH and rotations need no conversion.
    c2w = units["raster/c2w_opengl"] @ FLIP
    fx, fy, cx, cy = units["raster/fx_fy_cx_cy_pixels"].unbind(-1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    k = torch.stack([fx, zero, cx, zero, fy, cy, zero, zero, one], -1).view(-1, 3, 3)
    cameras = Cameras(c2w, k, facts["width"], facts["height"])
    gaussians = opengl_gaussians(units["raster/gaussians"])
    device = "cuda" if backend == "gsplat" else "cpu"
    output = render(
        gaussians.to(device), cameras, modes=("rgb", "depth"), near=facts["near"], far=facts["far"], backend=backend
    )
    check(output, units["raster/rgb"], units["raster/depth"], 2e-6, 2e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_stored_gaussians_of_every_step_that_has_them(parity_tensors, parity_json, backend):
    stages = parity_tensors("stages")
    names = [
        n.split("/")[0] for n in stages if n.endswith("/gaussians") and n.replace("gaussians", "render_rgb") in stages
    ]
    assert names
    device = "cuda" if backend == "gsplat" else "cpu"
    for step in names:
        rgb, depth = stages[f"{step}/render_rgb"], stages.get(f"{step}/render_depth")
        height, width = rgb.shape[-2:]
        assert (height, width) == (parity_json["height"], parity_json["width"])
        cameras = vectors_to_cameras(stages["cameras_normalized"], width, height)
        # Back from our world to the stored one, where the stored Gaussians live.
        cameras = Cameras(FLIP @ cameras.camera_to_world, cameras.intrinsics, width, height)
        gaussians = opengl_gaussians(stages[f"{step}/gaussians"])
        output = render(gaussians.to(device), cameras, modes=("rgb", "depth"), near=NEAR, far=FAR, backend=backend)
        check(output, rgb, depth, 1e-5, 2e-5)
