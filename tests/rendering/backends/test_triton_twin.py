"""The Triton rasterizer on a machine without a GPU: its kernels interpreted, compiled ahead, and never imported."""

import importlib.util
import logging
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from splat_scenes import make_cameras, make_gaussians

from flashworld_core.rendering.backends import BackendFailed, torch_reference

render_module = importlib.import_module("flashworld_core.rendering.render")

REPOSITORY = Path(__file__).parents[3]
needs_triton = pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="triton is not installed here")


@needs_triton
def test_interpreted_kernels_match_the_reference():
    """`tests/support/triton_cases.py` in its own process: the interpreter is chosen before triton is imported."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/support/triton_cases.py"],
        cwd=REPOSITORY,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= 24


@needs_triton
def test_triton_is_not_imported_without_a_gpu():
    """Neither for "auto" nor when asked for: the next backend takes over, and the log has the reason."""
    code = """
import logging, sys, torch
from splat_scenes import make_cameras, make_gaussians
from flashworld_core.rendering.render import has_backend, render
torch.cuda.is_available = torch.xpu.is_available = lambda: False
logging.basicConfig(stream=sys.stdout)
for backend in ("auto", "triton", "triton"):
    render(make_gaussians(5, 0), make_cameras(1, 4, 4), backend=backend)
assert not has_backend("triton") and "triton" not in sys.modules
"""
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests/support")])
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": paths}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("'triton' is not available (no GPU is available)") == 1


@pytest.fixture
def fake_modules(monkeypatch):
    """``fake_modules(gsplat=..., triton=...)``: modules, or reasons why they do not load; nothing was loaded before."""
    monkeypatch.setattr(render_module, "_missing", {})
    monkeypatch.setattr(render_module, "_announced", set())
    real = importlib.import_module

    def install(**modules):
        def load(name, package=None):
            backend = next((b for b, path in render_module._MODULES.items() if path == name), None)
            found = modules.get(backend)
            if isinstance(found, str):
                raise ImportError(found)
            return found or real(name, package)

        monkeypatch.setattr(render_module.importlib, "import_module", load)

    return install


CUDA, XPU = torch.device("cuda"), torch.device("xpu")


def test_order_on_a_gpu_and_what_the_log_says(fake_modules, caplog):
    module = types.SimpleNamespace(rasterize=print)
    with caplog.at_level(logging.INFO):
        fake_modules(gsplat=module, triton=module)
        assert render_module._load_backend("auto", CUDA)[0] == "gsplat"
        assert render_module._load_backend("triton", CUDA)[0] == "triton"
        assert render_module._load_backend("auto", XPU)[0] == "triton"
        assert render_module._load_backend("auto", CUDA)[0] == "gsplat"
    assert [r.getMessage() for r in caplog.records] == [
        "Rendering with backend 'gsplat'.",
        "Rendering with backend 'triton'.",
    ]
    assert all(r.levelno == logging.INFO for r in caplog.records)


def test_without_gsplat_triton_renders_and_the_log_says_why(fake_modules, caplog):
    fake_modules(gsplat="no CUDA toolkit", triton=types.SimpleNamespace(rasterize=print))
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert render_module._load_backend("auto", CUDA) == ("triton", print)
    (record,) = caplog.records
    assert record.getMessage() == "Rendering with backend 'triton': 'gsplat' is not available (no CUDA toolkit)."
    assert record.levelno == logging.INFO


def test_a_failing_compilation_falls_back_to_torch_with_both_reasons(fake_modules, caplog):
    fake_modules(gsplat="no CUDA toolkit", triton="could not compile: ptxas died")
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert render_module._load_backend("auto", CUDA)[0] == "torch"
        assert render_module._load_backend("auto", XPU)[0] in ("cpu", "torch")
    assert caplog.records[0].levelno == logging.WARNING
    assert "'torch'" in caplog.records[0].getMessage() and "no CUDA toolkit" in caplog.records[0].getMessage()
    assert "ptxas died" in caplog.records[0].getMessage()
    assert not any("'torch'" in r.getMessage() for r in caplog.records[1:])


def test_kernels_that_fail_during_a_render_are_replaced_in_it(fake_modules, caplog):
    """A degree's kernels are compiled when it first comes: views already drawn stay, the rest is drawn by another."""
    calls = []

    def rasterize(*tensors, sh_degree, **options):
        calls.append(sh_degree)
        if sh_degree == 3 and len(calls) > 2:
            raise BackendFailed("ptxas died on degree 3")
        return torch_reference.rasterize(*tensors, sh_degree=sh_degree, **options)

    fake_modules(triton=types.SimpleNamespace(rasterize=rasterize), cpu="numba is not installed")
    scene, cameras = make_gaussians(40, 3), make_cameras(3, 16, 12)
    expected = render_module.render(scene, cameras, backend="torch")
    options = {"backend": "triton", "views_per_chunk": 1}
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert torch.equal(render_module.render(scene, cameras, **options).rgb, expected.rgb)
    assert calls == [3, 3, 3]  # the third view failed; the second render did not try again
    (warning,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "'torch'" in warning.getMessage() and "ptxas died on degree 3" in warning.getMessage()
    assert not render_module.has_backend("triton")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm device")
@needs_triton
def test_real_kernels_match_the_reference():
    gaussians, cameras = make_gaussians(5000, 2, size=0.05).to("cuda"), make_cameras(4, 130, 97)
    modes = ("rgb", "depth", "alpha")
    results = []
    for backend in ("triton", "triton", "torch"):
        leaves = gaussians.map(lambda t: t.clone().requires_grad_())
        out = render_module.render(leaves, cameras, modes=modes, backend=backend)
        (out.rgb.square().sum() + out.depth.sum() + out.alpha.sum()).backward()
        results.append((out, leaves))
    for name in modes:
        first, again, expected = (getattr(out, name) for out, _ in results)
        difference = (first - expected).abs()
        assert torch.equal(first, again), name
        assert difference.median() <= 5e-6 and (difference > 1e-3).float().mean() <= 5e-4, name
    for name in ("means", "quats", "scales", "opacities", "sh"):
        first, again, expected = (getattr(leaves, name).grad for _, leaves in results)
        assert torch.equal(first, again), name
        assert (first - expected).norm() <= 5e-3 * expected.norm(), name


# --- compiled ahead of time -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ahead():
    path = REPOSITORY / "benchmarks/triton_compiled.py"
    spec = importlib.util.spec_from_file_location("triton_compiled", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def assert_fits(ahead, kernel: str, target: str):
    """It compiles; from sm_80 on it spills nothing; half of the places for warps are filled."""
    figures = ahead.figures(ahead.KERNELS[kernel], ahead.TARGETS[target])
    assert figures.registers > 0
    assert target == "sm_75" or figures.spilled == 0, (kernel, target, figures)
    assert figures.occupancy >= 0.5, (kernel, target, figures)


@needs_triton
def test_each_target_compiles_a_kernel_and_each_kernel_is_compiled(ahead):
    """One pair a target; `test_every_kernel_compiles_for_every_target` is the whole of it."""
    kernels = list(ahead.KERNELS)
    assert len(ahead.TARGETS) >= len(kernels)
    for i, target in enumerate(ahead.TARGETS):
        assert_fits(ahead, kernels[i % len(kernels)], target)


@needs_triton
@pytest.mark.slow
def test_every_kernel_compiles_for_every_target(ahead):
    for target in ahead.TARGETS:
        for kernel in ahead.KERNELS:
            assert_fits(ahead, kernel, target)


@needs_triton
def test_occupancy_of_known_launches(ahead):
    """Against figures anyone can look up: full registers, the limit of programs, shared memory."""
    assert ahead.occupancy(80, registers=32, shared=0, warps=4) == 1.0
    assert ahead.occupancy(80, registers=64, shared=0, warps=4) == 0.5
    assert ahead.occupancy(80, registers=65, shared=0, warps=4) == 0.4375
    assert ahead.occupancy(86, registers=32, shared=0, warps=1) == pytest.approx(16 / 48)
    assert ahead.occupancy(90, registers=32, shared=113 * 1024, warps=8) == 0.25
