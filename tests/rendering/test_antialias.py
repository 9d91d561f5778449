"""Scenes made with the antialiased filter keep their brightness at any size of the picture."""

import dataclasses

import pytest
import torch

from flashworld_core.cameras import Cameras
from flashworld_core.gaussians import FILTER, Gaussians
from flashworld_core.geometry import intrinsics_from_vertical_fov
from flashworld_core.rendering.antialias import thinning
from flashworld_core.rendering.constants import LOW_PASS
from flashworld_core.rendering.render import render


def camera(side):
    k = intrinsics_from_vertical_fov(40.0, side, side)
    return Cameras(torch.eye(4)[None], k[None].float(), side, side)


def dust(metadata=None, n=400):
    """Gaussians of a hundredth of a pixel and of several pixels, opaque white, in front of the camera."""
    g = torch.Generator().manual_seed(0)
    means = torch.cat([(torch.rand(n, 2, generator=g) - 0.5) * 2, torch.full((n, 1), 3.0)], 1)
    scales = 10 ** (torch.rand(n, 1, generator=g) * 2 - 3.5).expand(n, 3) * torch.tensor([1.0, 0.6, 0.3])
    quats = torch.nn.functional.normalize(torch.randn(n, 4, generator=g), dim=1)
    return Gaussians(means, quats, scales, torch.full((n,), 0.9), torch.full((n, 1, 3), 1.7), metadata or {})


def test_the_factor_is_the_ratio_of_the_areas():
    """A round one straight ahead: its footprint is a circle of focal / z times its size."""
    view, low = camera(100), LOW_PASS
    fx = float(view.intrinsics[0, 0, 0])
    sizes = torch.tensor([1e-4, 1e-2, 0.1])
    means, quats = torch.tensor([[0.0, 0, 2]]).expand(3, 3), torch.tensor([[1.0, 0, 0, 0]]).expand(3, 4)
    found = thinning(
        means, quats, sizes[:, None].expand(3, 3), torch.eye(4), view.intrinsics[0], 100, 100, low
    )  # fmt: skip
    variance = (fx / 2 * sizes) ** 2
    torch.testing.assert_close(found, variance / (variance + low), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_small_pictures_are_as_bright_as_large_ones(backend):
    """The mean of a picture is the light that arrives; without the filter specks glow in small pictures."""

    def light(scene, side):
        image = render(scene, camera(side), background="black", backend=backend, low_pass=LOW_PASS)
        return float(image.rgb.mean())

    true = light(dust(), 1600)
    plain, thinned = light(dust(), 50), light(dust({FILTER: "antialiased"}), 50)
    assert plain > 1.5 * true
    assert thinned == pytest.approx(true, rel=0.25)


def test_backends_agree_and_gradients_flow():
    scene = dust({FILTER: "antialiased"}, 60)
    pictures = [render(scene, camera(60), backend=name).rgb for name in ("torch", "cpu")]
    assert (pictures[0] - pictures[1]).abs().max() < 2e-3
    scales = scene.scales.clone().requires_grad_()
    loss = render(dataclasses.replace(scene, scales=scales), camera(60), backend="torch").rgb.square().sum()
    loss.backward()
    assert torch.isfinite(scales.grad).all() and (scales.grad != 0).any()


def test_discs_from_the_side_are_drawn():
    flat = dust({FILTER: "antialiased"}, 60)
    flat = dataclasses.replace(flat, scales=flat.scales * torch.tensor([1.0, 1.0, 0.0]))
    assert torch.isfinite(render(flat, camera(60), backend="torch").rgb).all()
