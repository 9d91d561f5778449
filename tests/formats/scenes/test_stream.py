"""The preview stream: round trip, order, budget, hostile input."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from flashworld_core.errors import Cancelled, FlashWorldError
from flashworld_core.formats.scenes import stream
from flashworld_core.formats.scenes.stream import HEADER, MAGIC, read_stream, write_stream
from flashworld_core.gaussians import Gaussians
from flashworld_core.geometry import quats_to_matrices
from flashworld_core.ops.select import importance


def scene(n: int, degree: int, seed: int = 0) -> Gaussians:
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=torch.randn(n, 3, generator=g) * torch.tensor([1.0, 10.0, 1e4]),
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=g), dim=1),
        scales=torch.exp(torch.randn(n, 3, generator=g) * 1.5 - 4),
        opacities=torch.rand(n, generator=g) * 0.99 + 0.01,
        sh=torch.randn(n, (degree + 1) ** 2, 3, generator=g) * 0.4,
        metadata={"seed": 3, "prompt": "a caf\u00e9"},
    )


def matched(written: Gaussians, read: Gaussians) -> Gaussians:
    """``written`` in the order of ``read``: positions are exact, so they tell who is who."""
    place = {tuple(row): i for i, row in enumerate(written.means.tolist())}
    return written[torch.tensor([place[tuple(row)] for row in read.means.tolist()], dtype=torch.long)]


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_round_trip(tmp_path, degree):
    written = scene(40_000, degree)  # two chunks
    info = write_stream(tmp_path / "s.fws", written)
    read, info_read = read_stream(tmp_path / "s.fws")
    assert info == info_read and info.count == info.total == len(read) == 40_000 and read.sh_degree == degree
    assert read.metadata == written.metadata
    wanted = matched(written, read)
    turn = quats_to_matrices(wanted.quats).transpose(1, 2) @ quats_to_matrices(read.quats)
    angle = ((turn.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1).arccos()
    assert angle.max() < 0.005
    assert (read.scales / wanted.scales).log().abs().max() < 0.008
    assert (read.opacities - wanted.opacities).abs().max() < 0.51 / 1023
    spread = wanted.sh[:, 0].amax() - wanted.sh[:, 0].amin()
    assert (read.sh[:, 0] - wanted.sh[:, 0]).abs().max() <= 0.51 * spread / 255
    if degree:
        assert (read.sh - wanted.sh)[:, 1:].abs().max() <= 0.51 * wanted.sh[:, 1:].abs().max() / 127


def test_bytes_on_disk(tmp_path):
    """Field by field by hand, since the browser reads the same bytes."""
    quats = torch.tensor([[0.5, -0.5, 0.5, -0.5], [0.0, 0.0, -3.0, 0.0]])
    sh = torch.tensor([[[0.0, 1.0, 2.0]] + [[0.0] * 3] * 3, [[1.0, 1.0, 0.0]] + [[1.0, 0.0, -2.0]] + [[0.0] * 3] * 2])
    write_stream(
        tmp_path / "s.fws",
        Gaussians(torch.arange(6.0).view(2, 3), quats, torch.ones(2, 3), torch.tensor([1.0, 0.5]), sh),
    )
    content = (tmp_path / "s.fws").read_bytes()
    assert content[:8] == MAGIC and content[8:12] == (2).to_bytes(4, "little")
    start = 16 + int.from_bytes(content[12:16], "little")
    assert start % 16 == 0 and HEADER.itemsize == 80
    words = np.frombuffer(content[start:], "<u4")
    assert len(words) == 20 + 2 * 4 + 2 * 2 + 2 * 4  # degree 1: 16 bytes of harmonics
    floats = words.view("<f4")
    assert words[0] == 2 and floats[2:4].tolist() == [0, 0]  # all scales are 1
    assert floats[4:7].tolist() == [0, 1, 0] and floats[7:10].tolist() == pytest.approx([1 / 255, 0, 2 / 255])
    assert floats[10:13].tolist() == pytest.approx([2 / 127, 0, 0]) and floats[13:19].tolist() == [0, 1, 2, 3, 4, 5]
    assert floats[20:23].tolist() == [0, 1, 2]
    low, high = 511 - 361, 511 + 361  # 511 sqrt(2) / 2 = 361.3
    assert words[23] == low << 20 | high << 10 | low  # w is the first of four equals
    assert words[27] == 2 << 30 | 511 << 20 | 511 << 10 | 511
    assert words[28:32].tolist() == [3 << 30, 255 << 24 | 255 << 16, 2 << 30, 255]
    assert content[-16:] == bytes([64, 0, 256 - 127, *[0] * 13])


def test_most_important_first_within_the_budget(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "FIRST_CHUNK", 2048)
    monkeypatch.setattr(stream, "CHUNK", 4096)
    written = scene(20_000, 0)
    write_stream(tmp_path / "s.fws", written, budget=10_000)
    read, info = read_stream(tmp_path / "s.fws")
    assert (info.count, info.total) == (10_000, 20_000)
    ranks = importance(written).argsort(descending=True).argsort()
    place = {tuple(row): i for i, row in enumerate(written.means.tolist())}
    rank = ranks[torch.tensor([place[tuple(row)] for row in read.means.tolist()])]
    # 7 bits of mantissa: neighbors within 1 % may swap.
    for begin, end in ((0, 2048), (2048, 6144), (6144, 10_000)):
        assert rank[begin:end].max() < end * 1.03 and rank[begin:end].min() > begin * 0.97 - 1


def test_what_is_near_the_cameras_is_kept_first(tmp_path):
    written = scene(4000, 0)
    near = written.means.clone()
    near[:1000] = near[:1000] / near[:1000].norm(dim=1, keepdim=True)
    scales = written.scales.clone()
    scales[:1000] *= 1e-2
    written = dataclasses.replace(written, means=near, scales=scales)

    def small_ones(**options):
        write_stream(tmp_path / "s.fws", written, budget=1000, **options)
        return int((read_stream(tmp_path / "s.fws")[0].means.norm(dim=1) < 1.5).sum())

    assert small_ones() < 100
    assert small_ones(viewpoints=torch.zeros(1, 3)) > 800


def test_what_nobody_sees_goes(tmp_path):
    g = scene(7, 1)
    g.means[0, 1] = math.nan
    g.sh[1, 3, 2] = math.inf
    g.scales[2, 0] = -1
    g.opacities[3] = 0.003
    g.opacities[4] = math.nan
    write_stream(tmp_path / "s.fws", g)
    read, info = read_stream(tmp_path / "s.fws")
    assert info.total == 7 and sorted(read.means.tolist()) == sorted(g.means[5:].tolist())


def test_extremes_stay_finite(tmp_path):
    g = scene(6, 3)
    g.quats[0] = 0
    g.scales[1] = 0
    g.scales[2] = torch.tensor([0.0, 1e-20, 30.0])
    g.opacities[3] = 1.5  # shown as 1
    g.sh[:] = 0
    write_stream(tmp_path / "s.fws", g.to(dtype=torch.float64))
    read, _ = read_stream(tmp_path / "s.fws")
    wanted = matched(g, read)
    for name in ("means", "quats", "scales", "opacities", "sh"):
        assert torch.isfinite(getattr(read, name)).all(), name
    assert read.opacities.max() == 1
    zero = (wanted.quats == 0).all(1)
    assert torch.allclose(read.quats[zero], torch.tensor([[1.0, 0, 0, 0]]))
    assert read.scales[(wanted.scales == 0).all(1)].max() < 1e-4


@pytest.mark.parametrize("n", [0, 5])
def test_nothing_to_see_is_a_valid_file(tmp_path, n):
    g = scene(n, 2)
    write_stream(tmp_path / "s.fws", dataclasses.replace(g, opacities=torch.zeros(n)))
    read, info = read_stream(tmp_path / "s.fws")
    assert len(read) == info.count == 0 and info.total == n and info.radius > 0


def test_degree_is_cut(tmp_path):
    g = scene(10, 3)
    assert write_stream(tmp_path / "a.fws", g, sh_degree=1).sh_degree == 1
    assert write_stream(tmp_path / "b.fws", scene(10, 0), sh_degree=3).sh_degree == 0
    assert read_stream(tmp_path / "a.fws")[0].sh.shape[1] == 4
    assert write_stream(tmp_path / "c.fws", g, budget=0).count == 0


def test_bulk_ignores_outliers(tmp_path):
    g = scene(1000, 0)
    g.means[:] = torch.randn(1000, 3, generator=torch.Generator().manual_seed(1)) + torch.tensor([5.0, 0, 0])
    g.means[:20] = 1e6
    info = write_stream(tmp_path / "s.fws", g)
    assert abs(info.center[0] - 5) < 0.2 and 2 < info.radius < 4


def test_refusals(tmp_path):
    g = scene(5, 0)
    for arguments, word in (
        ({"budget": -1}, "budget"),
        ({"sh_degree": 4}, "sh_degree"),
        ({"metadata": {"a": {1}}}, "JSON"),
    ):
        with pytest.raises(FlashWorldError, match=word):
            write_stream(tmp_path / "s.fws", g, **arguments)
    with pytest.raises(Cancelled):
        write_stream(tmp_path / "s.fws", g, should_stop=lambda: True)
    assert list(tmp_path.iterdir()) == []


def test_hostile_files(tmp_path):
    path = tmp_path / "s.fws"
    write_stream(path, scene(3000, 1))
    good = path.read_bytes()
    changed = {
        "magic": b"FWSPLAT2" + good[8:],
        "too many": good[:8] + (2**32 - 1).to_bytes(4, "little") + good[12:],
        "header length": good[:12] + (2**32 - 1).to_bytes(4, "little") + good[16:],
        "header text": good[:20] + b"\xff" + good[21:],
        "cut": good[:-1],
        "more": good + b"x",
        "empty": b"",
        "degree": good.replace(b'"sh_degree": 1', b'"sh_degree": 9'),
    }
    for name, content in changed.items():
        assert content != good, name
        path.write_bytes(content)
        with pytest.raises(FlashWorldError, match="s.fws"):
            read_stream(path)
    start = 16 + int.from_bytes(good[12:16], "little")
    path.write_bytes(good[:start] + (0).to_bytes(4, "little") + good[start + 4 :])
    with pytest.raises(FlashWorldError, match="0 rows"):
        read_stream(path)
    with pytest.raises(FlashWorldError, match="cannot be read"):
        read_stream(tmp_path / "absent.fws")
