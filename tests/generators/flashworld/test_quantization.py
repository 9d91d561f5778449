"""Models in 8 bits: converted, loaded, planned, and as good as in bfloat16."""

import math
import weakref

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_model import one_thread  # noqa: F401

from flashworld_core.checkpoints.open import Entry, WeightFile
from flashworld_core.checkpoints.quantized import dequantize
from flashworld_core.errors import FlashWorldError
from flashworld_core.generators import model_path, open_model
from flashworld_core.generators.base import Request
from flashworld_core.generators.flashworld import quantization
from flashworld_core.generators.flashworld.checkpoint import build_parts, load
from flashworld_core.generators.flashworld.export import convert, save_folder
from flashworld_core.generators.flashworld.gaussian_decoder import GaussianDecoder
from flashworld_core.generators.flashworld.memory import memory_plan
from flashworld_core.generators.flashworld.presets import official_config
from flashworld_core.generators.flashworld.quantization import stored_tensors
from flashworld_core.generators.flashworld.transformer import FlashWorldTransformer
from flashworld_core.models.quantized_linear import QuantizedLinear, quantized_dtype
from flashworld_core.models.wan_vae import FrameEncoder
from flashworld_core.rendering.render import render
from flashworld_core.trajectories.presets import make_trajectory

TYPES = {"fp8": torch.float8_e4m3fn, "int8": torch.int8}


@pytest.fixture(scope="module")
def config(small_config):
    return small_config()


@pytest.fixture(scope="module")
def source(config, tmp_path_factory):
    torch.manual_seed(0)
    decoder = GaussianDecoder(config)
    torch.nn.init.normal_(decoder.gs_head.gs_proj.weight)
    path = tmp_path_factory.mktemp("source") / "model.ckpt"
    torch.save({"transformer": FlashWorldTransformer(config).state_dict(), "recon_decoder": decoder.state_dict()}, path)
    return path


def inputs(config):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, config.input_channels, 3, 4, 6, generator=generator)
    return x, torch.tensor([700.0]), torch.randn(1, 5, config.transformer.text_dim, generator=generator)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_converted_model_computes_with_the_multiplied_out_weights(source, config, tmp_path, dtype):
    target = convert(source, tmp_path / "x.safetensors", dtype, config=config)
    model = load(target, vae=FrameEncoder(config.vae), dtype=torch.float32)
    layers = {n: m for n, m in model.transformer.named_modules() if isinstance(m, QuantizedLinear)}
    assert len(layers) == 10 * config.transformer.num_layers and quantized_dtype(model.transformer) == TYPES[dtype]
    assert quantized_dtype(model.decoder) is None and model.dtype == torch.float32

    tensors = load_file(target)
    plain = {}
    for name, tensor in tensors.items():
        if name.endswith((".weight_scale", ".comfy_quant")):
            continue
        scale = tensors.get(name.removesuffix(".weight") + ".weight_scale")
        plain[name] = tensor.float() if scale is None else dequantize(tensor, scale)
    save_file(plain, tmp_path / "plain.safetensors", metadata=safe_open(target, "pt").metadata())
    twin = load(tmp_path / "plain.safetensors", vae=FrameEncoder(config.vae), dtype=torch.float32)
    with torch.no_grad():
        for a, b in zip(model.transformer(*inputs(config)), twin.transformer(*inputs(config)), strict=True):
            assert torch.equal(a, b)
    assert all(torch.equal(a, b) for a, b in zip(model.decoder.parameters(), twin.decoder.parameters(), strict=True))


def test_conversion_holds_one_weight_at_a_time(source, config, tmp_path, monkeypatch):
    """Every tensor that is read is gone before the next one is."""
    alive, most = set(), 0
    read = WeightFile.read

    def watched(self, name):
        nonlocal most
        tensor = read(self, name).clone()
        alive.add(name)
        weakref.finalize(tensor, alive.discard, name)
        most = max(most, len(alive))
        return tensor

    monkeypatch.setattr(WeightFile, "read", watched)
    convert(source, tmp_path / "x.safetensors", "int8", config=config)
    assert most <= 2  # the one that is written, and the one that is asked for


def test_loaded_in_half_precision_and_refused_elsewhere(source, config, tmp_path):
    target = convert(source, tmp_path / "x.safetensors", "fp8", config=config)
    model = load(target, vae=FrameEncoder(config.vae), dtype=torch.bfloat16)
    layer = model.transformer.blocks[0].attn1.to_q
    assert (layer.weight.dtype, layer.bias.dtype) == (torch.float8_e4m3fn, torch.bfloat16)
    assert layer.weight_scale.dtype == torch.float32
    model.to(dtype=torch.float32)
    assert layer.weight.dtype == torch.float8_e4m3fn and model.dtype == torch.float32
    with pytest.raises(FlashWorldError, match="stored in 8 bits; use the original"):
        convert(target, tmp_path / "again.safetensors", "int8")
    parts = {"transformer": model.transformer, "recon_decoder": model.decoder, "vae": model.encoder}
    with pytest.raises(FlashWorldError, match="cannot be saved as a folder"):
        save_folder(tmp_path / "folder", config, **parts)
    facts = open_model(target)
    assert facts.info.parameters == sum(
        p.numel() for p in (*FlashWorldTransformer(config).parameters(), *GaussianDecoder(config).state_dict().values())
    )
    assert facts.memory_plan(dtype=torch.bfloat16).stored == torch.float8_e4m3fn


def test_a_marker_that_is_not_known_is_refused_before_anything_is_made(source, config, tmp_path, monkeypatch):
    target = convert(source, tmp_path / "x.safetensors", "fp8", config=config)
    tensors = load_file(target)
    name = "transformer.blocks.0.attn1.to_q.comfy_quant"
    tensors[name] = torch.tensor(list(b'{"format": "nvfp4"}'), dtype=torch.uint8)
    save_file(tensors, target, metadata=safe_open(target, "pt").metadata())
    monkeypatch.setattr("flashworld_core.generators.flashworld.checkpoint.build_parts", lambda config: pytest.fail())
    for work in (open_model, load):
        with pytest.raises(FlashWorldError, match="blocks.0.attn1.to_q is quantized as 'nvfp4'"):
            work(target)


@pytest.mark.parametrize("dtype", TYPES)
def test_the_published_model_in_eight_bits_fits_a_small_card(dtype):
    config = official_config()
    modules = build_parts(config)
    entries = {
        f"{part}.{name}": Entry(tuple(tensor.shape), torch.float32, None)
        for part, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    weights = WeightFile(None, "torch", entries, {}, (), 0)
    stored = stored_tensors(weights, modules, dtype)
    assert sum(math.prod(shape) * kind.itemsize for shape, kind in stored.values()) <= 5.4e9
    plan = memory_plan(config, dtype=torch.bfloat16, stored=TYPES[dtype])
    assert plan.peak(()) <= 7e9
    assert plan["transformer"].weights < 5.2e9


# --- what it costs -------------------------------------------------------------------------------------------


def decibels(a, b) -> float:
    return float(-10 * torch.log10((a.clamp(0, 1) - b.clamp(0, 1)).square().mean()))


@pytest.fixture(scope="module")
def tiny():
    """The embedded model's renders in bfloat16."""
    return renders(model_path("tiny"))


def renders(path):
    folder = model_path("tiny")
    parts = {"vae": folder / "vae.safetensors", "text_encoder": folder / "text_encoder"}
    model = open_model(path).load(dtype=torch.bfloat16, parts=parts)
    cameras = make_trajectory("orbit", views=6, amount=40.0, width=96, height=64)
    made = model.generate(Request(cameras, prompt="a red cube and a blue sphere", seed=3))
    return render(made.gaussians, made.cameras).rgb


@pytest.mark.parametrize("dtype", TYPES)
def test_the_embedded_models_scenes_stay_what_they_are(tiny, tmp_path, dtype):
    images = renders(convert(model_path("tiny"), tmp_path / "x.safetensors", dtype))
    assert images.std() > 0.05 and not torch.equal(images, tiny)
    assert decibels(images, tiny) >= 40


def test_so_they_do_with_both_factors_in_fp8(tiny, tmp_path, monkeypatch):
    """What a card computes that multiplies fp8; slow on a CPU, but the same numbers."""
    from flashworld_core.models import quantized_linear

    monkeypatch.setattr(quantized_linear, "multiplies_fp8", lambda device: hasattr(torch, "_scaled_mm"))
    images = renders(convert(model_path("tiny"), tmp_path / "x.safetensors", "fp8"))
    assert decibels(images, tiny) >= 40
    assert quantization.QUANTIZED.keys() == TYPES.keys()
