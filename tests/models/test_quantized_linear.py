"""Linear layers in 8 bits against plain ones with the multiplied-out weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from flashworld_core.checkpoints.assign import cast
from flashworld_core.checkpoints.quantized import dequantize, quantize
from flashworld_core.models import quantized_linear
from flashworld_core.models.quantized_linear import (
    QuantizedLinear,
    fp8_linear,
    multiplies_fp8,
    quantized_dtype,
    scaled_linear,
    use_quantized_linears,
)

FP8, INT8 = torch.float8_e4m3fn, torch.int8


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)
    # Rows and tokens of very different size: what one scale a tensor could not hold.
    x = torch.randn(2, 5, 64, generator=generator) * torch.logspace(-2, 2, 5)[:, None]
    weight = torch.randn(48, 64, generator=generator) * torch.logspace(-2, 1, 48)[:, None]
    return x, weight, torch.randn(48, generator=generator)


@pytest.mark.parametrize("dtype", [FP8, INT8])
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_dequantized_at_use_is_the_plain_layer(case, dtype, compute):
    x, weight, bias = case
    stored, scale = quantize(weight, dtype)
    expected = F.linear(x.to(compute), dequantize(stored, scale).to(compute), bias.to(compute))
    out = scaled_linear(x.to(compute), stored, scale, bias)
    assert out.dtype == compute and torch.equal(out, expected)


def test_fp8_products_scale_every_token_and_every_channel(case):
    x, weight, bias = case
    stored, scale = quantize(weight, FP8)
    try:
        out = fp8_linear(x.bfloat16(), stored, scale, bias)
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"this torch has no fp8 product on the CPU: {error}")
    assert out.shape == (2, 5, 48) and out.dtype == torch.bfloat16
    exact = F.linear(x, dequantize(stored, scale), bias)
    error = (out.float() - exact).norm(dim=-1) / exact.norm(dim=-1)
    assert error.max() < 0.05  # for each token by itself


def test_the_way_is_chosen_by_what_the_card_can(case, monkeypatch):
    x, weight, bias = case
    stored, scale = quantize(weight, FP8)
    assert not multiplies_fp8(torch.device("cpu"))
    calls = []
    monkeypatch.setattr(quantized_linear, "multiplies_fp8", lambda device: True)
    monkeypatch.setattr(quantized_linear, "fp8_linear", lambda *given: calls.append(given) or "fp8")
    assert scaled_linear(x, stored, scale, bias) == "fp8" and len(calls) == 1
    scaled_linear(x, *quantize(weight, INT8), bias)
    scaled_linear(x[..., :24], *quantize(weight[:, :24], FP8), bias)  # not a multiple of 16
    assert len(calls) == 1


def test_only_linear_layers_are_replaced_and_casting_leaves_their_weights():
    with torch.device("meta"):
        network = nn.ModuleDict({"a": nn.Linear(8, 4), "b": nn.Linear(8, 4, bias=False), "c": nn.Conv2d(2, 2, 1)})
    stored = {"a.weight": INT8, "b.weight": FP8, "c.weight": INT8, "a.bias": INT8, "d.weight": INT8}
    assert use_quantized_linears(network, stored) == ["a.weight", "b.weight"]
    assert [type(m) for m in network.values()] == [QuantizedLinear, QuantizedLinear, nn.Conv2d]
    assert network["b"].bias is None and quantized_dtype(network) == INT8 and quantized_dtype(nn.Linear(1, 1)) is None
    network.to_empty(device="cpu")
    for dtype in (torch.bfloat16, torch.float32):
        cast(network, dtype)
        assert (network["a"].weight.dtype, network["b"].weight.dtype) == (INT8, FP8)
        assert network["a"].weight_scale.dtype == torch.float32
        assert network["a"].bias.dtype == network["c"].weight.dtype == dtype
