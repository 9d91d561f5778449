"""Compiled loops of the scene formats beside the plain functions they stand for, and files made without numba."""

import numpy as np
import pytest
import torch

from flashworld_core.formats.scenes import read_scene, rows, write_scene
from flashworld_core.gaussians import Gaussians

N = 40_000  # enough that pieces go to the kernels


def scene(degree=3):
    g = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=g)

    quats = normal(N, 4)
    quats[:4] = torch.eye(4)
    quats[4:8] = torch.tensor([[1.0, 1, 1, 1], [-1, 1, -1, 1], [0, 0, 1, -1], [0, 0, 0, 0]])
    sh = normal(N, (degree + 1) ** 2, 3) * 0.4
    sh[:3, 1:] = torch.tensor([1.0, -1.0, 0.9921875])
    sh[3:5, 1:] = torch.tensor([[[5.0]], [[-5.0]]])
    return Gaussians(normal(N, 3) * 3, quats, (normal(N, 3) - 4).exp(), torch.rand(N, generator=g), sh)


@pytest.fixture
def plain(monkeypatch):
    """Call to go on as if numba were not installed."""
    return lambda: monkeypatch.setattr(rows, "_kernels", lambda: None)


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.spz", {}), ("a.spz", {"quality": "high"}), ("a.compressed.ply", {}), ("a.compressed.ply", {"sh_degree": 1})],
)
def test_the_same_file_and_scene_without_numba(tmp_path, plain, name, options):
    pytest.importorskip("numba")
    start = scene()
    write_scene(tmp_path / name, start, **options)
    compiled = read_scene(tmp_path / name)
    plain()
    (tmp_path / "plain").mkdir()
    write_scene(tmp_path / "plain" / name, start, **options)
    twice = read_scene(tmp_path / name)
    for field in ("means", "quats", "scales", "opacities", "sh"):
        a, b = getattr(compiled, field), getattr(twice, field)
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    other = read_scene(tmp_path / "plain" / name)
    for field in ("means", "scales", "opacities", "sh"):
        a, b = (getattr(s, field).numpy() for s in (compiled, other))
        # A number half way between two codes may fall to either side.
        assert np.mean(np.abs(a - b) > 1e-6) < 1e-4, field
    dots = (compiled.quats * other.quats).sum(1).abs()
    assert dots.min() > 0.99999
