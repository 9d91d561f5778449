"""Network passes in pieces: the same results, stopped in the middle, and progress that ends where it should."""

import pytest
import torch
import torch.nn.functional as F

from flashworld_core.errors import Cancelled
from flashworld_core.progress import Progress
from flashworld_core.runtime import work
from flashworld_core.runtime.work import count_operations, in_pieces

CPU = torch.device("cpu")


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(work, "PIECE", 1e5)


def attention(rows=1000, keys=700, heads=2, width=16, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(1, heads, n, width, generator=draw) for n in (rows, keys, keys)]


@pytest.mark.parametrize("masked", ["no", "one row", "by row"])
def test_attention_in_pieces_is_the_same(small_pieces, masked):
    query, key, value = attention()
    mask = {"no": None, "one row": torch.rand(1, 1, 1, 700) > 0.3, "by row": torch.rand(1, 2, 1000, 700) > 0.3}[masked]
    whole = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    told = []
    with torch.no_grad(), in_pieces(Progress(should_stop=lambda: bool(told.append(1))), 1, CPU):
        pieces = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert len(told) > 6
    torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=1e-6)


def test_causal_attention_is_left_whole(small_pieces):
    query, key, value = attention(keys=1000)
    whole = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    with in_pieces(Progress(), 1, CPU):
        assert torch.equal(F.scaled_dot_product_attention(query, key, value, is_causal=True), whole)


def test_linear_layers_in_pieces_are_the_same(small_pieces):
    draw = torch.Generator().manual_seed(1)
    layer, x = torch.nn.Linear(64, 96), torch.randn(2, 999, 64, generator=draw)
    told = []
    with in_pieces(Progress(should_stop=lambda: bool(told.append(1))), 1, CPU):
        pieces = layer(x)
    assert len(told) > 6
    torch.testing.assert_close(pieces, layer(x), rtol=1e-5, atol=1e-6)


def test_small_work_is_not_cut():
    """Default sizes keep the bits they had: nothing the embedded model does at its own size is cut."""
    query, key, value = attention(768, 768, 4, 64)
    whole = F.scaled_dot_product_attention(query, key, value)
    with in_pieces(Progress(), 1, CPU):
        assert torch.equal(F.scaled_dot_product_attention(query, key, value), whole)


def test_a_stop_comes_within_an_attention(small_pieces):
    query, key, value = attention()
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 4

    with pytest.raises(Cancelled), in_pieces(Progress(should_stop=stop), 1, CPU):
        F.scaled_dot_product_attention(query, key, value)
    assert len(asked) == 5
    whole = F.scaled_dot_product_attention(query, key, value)  # and nothing stays switched on
    assert torch.isfinite(whole).all()


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.linear = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Linear(8, 8)

    def forward(self, x):
        x = self.linear(self.conv(x).flatten(2).transpose(1, 2))
        return F.scaled_dot_product_attention(x[None], x[None], x[None])[0]


def test_what_is_counted_is_what_is_done(small_pieces, monkeypatch):
    with torch.device("meta"):
        network, picture = Network(), torch.empty(1, 3, 20, 30)
    expected = 2 * 600 * 8 * 27 + 2 * 600 * 8 * 8 + 4 * 600 * 600 * 8
    assert count_operations(lambda: network(picture)) == expected

    calls = []
    monkeypatch.setattr(work, "UNIT", 1000)
    monkeypatch.setattr(work, "_REPORT_SECONDS", -1)
    progress = Progress(lambda done, total, preview: calls.append(done)).start(2 * expected // 1000)
    network = Network()
    for turn in (1, 2):
        with torch.no_grad(), in_pieces(progress, expected // 1000, CPU):
            network(torch.zeros(1, 3, 20, 30))
        assert calls[-1] == progress.done == turn * (expected // 1000)
    assert calls == sorted(calls) and len(calls) > 10


def test_compiled_networks_are_left_whole(small_pieces):
    network, asked = Network(), []
    network.linear.compile(backend="eager")
    progress = Progress(should_stop=lambda: bool(asked.append(1)))
    with torch.no_grad(), in_pieces(progress, 1, CPU, network):
        F.scaled_dot_product_attention(*attention())
    assert len(asked) == 1
