import dataclasses
import importlib
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from splat_scenes import make_cameras, make_gaussians

from flashworld_core.errors import Cancelled, FlashWorldError
from flashworld_core.rendering.backends import torch_reference
from flashworld_core.rendering.render import MODES, RenderOutput, has_backend, render, warm_up

render_module = importlib.import_module("flashworld_core.rendering.render")
REPOSITORY = Path(__file__).resolve().parents[2]
BACKENDS = [
    "torch",
    pytest.param("cpu", marks=pytest.mark.skipif(not importlib.util.find_spec("numba"), reason="no numba")),
]


@pytest.fixture
def scene():
    return make_gaussians(200, 2), make_cameras(4, 30, 20)


def images(output: RenderOutput):
    return {k: v for k, v in vars(output).items() if v is not None}


@pytest.mark.parametrize("backend", BACKENDS)
def test_modes_are_related_as_documented(scene, backend):
    out = render(*scene, modes=MODES, background="black", backend=backend)
    assert out.rgb.shape == out.normals.shape == (4, 20, 30, 3)
    assert out.depth.shape == out.alpha.shape == out.expected_depth.shape == (4, 20, 30)
    assert all(t.dtype == torch.float32 for t in images(out).values())
    seen = out.alpha > 0
    assert seen.any() and not seen.all()
    torch.testing.assert_close(out.expected_depth[seen], (out.depth / out.alpha)[seen])
    assert (out.expected_depth[~seen] == 0).all() and (out.normals[~seen] == 0).all()
    torch.testing.assert_close(out.normals[seen].norm(dim=-1), torch.ones(int(seen.sum())))
    white = render(*scene, backend=backend).rgb
    torch.testing.assert_close(white, out.rgb + (1 - out.alpha[..., None]), atol=1e-6, rtol=0)
    for mode, field in zip(MODES, ("rgb", "depth", "expected_depth", "alpha", "normals"), strict=True):
        only = images(render(*scene, modes=[mode], background="black", backend=backend))
        assert set(only) == {field} and torch.equal(only[field], getattr(out, field))


def test_backgrounds(scene):
    gaussians, cameras = scene
    empty = gaussians[:0]
    colors = torch.rand(4, 3)
    for background, expected in {
        "white": torch.ones(4, 3),
        "black": torch.zeros(4, 3),
        (0.1, 0.2, 0.3): torch.tensor([0.1, 0.2, 0.3]).expand(4, 3),
    }.items():
        rgb = render(empty, cameras, background=background).rgb
        assert torch.equal(rgb, expected[:, None, None].expand_as(rgb))
    for background, expected in ((colors, colors), (colors[0], colors[:1].expand(4, 3))):
        rgb = render(empty, cameras, background=background).rgb
        assert torch.equal(rgb, expected[:, None, None].expand_as(rgb))
    for bad in ("green", torch.rand(3, 3), torch.rand(4), (1.0, float("nan"), 0.0), "", ("a", "b", "c"), None):
        with pytest.raises(FlashWorldError, match="background"):
            render(gaussians, cameras, background=bad)


@pytest.mark.parametrize("backend", BACKENDS)
def test_degenerate_scenes_have_defined_results(backend):
    cameras = make_cameras(2, 9, 7)
    one = make_gaussians(2, 0)[1:]
    behind = dataclasses.replace(one, means=torch.tensor([[0.0, 0.0, -2.0]]))
    faint = dataclasses.replace(one, opacities=torch.tensor([0.003]))
    for nothing in (one[:0], behind, faint):
        out = render(nothing, cameras, modes=MODES, background=(0.2, 0.4, 0.6), backend=backend)
        assert torch.equal(out.rgb, torch.tensor([0.2, 0.4, 0.6]).expand(2, 7, 9, 3))
        assert all(not getattr(out, name).any() for name in ("depth", "expected_depth", "alpha", "normals"))
    single = render(
        dataclasses.replace(one, means=torch.tensor([[0.0, 0.0, 2.0]])), cameras, modes=MODES, backend=backend
    )
    assert 0 < single.alpha.max() < 1 and all(torch.isfinite(t).all() for t in images(single).values())
    pixel = render(make_gaussians(50, 1), make_cameras(3, 1, 1), modes=MODES, backend=backend)
    assert pixel.rgb.shape == (3, 1, 1, 3) and all(torch.isfinite(t).all() for t in images(pixel).values())
    no_views = render(one, cameras[:0], modes=MODES, backend=backend)
    assert no_views.rgb.shape == (0, 7, 9, 3) and no_views.normals.shape == (0, 7, 9, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_zero_quaternion_is_the_identity(backend):
    cameras = make_cameras(1, 20, 20)
    g = make_gaussians(30, 1)
    identity = dataclasses.replace(g, quats=torch.tensor([[1.0, 0, 0, 0]]).expand(30, 4).clone())
    zero = dataclasses.replace(g, quats=torch.zeros(30, 4, requires_grad=True))
    rgb = render(zero, cameras, backend=backend).rgb
    torch.testing.assert_close(rgb, render(identity, cameras, backend=backend).rgb, atol=1e-6, rtol=0)
    rgb.sum().backward()
    assert torch.isfinite(zero.quats.grad).all()


@pytest.mark.parametrize("field", ["means", "quats", "scales", "opacities", "sh"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused_by_name(scene, field, value):
    gaussians, cameras = scene
    getattr(gaussians, field).view(-1)[-1] = value
    with pytest.raises(FlashWorldError, match=rf"Gaussians\.{field}"):
        render(gaussians, cameras)


def test_large_finite_values_are_not_mistaken_for_infinite(scene):
    gaussians, cameras = scene
    gaussians.means[:2] = torch.tensor([3e38, 0.0, 0.0])
    assert torch.isfinite(render(gaussians, cameras).rgb).all()


def test_values_out_of_range_are_refused(scene):
    gaussians, cameras = scene
    for change, match in (
        ({"scales": gaussians.scales - 1}, "scales must not be negative"),
        ({"opacities": gaussians.opacities + 0.5}, "opacities"),
        ({"opacities": gaussians.opacities - 0.5}, "opacities"),
        ({"sh": gaussians.sh.long()}, "sh must hold floating"),
    ):
        with pytest.raises(FlashWorldError, match=match):
            render(dataclasses.replace(gaussians, **change), cameras)


@pytest.mark.parametrize(
    "arguments",
    [
        {"modes": ()},
        {"modes": ("rgb", "color")},
        {"sh_degree": 3},
        {"sh_degree": -1},
        {"near": 0.0},
        {"near": 2.0, "far": 1.0},
        {"near": float("nan")},
        {"views_per_chunk": 0},
        {"backend": "opengl"},
    ],
    ids=str,
)
def test_arguments_that_do_not_fit_are_refused(scene, arguments):
    with pytest.raises(FlashWorldError, match=next(iter(arguments))):
        render(*scene, **arguments)


@pytest.mark.parametrize("backend", BACKENDS)
def test_chunks_progress_and_stopping(scene, backend):
    whole = render(*scene, modes=MODES, backend=backend)
    calls = []
    chunked = render(
        *scene,
        modes=MODES,
        backend=backend,
        views_per_chunk=3,
        progress=lambda *a: calls.append(a),
        should_stop=lambda: False,
    )
    assert all(torch.equal(a, b) for a, b in zip(images(whole).values(), images(chunked).values(), strict=True))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    calls.clear()
    with pytest.raises(Cancelled):
        render(*scene, backend=backend, progress=lambda *a: calls.append(a), should_stop=lambda: len(calls) == 2)
    assert len(calls) == 2


def test_near_and_far_cut(scene):
    gaussians, cameras = scene
    z = (gaussians.means @ cameras.world_to_camera[0, 2, :3]) + cameras.world_to_camera[0, 2, 3]
    inside = gaussians[(z > 2) & (z < 3)]
    assert 0 < len(inside) < len(gaussians)
    cut = render(gaussians, cameras[0], near=2.0, far=3.0).rgb
    torch.testing.assert_close(cut, render(inside, cameras[0]).rgb, atol=1e-6, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_differentiable_in_all_fields(scene, backend):
    gaussians, cameras = scene
    leaves = gaussians.map(lambda t: t.clone().requires_grad_())
    out = render(leaves, cameras, modes=MODES, backend=backend, views_per_chunk=3)
    sum(t.sum() for t in images(out).values()).backward()
    for name in ("means", "quats", "scales", "opacities", "sh"):
        gradient = getattr(leaves, name).grad
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0, name


def test_half_precision_scene_renders_in_float32(scene):
    gaussians, cameras = scene
    half = gaussians.to(dtype=torch.bfloat16)
    assert torch.equal(render(half, cameras).rgb, render(half.to(dtype=torch.float32), cameras).rgb)


@pytest.fixture
def nothing_loaded(monkeypatch):
    monkeypatch.setattr(render_module, "_missing", {})


def without(monkeypatch, *modules):
    """Make importing ``modules`` fail, and backend modules that use them load anew."""
    package = "flashworld_core.rendering."
    for name in list(sys.modules):
        users = (package + "backends.cpu", package + "backends.gsplat_cuda", "flashworld_core.compiled")
        if name.startswith(users):
            monkeypatch.delitem(sys.modules, name)
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)


def test_without_numba_the_torch_backend_takes_over_and_says_so_once(scene, monkeypatch, nothing_loaded, caplog):
    expected = render(*scene, backend="torch").rgb
    without(monkeypatch, "numba")
    with caplog.at_level(logging.WARNING):
        for backend in ("auto", "cpu", "auto"):
            assert torch.equal(render(*scene, backend=backend).rgb, expected)
        warm_up()
    assert [r.name for r in caplog.records] == ["flashworld_core.rendering.render"]
    assert "numba" in caplog.text and "'torch'" in caplog.text


def test_without_cuda_gsplat_falls_through_to_the_cpu(scene, monkeypatch, nothing_loaded, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    without(monkeypatch)
    with caplog.at_level(logging.WARNING):
        rgb = render(*scene, backend="gsplat").rgb
    assert "CUDA" in caplog.text
    assert has_backend("torch") and not has_backend("gsplat")
    torch.testing.assert_close(rgb, render(*scene, backend="torch").rgb, atol=1e-2, rtol=0)


def test_auto_takes_the_compiled_renderer(scene, monkeypatch, nothing_loaded):
    pytest.importorskip("numba")
    monkeypatch.setattr(torch_reference, "rasterize", lambda *a, **k: pytest.fail("the reference was used"))
    render(*scene)


def test_warm_up_is_safe_to_repeat():
    warm_up()
    warm_up(wait=True)
    warm_up(wait=True, gradients=True)


def test_importing_the_renderer_stays_light():
    """numba and gsplat are for the first render, not for the import."""
    code = (
        "import sys, flashworld_core.rendering.render;"
        "sys.exit(' '.join({'numba', 'gsplat', 'triton', 'scipy', 'diffusers'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert result.returncode == 0, result.stderr
