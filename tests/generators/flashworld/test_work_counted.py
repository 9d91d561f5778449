"""What a generation at full size computes and moves, as `benchmarks/work_counted.py` counts it."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from flashworld_core.generators.flashworld.presets import official_config

FILE = Path(__file__).parents[3] / "benchmarks" / "work_counted.py"


@pytest.fixture(scope="module")
def counting():
    spec = importlib.util.spec_from_file_location("work_counted", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["work_counted"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["work_counted"]


def meta(*shape):
    return torch.empty(shape, device="meta")


def test_operators_are_counted_as_by_hand(counting):
    x, weight, bias = meta(10, 20), meta(30, 20), meta(30)

    def work():
        y = F.linear(x, weight, bias)  # reads 200 + 600 + 30 numbers, writes 300
        y.add_(1)  # reads and writes 300
        z = y.view(5, 60).t()  # nothing
        torch.mul(z, 2, out=torch.empty_like(z))  # reads and writes 300
        F.scaled_dot_product_attention(*(meta(1, 2, 7, 8) for _ in range(3)))  # reads 3 x 112, writes 112
        F.layer_norm(x, (20,))  # reads 200, writes 200 and two numbers a row

    counter = counting.counted(work)
    found = {name: (w.calls, w.flops, w.bytes) for name, w in counter.work.items()}
    assert found["addmm"] == (1, 2 * 10 * 20 * 30, 4 * 1130)
    assert found["add"] == (1, 0, 4 * 600) and found["mul"] == (1, 0, 4 * 600)
    assert found["attention"] == (1, 4 * 2 * 7 * 7 * 8, 4 * 448)
    assert found["native_layer_norm"] == (1, 0, 4 * 420)
    assert counter.floor == 4 * (1130 + 448 + 420) and counter.largest == 4 * 300


def test_the_published_model(counting):
    found = counting.stages(official_config())
    flops = sum(times * sum(w.flops for w in counter.work.values()) for times, counter in found.values())
    assert flops <= 682e12  # diffusers' blocks, the text anew at every step: 683.3
    times, transformer = found["transformer"]
    moved = sum(w.bytes for w in transformer.work.values())
    assert times == 4 and moved <= 1.61 * transformer.floor and moved < 113e9  # diffusers' blocks: 243
    whole = sum(times * sum(w.bytes for w in c.work.values()) for times, c in found.values())
    assert whole < 1150e9  # before: 1704
    assert f"**{whole / 1e9:.0f}**" in FILE.with_suffix(".md").read_text(encoding="utf-8")
