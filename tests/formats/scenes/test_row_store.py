"""Reading only the most important rows of a PLY: the same as choosing them from the whole, in bounded memory."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
import torch

from flashworld_core.errors import FlashWorldError
from flashworld_core.formats.scenes import read_scene, row_store, write_scene
from flashworld_core.formats.scenes.ply import read_ply, write_ply
from flashworld_core.formats.scenes.row_store import Limit
from flashworld_core.gaussians import Gaussians
from flashworld_core.ops.select import budget, prune

FIELDS = ("means", "quats", "scales", "opacities", "sh")


def scene(count, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(count, 3, generator=g),
        torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=1),
        torch.rand(count, 3, generator=g) * 0.01 + 0.01,
        torch.rand(count, generator=g) * 0.9 + 0.05,
        torch.randn(count, 4, 3, generator=g),
    )


def same(a, b):
    return len(a) == len(b) and all(torch.equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


@pytest.fixture
def small_pieces(monkeypatch):
    """Little room, so that rows are sorted out many times, and moved in several steps."""
    monkeypatch.setattr(row_store, "_LEAST_SLACK", 100)
    monkeypatch.setattr(row_store, "_MOVED", 64)


@pytest.mark.parametrize("maximum", [0, 1, 7, 333, 2999, 3000, 5000])
@pytest.mark.parametrize("order", ["any", "rising", "equal"])
def test_the_same_as_from_the_whole(tmp_path, small_pieces, maximum, order):
    made = scene(3000)
    if order == "rising":  # every row is better than all before it
        made = dataclasses.replace(made, opacities=made.opacities.sort().values, scales=torch.full((3000, 3), 0.02))
    elif order == "equal":
        made = dataclasses.replace(made, opacities=torch.full((3000,), 0.5), scales=torch.full((3000, 3), 0.02))
    write_ply(tmp_path / "a.ply", made)
    whole = read_ply(tmp_path / "a.ply")
    assert same(read_scene(tmp_path / "a.ply", limit=Limit(maximum)), budget(whole, maximum))
    faint = read_scene(tmp_path / "a.ply", limit=Limit(maximum, 0.5))
    assert same(faint, budget(prune(whole, min_opacity=0.5), maximum))


def test_faint_rows_alone(tmp_path):
    write_ply(tmp_path / "a.ply", scene(500))
    whole = read_ply(tmp_path / "a.ply")
    assert same(read_scene(tmp_path / "a.ply", limit=Limit(min_opacity=0.4)), prune(whole, min_opacity=0.4))


def test_rows_that_are_not_finite_are_dropped_and_counted(tmp_path, small_pieces, caplog):
    write_ply(tmp_path / "a.ply", scene(1000))
    data = bytearray((tmp_path / "a.ply").read_bytes())
    row = (len(data) - data.index(b"end_header\n") - 11) // 1000
    for index in (0, 500, 999):
        at = len(data) - (1000 - index) * row
        data[at : at + 4] = np.float32("nan").tobytes()
    (tmp_path / "a.ply").write_bytes(data)
    whole = read_ply(tmp_path / "a.ply")
    assert len(whole) == 997
    caplog.clear()
    assert same(read_scene(tmp_path / "a.ply", limit=Limit(50)), budget(whole, 50))
    assert "dropped 3 of 1000" in caplog.text


def test_other_formats_give_the_same_choice(tmp_path):
    write_scene(tmp_path / "a.splat", scene(400))
    whole = read_scene(tmp_path / "a.splat")
    assert same(read_scene(tmp_path / "a.splat", limit=Limit(30, 0.3)), budget(prune(whole, min_opacity=0.3), 30))


def test_memory_is_that_of_what_stays(tmp_path):
    write_ply(tmp_path / "a.ply", scene(400_000))  # 41 MB as Gaussians
    tracemalloc.start()
    try:
        kept = read_scene(tmp_path / "a.ply", limit=Limit(10_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(kept) == 10_000 and peak < 16 << 20


def test_a_negative_number_is_refused():
    with pytest.raises(FlashWorldError, match="must be 0 or more, got -1"):
        Limit(-1)
