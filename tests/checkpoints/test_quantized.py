"""Weights in 8 bits: what a file's markers say, and what is refused."""

import json

import pytest
import torch
from safetensors.torch import save_file

from flashworld_core.checkpoints.open import open_weights
from flashworld_core.checkpoints.quantized import dequantize, marker, quantize, resolved, scaled_weights
from flashworld_core.errors import FlashWorldError

FP8, INT8 = torch.float8_e4m3fn, torch.int8


def text(value) -> torch.Tensor:
    return torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)


@pytest.fixture
def weight():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 40, generator=generator) * torch.logspace(-3, 3, 6)[:, None]


@pytest.mark.parametrize(("dtype", "worst"), [(FP8, 2**-4), (INT8, 1 / 254)])
def test_every_row_keeps_its_own_precision(weight, dtype, worst):
    stored, scale = quantize(weight, dtype)
    assert stored.dtype == dtype and scale.shape == (6, 1) and scale.dtype == torch.float32
    back = dequantize(stored, scale)
    assert back.dtype == torch.float32
    largest = weight.abs().amax(1, keepdim=True)
    assert ((back - weight).abs() <= worst * largest * 1.001).all()
    if dtype == FP8:  # relative to the number itself, but for the smallest
        big = weight.abs() > largest / 2**7
        assert ((back - weight).abs()[big] <= 2**-4 * weight.abs()[big] * 1.001).all()


def test_kernels_zeros_and_numbers_that_are_not_finite():
    kernel = torch.randn(3, 2, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    kernel[1] = 0
    stored, scale = quantize(kernel, INT8)
    assert stored.shape == kernel.shape and torch.equal(dequantize(stored, scale)[1], kernel[1])
    kernel[0, 0, 0, 0, 0] = float("nan")
    with pytest.raises(FlashWorldError, match="not finite"):
        quantize(kernel, FP8)


def forms(weight):
    """The same weight as files have it: name -> (tensors, metadata, what it stands for)."""
    row8, row_scale = quantize(weight, FP8)
    whole_scale = weight.abs().max() / 448
    whole8 = (weight / whole_scale).to(FP8)
    int8, int_scale = quantize(weight, INT8)
    by_row, by_tensor = dequantize(row8, row_scale), whole8.float() * whole_scale
    layers = {"layers": {"a": {"format": "float8_e4m3fn"}}}
    return {
        "ours": ({"a.weight": row8, "a.weight_scale": row_scale, "a.comfy_quant": marker(FP8)}, {}, by_row),
        "int8": ({"a.weight": int8, "a.weight_scale": int_scale[:, 0], "a.comfy_quant": marker(INT8)}, {},
                 dequantize(int8, int_scale)),
        "tensorwise": ({"a.weight": whole8, "a.weight_scale": whole_scale.reshape(1), "a.comfy_quant": text(
            {"format": "float8_e4m3fn", "full_precision_matrix_mult": True})}, {}, by_tensor),
        "old": ({"a.weight": whole8, "a.scale_weight": whole_scale, "a.scale_input": torch.ones(()),
                 "scaled_fp8": torch.empty(2, dtype=FP8)}, {}, by_tensor),
        "header": ({"a.weight": whole8, "a.weight_scale": whole_scale, "a.input_scale": torch.ones(())},
                   {"_quantization_metadata": json.dumps(layers)}, by_tensor),
    }  # fmt: skip


@pytest.mark.parametrize("form", ["ours", "int8", "tensorwise", "old", "header"])
def test_every_form_is_read(tmp_path, weight, form):
    tensors, metadata, expected = forms(weight)[form]
    save_file(tensors | {"b.weight": weight}, tmp_path / "x.safetensors", metadata=metadata)
    weights = open_weights(tmp_path / "x.safetensors")
    scaled = scaled_weights(weights)
    assert list(scaled) == ["a.weight"]
    plain = resolved(weights, scaled)
    assert sorted(plain.entries) == ["a.weight", "b.weight"] and plain.entries["a.weight"].dtype == torch.float32
    assert torch.equal(plain.read("a.weight"), expected) and torch.equal(plain.read("b.weight"), weight)
    kept = resolved(weights, scaled, ["a.weight"])
    assert sorted(kept.entries) == ["a.weight", "a.weight_scale", "b.weight"]
    assert kept.shapes["a.weight_scale"] == (6, 1) and kept.entries["a.weight"].dtype in (FP8, INT8)
    assert torch.equal(dequantize(kept.read("a.weight"), kept.read("a.weight_scale")), expected)


def test_unscaled_floats_in_eight_bits_are_numbers(tmp_path, weight):
    save_file({"a.weight": weight.to(FP8)}, tmp_path / "x.safetensors")
    assert scaled_weights(open_weights(tmp_path / "x.safetensors")) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a.comfy_quant": text({"format": "nvfp4"})}, "a is quantized as 'nvfp4'"),
        ({"a.comfy_quant": text({"format": "int8_tensorwise", "convrot": True})}, "'int8_tensorwise' with convrot"),
        ({"a.comfy_quant": text({"format": "int8_tensorwise", "params": {"convrot": True}})}, "with convrot"),
        ({"a.comfy_quant": text([1])}, "a is quantized as 'None'"),
        ({"a.comfy_quant": text("x" * 20_000)}, "no description"),
        ({"a.comfy_quant": torch.tensor([123, 34], dtype=torch.uint8)}, "a.comfy_quant"),
        ({"a.comfy_quant": text({"format": "int8_tensorwise"})}, "marked as int8_tensorwise, but stored as"),
        ({"a.weight_scale": torch.ones(3, 2)}, "neither one scale nor one a row"),
        ({"a.weight_scale": torch.ones(1, 6)}, "neither one scale nor one a row"),
        ({"a.weight_scale": torch.ones(6, dtype=torch.int32)}, "neither one scale nor one a row"),
        ({"b.weight_scale": torch.ones(())}, "b.weight, which is missing"),
        ({"b.weight_scale": torch.ones(()), "b.weight": torch.ones(2, 2)}, "b.weight, which is stored as"),
        ({"a.weight_scale_2": torch.ones(())}, "not supported .a.weight_scale_2"),
        ({"b.qweight": torch.ones(2, 2, dtype=torch.int32)}, "not supported .b.qweight"),
        ({"a.scale_weight": torch.ones(())}, "two scales"),
        ({"b.weight": torch.ones(2, 2, dtype=torch.int8)}, "b.weight is stored as torch.int8 without a scale"),
        ({"a.weight_scale": None, "a.comfy_quant": text({"format": "int8_tensorwise"}),
          "a.weight": torch.ones(6, 40, dtype=torch.int8)}, "marked as int8_tensorwise, but has no scale"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_by_name(tmp_path, weight, change, message):
    tensors = forms(weight)["ours"][0] | change
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, tmp_path / "x.safetensors")
    with pytest.raises(FlashWorldError, match=message):
        scaled_weights(open_weights(tmp_path / "x.safetensors"))


def test_a_scale_that_is_not_finite_is_refused_when_it_is_read(tmp_path, weight):
    tensors = forms(weight)["ours"][0]
    tensors["a.weight_scale"][2] = float("inf")
    save_file(tensors, tmp_path / "x.safetensors")
    weights = open_weights(tmp_path / "x.safetensors")
    with pytest.raises(FlashWorldError, match="a.weight_scale is not finite"):
        resolved(weights, scaled_weights(weights)).read("a.weight")
