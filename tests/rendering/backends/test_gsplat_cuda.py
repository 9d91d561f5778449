"""The gsplat backend's wiring, proven on a stand-in that records what it is given and answers from the reference."""

import importlib
import sys
import types

import pytest
import torch
from splat_scenes import make_cameras, make_gaussians, rasterize_arguments

from flashworld_core.rendering.backends import torch_reference
from flashworld_core.rendering.render import render
from flashworld_core.sh import sh_basis

MODULE = "flashworld_core.rendering.backends.gsplat_cuda"


def spherical_harmonics(degrees_to_use, dirs, coeffs, masks=None):
    basis = sh_basis(torch.nn.functional.normalize(dirs, dim=-1), degrees_to_use)
    return (basis[..., None] * coeffs[..., : basis.shape[-1], :]).sum(-2)


class FakeGsplat(types.ModuleType):
    """gsplat's two functions on the CPU. The colors arrive as values [C, N, 3], so each view is a degree-0 scene."""

    def __init__(self):
        super().__init__("gsplat")
        self.calls = []
        self.spherical_harmonics = spherical_harmonics

    def rasterization(self, **given):
        self.calls.append(given)
        views = []
        for v, colors in enumerate(given["colors"]):
            sh = ((colors - 0.5) / 0.28209479177387814)[:, None]
            views.append(
                torch_reference.rasterize(
                    *(given[name] for name in ("means", "quats", "scales", "opacities")),
                    *(sh, given["viewmats"][v : v + 1], given["Ks"][v : v + 1], given["width"], given["height"]),
                    background=given["backgrounds"][v : v + 1],
                    near=given["near_plane"],
                    far=given["far_plane"],
                    sh_degree=0,
                    eps2d=given["eps2d"],
                )
            )
        rgb, depth, alpha = (torch.cat(t) for t in zip(*views, strict=True))
        return torch.cat([rgb, depth[..., None]], -1), alpha[..., None], {}


@pytest.fixture
def fake(monkeypatch):
    fake = FakeGsplat()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "gsplat", fake)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    backend = importlib.import_module(MODULE)
    monkeypatch.setattr(backend, "_device", lambda means: means.device)
    yield fake, backend
    sys.modules.pop(MODULE, None)


@pytest.mark.parametrize("degree", [0, 2, 3])
def test_answers_like_the_reference_in_values_and_gradients(fake, degree):
    arguments, keyword = rasterize_arguments(make_gaussians(200, degree), make_cameras(3, 30, 20))
    results = []
    for backend in (fake[1], torch_reference):
        leaves = [t.clone().requires_grad_() for t in arguments[:5]]
        images = backend.rasterize(*leaves, *arguments[5:], **keyword)
        sum(image.square().sum() for image in images).backward()
        results.append((images, [leaf.grad for leaf in leaves]))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert (a - b).norm() <= 1e-4 * b.norm()


def test_what_gsplat_is_given(fake):
    gaussians, cameras = make_gaussians(100, 2), make_cameras(3, 30, 20)
    wide = torch.cat([gaussians.means, gaussians.quats, gaussians.scales], 1)
    arguments, keyword = rasterize_arguments(gaussians, cameras, near=0.5, far=50.0)
    arguments[:3] = wide[:, :3], wide[:, 3:7], wide[:, 7:10]
    fake[1].rasterize(*arguments, **keyword)
    (given,) = fake[0].calls  # one batch
    kept = gaussians.opacities >= 1 / 255
    assert 0 < kept.sum() < 100 and torch.equal(given["opacities"], gaussians.opacities[kept])
    assert given["viewmats"].shape == (3, 4, 4) and given["Ks"].shape == (3, 3, 3)
    assert given["colors"].shape == (3, int(kept.sum()), 3) and given["sh_degree"] is None
    assert (given["near_plane"], given["far_plane"], given["eps2d"]) == (0.5, 50.0, 0.3)
    assert (given["render_mode"], given["rasterize_mode"], given["packed"]) == ("RGB+D", "classic", False)
    assert (given["width"], given["height"]) == (30, 20) and given["backgrounds"].shape == (3, 3)
    assert all(t.is_contiguous() and t.dtype == torch.float32 for t in given.values() if isinstance(t, torch.Tensor))


def test_keywords_exist_in_the_installed_gsplat(fake):
    """A renamed argument would only show on a GPU otherwise."""
    import inspect

    arguments, keyword = rasterize_arguments(make_gaussians(10, 0), make_cameras(1, 8, 8))
    fake[1].rasterize(*arguments, **keyword)
    sys.modules.pop("gsplat")
    real = pytest.importorskip("gsplat")
    assert set(fake[0].calls[0]) <= set(inspect.signature(real.rasterization).parameters)
    assert list(inspect.signature(real.spherical_harmonics).parameters)[:3] == ["degrees_to_use", "dirs", "coeffs"]


def test_nothing_to_draw_never_reaches_the_kernels(fake):
    arguments, keyword = rasterize_arguments(make_gaussians(3, 1), make_cameras(2, 8, 6))
    arguments[3] = torch.full((3,), 0.001)
    leaves = [t.clone().requires_grad_() for t in arguments[:5]]
    rgb, depth, alpha = fake[1].rasterize(*leaves, *arguments[5:], **keyword)
    assert torch.equal(rgb, keyword["background"][:, None, None].expand(2, 6, 8, 3))
    assert not depth.any() and not alpha.any() and not fake[0].calls
    rgb.sum().backward()
    assert not leaves[0].grad.any()


def test_without_kernels_the_import_fails_with_the_reason(monkeypatch, fake):
    backend = types.ModuleType("gsplat.cuda")
    backend._backend = types.SimpleNamespace(_C=None)
    monkeypatch.setitem(sys.modules, "gsplat.cuda", backend)
    monkeypatch.delitem(sys.modules, MODULE)
    with pytest.raises(ImportError, match="no CUDA kernels"):
        importlib.import_module(MODULE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_real_kernels_match_the_reference():
    pytest.importorskip("gsplat")
    gaussians, cameras = make_gaussians(5000, 2, size=0.05).to("cuda"), make_cameras(4, 130, 97)
    modes = ("rgb", "depth", "alpha")
    results = []
    for backend in ("gsplat", "torch"):
        leaves = gaussians.map(lambda t: t.clone().requires_grad_())
        out = render(leaves, cameras, modes=modes, backend=backend)
        (out.rgb.square().sum() + out.depth.sum() + out.alpha.sum()).backward()
        results.append((out, leaves))
    for name in modes:
        difference = (getattr(results[0][0], name) - getattr(results[1][0], name)).abs()
        assert difference.median() <= 5e-6 and (difference > 1e-3).float().mean() <= 5e-4, name
    for name in ("means", "quats", "scales", "opacities", "sh"):
        a, b = (getattr(leaves, name).grad for _, leaves in results)
        assert (a - b).norm() <= 5e-3 * b.norm(), name
