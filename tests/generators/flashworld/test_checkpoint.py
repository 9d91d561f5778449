import contextlib
import dataclasses
import json
import logging
import os
import pickle
import re

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_configs import diffusers_vae

from flashworld_core.checkpoints.describe import describe
from flashworld_core.checkpoints.manifest import Manifest
from flashworld_core.errors import Cancelled, FlashWorldError
from flashworld_core.generators import load_model
from flashworld_core.generators.flashworld import checkpoint
from flashworld_core.generators.flashworld.checkpoint import load
from flashworld_core.generators.flashworld.export import save_folder
from flashworld_core.generators.flashworld.gaussian_decoder import GaussianDecoder
from flashworld_core.generators.flashworld.presets import official_config
from flashworld_core.generators.flashworld.transformer import FlashWorldTransformer
from flashworld_core.models.wan_vae import FrameEncoder
from flashworld_core.training.recipes.tiny import build_tiny_tokenizer, tiny_umt5_config

PROMPT = "a red box"


@pytest.fixture(scope="module")
def config(small_config):
    return small_config()


@pytest.fixture(scope="module")
def parts(config):
    """Networks with random weights, and a text side."""
    from transformers import UMT5EncoderModel

    torch.manual_seed(0)
    decoder = GaussianDecoder(config)
    torch.nn.init.normal_(decoder.gs_head.gs_proj.weight)
    tokenizer = build_tiny_tokenizer(["[Static]", PROMPT])
    text = UMT5EncoderModel(
        tiny_umt5_config(len(tokenizer), d_model=config.transformer.text_dim, heads=2, d_ff=12)
    ).eval()
    return {
        "transformer": FlashWorldTransformer(config),
        "recon_decoder": decoder,
        "vae": FrameEncoder(config.vae),
        "text_encoder": text,
        "tokenizer": tokenizer,
    }


@pytest.fixture
def folder(config, parts, tmp_path):
    return save_folder(tmp_path / "model", config, **parts, license="ours", notes={"seed": 3})


def both_states(parts):
    return {name: dict(parts[name].state_dict()) for name in ("transformer", "recon_decoder")}


@pytest.fixture
def ckpt(parts, tmp_path):
    """A model.ckpt as published: nested dictionaries, no config."""
    path = tmp_path / "ckpt" / "model.ckpt"
    path.parent.mkdir()
    torch.save({**both_states(parts), "step": 7}, path)
    return path


def assert_same_weights(model, parts, dtype=torch.float32):
    for loaded, original in (
        (model.transformer, "transformer"),
        (model.decoder, "recon_decoder"),
        (model.encoder, "vae"),
    ):
        expected = parts[original].state_dict()
        assert list(loaded.state_dict()) == list(expected)
        for name, tensor in loaded.state_dict().items():
            single = original == "transformer" and ("time_embedder" in name or "scale_shift" in name or "norm2" in name)
            assert tensor.dtype == (torch.float32 if single else dtype), name
            assert torch.equal(tensor, expected[name].to(tensor.dtype)), name
        assert not any(tensor.is_meta for tensor in (*loaded.parameters(), *loaded.buffers()))


# --- round trips ---------------------------------------------------------------------------------------------


def test_folder_round_trip(folder, config, parts):
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == [
        "config.json",
        "model.safetensors",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "text_encoder/tokenizer.json",
        "vae.safetensors",
    ]
    for path in (folder, folder / "config.json", folder / "model.safetensors", str(folder)):
        model = load(path)
        assert model.config == config and model.license == "ours" and model.info.model_id == "small"
        assert_same_weights(model, parts)
        assert not model.transformer.training and not any(p.requires_grad for p in model.transformer.parameters())
    rows = model.text.encode(PROMPT)
    ids = parts["tokenizer"]("[Static] " + PROMPT, truncation=True, max_length=config.text_length, return_tensors="pt")
    with torch.no_grad():
        expected = parts["text_encoder"](input_ids=ids.input_ids).last_hidden_state
    torch.testing.assert_close(rows[:, : ids.input_ids.shape[1]], expected, rtol=0, atol=1e-5)
    assert_same_weights(load_model(folder), parts)


def test_loaded_networks_compute_what_the_saved_ones_do(folder, config, parts):
    model = load(folder)
    h, w = config.latent_size()
    inputs = torch.randn(1, config.input_channels, config.views, h, w)
    text = torch.randn(1, config.text_length, config.transformer.text_dim)
    images = torch.randn(2, 3, config.height, config.width)
    with torch.no_grad():
        for ours, original in zip(
            model.transformer(inputs, torch.tensor([900.0]), text),
            parts["transformer"](inputs, torch.tensor([900.0]), text),
            strict=True,
        ):
            # Not equal to the last bit: kernels depend on how a tensor lies in memory, and these lie in a file.
            torch.testing.assert_close(ours, original, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model.encoder.moments(images), parts["vae"].moments(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtype_on_loading(folder, parts, dtype):
    model = load(folder, dtype=dtype)
    if dtype == torch.float64:  # wider than single: nothing is held back
        assert {p.dtype for p in model.transformer.parameters()} == {torch.float64}
    else:
        assert_same_weights(model, parts, dtype)


def test_half_precision_folder_that_runs_in_single(tmp_path, config, parts):
    half = save_folder(tmp_path / "half", config, **parts, dtype=torch.float16, compute_dtype="float32")
    full = save_folder(tmp_path / "full", config, **parts)
    size = {p: sum(f.stat().st_size for f in p.rglob("*.safetensors")) for p in (half, full)}
    assert size[half] < 0.75 * size[full]  # small tensors and headers weigh much in so small a model
    model = load(half)
    assert {p.dtype for p in model.transformer.parameters()} == {torch.float32}
    name = "blocks.1.ffn.net.2.weight"
    expected = parts["transformer"].get_parameter(name)
    assert torch.equal(model.transformer.get_parameter(name), expected.half().float())
    table = model.transformer.scale_shift_table
    assert torch.equal(table, parts["transformer"].scale_shift_table)  # never rounded
    assert load(half, dtype=torch.bfloat16).transformer.get_parameter(name).dtype == torch.bfloat16
    assert torch.isfinite(model.text.encode(PROMPT)).all()
    assert model.text._encoder.shared.weight.dtype == torch.float32


def test_published_form(ckpt, folder, parts, config):
    model = load(ckpt, config=config, vae=folder / "vae.safetensors", text_encoder=folder / "text_encoder")
    assert_same_weights(model, parts)
    assert model.text.encode(PROMPT).shape == (1, config.text_length, config.transformer.text_dim)
    bf16 = load(ckpt, config=config, vae=folder / "vae.safetensors", dtype=torch.bfloat16)
    assert_same_weights(bf16, parts, torch.bfloat16)
    assert bf16.text is None


def test_parts_beside_the_checkpoint_or_already_loaded(ckpt, folder, parts, config):
    model = load(ckpt, config=config, vae=parts["vae"], text_encoder=load(folder).text)
    assert model.encoder is parts["vae"] and model.text is not None
    with pytest.raises(FlashWorldError, match="needs the Wan 2.2 VAE"):
        load(ckpt, config=config)
    (ckpt.parent / "vae.safetensors").write_bytes((folder / "vae.safetensors").read_bytes())
    (folder / "text_encoder").rename(ckpt.parent / "text_encoder")
    assert_same_weights(load(ckpt, config=config), parts)
    assert load(ckpt.parent, config=config).text.encode(PROMPT).abs().sum() > 0  # the folder around model.ckpt


def test_loaded_weights_can_be_trained_without_touching_the_file(folder):
    before = (folder / "model.safetensors").read_bytes()
    model = load(folder)
    for parameter in model.transformer.parameters():
        parameter.data.add_(1.0)
    assert (folder / "model.safetensors").read_bytes() == before
    again = load(folder)
    assert not torch.equal(again.transformer.proj_out.bias, model.transformer.proj_out.bias)


def test_stop(folder):
    asked = iter([False] * 20)
    with pytest.raises(Cancelled):
        load(folder, should_stop=lambda: next(asked, True))


def test_progress_counts_every_tensor(folder):
    told = []
    model = load(folder, progress=lambda done, total: told.append((done, total)))
    count = sum(len(m.state_dict()) for m in (model.transformer, model.decoder))
    assert told == [(i + 1, count) for i in range(count)]


def test_saving_again_keeps_other_files_and_leaves_nothing_behind(folder, config, parts, monkeypatch):
    (folder / "README.md").write_text("card")
    before = {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(FlashWorldError, match="belong together"):
        save_folder(folder, config, **{**parts, "tokenizer": None})
    broken = {**parts, "vae": {"encoder.x": torch.zeros(2, device="meta")}}
    with pytest.raises(NotImplementedError):
        save_folder(folder, config, **broken)
    assert {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    save_folder(folder, dataclasses.replace(config, model_id="other"), **parts)
    assert load(folder).info.model_id == "other" and (folder / "README.md").read_text() == "card"
    assert {p.name for p in folder.iterdir()} == {
        "README.md", "config.json", "model.safetensors", "text_encoder", "vae.safetensors",
    }  # fmt: skip


# --- the config that travels ---------------------------------------------------------------------------------


def test_manifest_round_trip(config):
    manifest = Manifest("flashworld", config.to_dict(), "free", "float32", {"psnr": [1.5, 2]})
    again = Manifest.from_json(manifest.to_json(), "x")
    assert checkpoint.config_of(again) == config
    assert dataclasses.replace(again, config={}) == dataclasses.replace(manifest, config={})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator": None}, "not a model manifest"),
        ({"format_version": 99}, "format version 99"),
        ({"compute_dtype": "float8"}, "compute_dtype"),
        ({"config": None}, "holds no config"),
        ({"config": {"transformer": {}, "vae": {}}}, "transformer.attention_head_dim, .* are missing"),
        ({"generator": "other"}, "'other' model"),
    ],
)
def test_bad_manifests(config, change, message):
    content = json.loads(Manifest("flashworld", config.to_dict()).to_json()) | change
    with pytest.raises(FlashWorldError, match=message):
        checkpoint.config_of(Manifest.from_json(json.dumps(content), "x"))


def test_config_that_is_not_the_files(folder, config):
    def with_config(**changes):
        changed = dataclasses.replace(config, **changes)
        (folder / "config.json").write_text(Manifest("flashworld", changed.to_dict()).to_json())

    with_config(feature_channels=config.feature_channels + 2)
    with pytest.raises(FlashWorldError, match="do not fit the FlashWorld model: .*of another shape"):
        load(folder)
    with_config(transformer=dataclasses.asdict(config.transformer) | {"num_layers": 3})
    with pytest.raises(FlashWorldError, match=r"missing \(transformer.blocks.2"):
        load(folder)
    with_config(transformer=dataclasses.asdict(config.transformer) | {"num_layers": 10**9})
    with pytest.raises(FlashWorldError, match="not its own"):
        load(folder)
    with_config(transformer=dataclasses.asdict(config.transformer) | {"rope_max_seq_len": 10**9})
    with pytest.raises(FlashWorldError, match="not its own"):
        load(folder)
    with pytest.raises(FlashWorldError, match="rope_max_seq_len must be a whole number below"):
        with_config(transformer=dataclasses.asdict(config.transformer) | {"rope_max_seq_len": 10**12})
    with_config(transformer=dataclasses.asdict(config.transformer) | {"attention_head_dim": 10**9})
    with pytest.raises(FlashWorldError, match=r"width 24 \(transformer.patch_embedding.weight\) instead of 2000000000"):
        load(folder)
    with_config(num_points=10**8)
    with pytest.raises(FlashWorldError, match="Gaussian channels 76 .* instead of"):
        load(folder)
    with pytest.raises(FlashWorldError, match="freq_dim must be a whole number"):
        with_config(transformer=dataclasses.asdict(config.transformer) | {"freq_dim": "many"})
    (folder / "config.json").write_text("{")
    with pytest.raises(FlashWorldError, match="not JSON"):
        load(folder)
    (folder / "config.json").write_text('{"downloads": 3}')  # somebody else's; the weights carry the config too
    assert load(folder).config == config


def test_checkpoint_of_another_size_without_config(ckpt, folder):
    with pytest.raises(FlashWorldError, match="another size than the published one"):
        load(ckpt, vae=folder / "vae.safetensors")


@pytest.mark.parametrize("dtype", [torch.int64, torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64])
def test_tensors_that_are_no_floating_point_numbers_are_refused_by_name(folder, dtype):
    file = folder / "model.safetensors"
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    state = load_file(file)
    name = next(name for name in sorted(state) if name.endswith("attn1.to_q.weight"))
    save_file({**state, name: state[name].to(dtype)}, file, metadata)
    with pytest.raises(FlashWorldError, match=re.escape(name)):
        load(folder)


def test_official_size_is_recognized_by_shapes_alone(monkeypatch, tmp_path):
    """The whole published list of names and shapes, on the meta device: no memory, no file."""
    official = official_config()
    modules = checkpoint.build_parts(official)
    from flashworld_core.checkpoints.open import Entry, WeightFile

    entries = {
        f"{part}.{name}": Entry(tuple(t.shape), torch.float32, lambda t=t: t)
        for part, module in modules.items()
        for name, t in module.state_dict().items()
    }
    weights = WeightFile(tmp_path / "model.ckpt", "torch", entries, {}, ("transformer", "recon_decoder"), 1)
    monkeypatch.setattr(checkpoint, "open_model_weights", lambda path: weights)
    _, _, manifest = checkpoint.open_checkpoint(tmp_path / "model.ckpt")
    assert checkpoint.config_of(manifest) == official and "research" in manifest.license
    checkpoint.check_parts(weights, modules)
    assert sum(t.numel() for m in modules.values() for t in m.state_dict().values()) == 5026211008 + 207832776


# --- the VAE in its other forms ------------------------------------------------------------------------------


def full_vae(config, seed=0):
    """diffusers' own untrimmed video VAE with random weights."""
    torch.manual_seed(seed)
    vae = diffusers_vae(config.vae)
    for parameter in vae.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return vae


def single_file_name(name):
    """diffusers' VAE name to the single file's, written out independently of the reader's rules."""
    name = re.sub(r"^quant_conv", "conv1", re.sub(r"^post_quant_conv", "conv2", name))
    name = re.sub(r"(encoder|decoder)\.conv_in", r"\1.conv1", name)
    name = name.replace(".norm_out.gamma", ".head.0.gamma").replace(".conv_out.", ".head.2.")
    name = name.replace("mid_block.resnets.0", "middle.0").replace("mid_block.resnets.1", "middle.2")
    name = name.replace("mid_block.attentions.0", "middle.1")
    inner = {"norm1.gamma": "residual.0.gamma", "conv1": "residual.2", "norm2.gamma": "residual.3.gamma"}
    inner |= {"conv2": "residual.6", "conv_shortcut": "shortcut"}
    if ".resnets." in name or ".middle.0." in name or ".middle.2." in name:
        for old, new in inner.items():
            name = re.sub(rf"\.{re.escape(old)}(?=\.|$)", f".{new}", name)
    for side, kind, number in (("down", "downsampler", "{n}"), ("up", "upsampler", "{m}")):
        stage = rf"{side}_blocks\.(\d+)"
        name = re.sub(rf"{stage}\.resnets\.(\d+)", rf"{side}samples.\1.{side}samples.\2", name)
        name = re.sub(rf"{stage}\.{kind}", rf"{side}samples.\1.{side}samples.{number}", name)
    return name


def write_single_file(vae, config, path, prefix=""):
    blocks = config.vae.num_res_blocks
    state = {
        prefix + single_file_name(name).format(n=blocks, m=blocks + 1): tensor
        for name, tensor in vae.state_dict().items()
    }
    assert any("downsamples.0.downsamples.0.residual.2" in name for name in state)
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    return path


@pytest.mark.parametrize("form", ["folder", "pipeline", "safetensors", "pth", "prefixed"])
def test_vae_of_every_origin_encodes_like_diffusers(config, folder, tmp_path, form):
    vae = full_vae(config)
    if form in ("folder", "pipeline"):
        vae.save_pretrained(tmp_path / "wan" / "vae")
        source = tmp_path / "wan" / ("vae" if form == "folder" else "")
    else:
        name = "Wan2.2_VAE.pth" if form == "pth" else "wan2.2_vae.safetensors"
        source = write_single_file(vae, config, tmp_path / name, "first_stage_model." if form == "prefixed" else "")
    model = load(folder, vae=source)
    assert model.encoder.encoder.conv_in.weight.shape[2] == 1
    images = torch.rand(2, 3, config.height, config.width) * 2 - 1
    with torch.no_grad():
        expected = vae.encode(images[:, :, None]).latent_dist.parameters[:, :, 0]
        actual = model.encoder.moments(images)
    # The reference clamps nothing here: its parameters are the raw moments.
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_vae_of_another_size_or_kind(config, folder, small_config, tmp_path):
    wider = small_config(vae={"base_dim": 8})
    path = write_single_file(full_vae(wider), wider, tmp_path / "wan2.2_vae.safetensors")
    with pytest.raises(FlashWorldError, match="do not fit the VAE encoder: .*of another shape"):
        load(folder, vae=path)
    with pytest.raises(FlashWorldError, match="not the Wan 2.2 VAE: it looks like a FlashWorld checkpoint"):
        load(folder, vae=folder / "model.safetensors")
    old = {"encoder.downsamples.0.residual.0.gamma": torch.ones(4, 1, 1, 1), "conv1.weight": torch.ones(1)}
    save_file(old, tmp_path / "wan_2.1_vae.safetensors")
    with pytest.raises(FlashWorldError, match="looks like the Wan 2.1 VAE"):
        load(folder, vae=tmp_path / "wan_2.1_vae.safetensors")


# --- wrong files ---------------------------------------------------------------------------------------------


def wan_state(parts, naming):
    """The base transformer: FlashWorld's with the base model's channels."""
    from flashworld_core.generators.flashworld.checkpoint_names import wan_transformer_name

    state = dict(parts["transformer"].state_dict())
    state["patch_embedding.weight"] = state["patch_embedding.weight"][:, :6].clone()
    rename = wan_transformer_name if naming != "diffusers" else str
    prefix = "model.diffusion_model." if naming == "comfy" else ""
    return {prefix + rename(name): tensor for name, tensor in state.items()}


def dual_mode(parts):
    """The published structure without the feedback channels."""
    both = both_states(parts)
    weight = both["transformer"]["patch_embedding.weight"]
    both["transformer"]["patch_embedding.weight"] = weight[:, :18].clone()
    return {f"{part}.{name}": tensor for part, state in both.items() for name, tensor in state.items()}


def named(*names, shape=(2, 2)):
    return {name: torch.zeros(shape) for name in names}


WRONG = {
    "wan diffusers": (lambda p: wan_state(p, "diffusers"), r"base video transformer .*diffusers' naming"),
    "wan original": (lambda p: wan_state(p, "original"), r"base video transformer .*Wan's own naming"),
    "wan comfy": (lambda p: wan_state(p, "comfy"), r"base video transformer .*Wan's own naming"),
    "wan 5b": (
        lambda p: (
            named("time_embedding.0.weight", "blocks.0.self_attn.q.weight")
            | {"patch_embedding.weight": torch.zeros(3072, 48, 1, 2, 2)}
        ),
        "Wan2.2-TI2V-5B",
    ),
    "dual mode": (dual_mode, "pre-trained dual-mode checkpoint"),
    "half": (lambda p: p["recon_decoder"].state_dict(), "without its transformer"),
    "transformer alone": (
        lambda p: (
            named("condition_embedder.time_embedder.linear_1.weight", "blocks.0.attn1.to_q.weight")
            | {"patch_embedding.weight": torch.zeros(8, 1174, 1, 2, 2)}
        ),
        "transformer without its 3DGS decoder",
    ),
    "vae": (lambda p: p["vae"].state_dict(), "Wan 2.2 VAE .*give it as the VAE"),
    "umt5": (
        lambda p: {k: v for k, v in p["text_encoder"].state_dict().items() if "embed_tokens" not in k},
        "UMT5 text encoder; give it as the text encoder",
    ),
    "umt5 original": (lambda p: named("token_embedding.weight", "blocks.0.attn.q.weight"), "Wan's own naming"),
    "lora": (lambda p: named("diffusion_model.blocks.0.self_attn.q.lora_A.weight"), "a LoRA"),
    "kohya lora": (lambda p: named("lora_unet_blocks_0_attn.lora_down.weight"), "a LoRA"),
    "sdxl": (
        lambda p: named("model.diffusion_model.input_blocks.0.0.weight", "conditioner.embedders.0.x"),
        "Stable Diffusion XL",
    ),
    "sd": (
        lambda p: named("model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.x"),
        "Stable Diffusion checkpoint",
    ),
    "flux": (lambda p: named("double_blocks.0.img_attn.qkv.weight"), "Flux"),
    "sd vae": (lambda p: named("encoder.down.0.block.0.conv1.weight"), "VAE of another model"),
    "clip": (lambda p: named("text_model.encoder.layers.0.x"), "CLIP"),
    "other": (lambda p: named("something.weight"), "another model .*something.weight"),
    "empty": (lambda p: {}, "without any tensors"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("form", ["safetensors", "ckpt"])
def test_a_wrong_file_is_called_by_its_name(parts, tmp_path, kind, form):
    make, message = WRONG[kind]
    path = tmp_path / f"file.{form}"
    if form == "ckpt":
        torch.save(make(parts), path)
    else:
        save_file(make(parts), path)
    with pytest.raises(FlashWorldError, match=message) as caught:
        load(path)
    assert "model.ckpt" in str(caught.value) and str(caught.value).count(". ") == 0  # one sentence, with the way out


def test_wrong_shapes_and_names_are_listed(ckpt, folder, parts, config):
    def refused(message, change):
        both = both_states(parts)
        change(both["transformer"])
        torch.save(both, ckpt)
        with pytest.raises(FlashWorldError, match=message):
            load(ckpt, config=config, vae=folder / "vae.safetensors")

    name = "blocks.1.attn2.to_v.weight"
    refused(rf"1 missing \(transformer.{name}\)", lambda state: state.pop(name))
    refused(r"2 unexpected \(transformer.a, transformer.b\)", lambda s: s.update(a=torch.ones(1), b=torch.ones(1)))
    refused(r"to_v.weight \[2\] instead of \[24, 24\]", lambda state: state.update({name: torch.ones(2)}))
    # Nothing is allocated for a tensor that claims a size it does not have.
    huge = torch.zeros(1).expand(10**6, 10**6)
    refused("not stored in full", lambda state: state.update({name: huge}))


# --- files that are no checkpoints ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        (b"\n <html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n", "Git LFS pointer"),
        (b"GGUF\x03\0\0\0" + bytes(100), "a GGUF file"),
        (b'{"error": "gated"}', "a JSON text"),
        (b"PK\x03\x04" + bytes(200), "cut short"),
        (b"\x7fELF" + bytes(100), "neither safetensors nor torch"),
        ((200).to_bytes(8, "little") + b"{" + b"x" * 300, "damaged safetensors"),
    ],
)
def test_no_checkpoint_at_all(tmp_path, content, message):
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    with pytest.raises(FlashWorldError, match=message):
        load(path)
    with pytest.raises(FlashWorldError, match=message):
        describe(path)


def test_missing_files_and_folders(tmp_path, folder):
    with pytest.raises(FlashWorldError, match="no such file"):
        load(tmp_path / "nothing.ckpt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FlashWorldError, match="no weight file"):
        load(tmp_path / "empty")
    (tmp_path / "empty" / "model_index.json").write_text("{}")
    with pytest.raises(FlashWorldError, match="a diffusers pipeline"):
        load(tmp_path / "empty")


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
def test_truncated_files(folder, ckpt, config, name):
    path = folder / name if name.endswith("safetensors") else ckpt
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2, 900, 9, 3):
        path.write_bytes(whole[:length])
        with pytest.raises(FlashWorldError, match="cut short|damaged|neither"):
            load(path, config=config, vae=folder / "vae.safetensors")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FlashWorldError, match="cut short"):
        load(path, config=config)


def test_damaged_bytes_never_crash(folder, ckpt, config, parts):
    """Whatever is overwritten, the answer is a model or an error of ours."""
    generator = torch.Generator().manual_seed(0)
    for path in (ckpt, folder / "model.safetensors"):
        whole = path.read_bytes()
        for position in torch.randint(0, len(whole), (12,), generator=generator).tolist() + list(range(0, 64, 9)):
            damaged = bytearray(whole)
            damaged[position : position + 8] = b"\xff" * len(damaged[position : position + 8])
            path.write_bytes(damaged)
            with contextlib.suppress(FlashWorldError):
                load(path, config=config, vae=parts["vae"])
        path.write_bytes(whole)


class Hostile:
    """Unpickling this runs a command."""

    def __init__(self, marker):
        self.command = f"touch '{marker}'"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle"])
def test_a_hostile_pickle_is_refused_unexecuted(tmp_path, form):
    marker, path = tmp_path / "executed", tmp_path / "model.ckpt"
    content = {"transformer": {"x": torch.zeros(2)}, "recon_decoder": Hostile(marker)}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(Hostile(marker)))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    pickle.loads(pickle.dumps(Hostile(marker)))  # the trap works
    assert marker.exists()
    marker.unlink()
    with pytest.raises(FlashWorldError, match="refused.*[Nn]othing was executed") as caught:
        load(path)
    assert not marker.exists()
    assert "weights_only" not in str(caught.value)  # no advice to switch the protection off


def test_compressed_archives_are_refused(ckpt, config):
    import zipfile

    with zipfile.ZipFile(ckpt) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(ckpt, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    with pytest.raises(FlashWorldError, match="compressed"):
        load(ckpt, config=config)


def test_a_checkpoint_may_carry_a_whole_training(ckpt, folder, parts, config, caplog):
    extra = {"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "epoch": 3, "ema": {"x": torch.ones(1)}}
    torch.save({**both_states(parts), **extra}, ckpt)
    with caplog.at_level(logging.INFO):
        assert_same_weights(load(ckpt, config=config, vae=folder / "vae.safetensors"), parts)
    assert "ema" in caplog.text


def test_name_of_the_pre_trained_model_is_warned_about(folder, caplog):
    other = folder.with_name("FlashWorldPretrain")
    folder.rename(other)
    with caplog.at_level(logging.WARNING):
        load(other)
    assert "pre-trained" in caplog.text


def test_shards_stay_inside_their_folder(folder, tmp_path):
    state = load_file(folder / "model.safetensors")
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    names = sorted(state)
    weight_map = {}
    for i, chosen in enumerate((names[::2], names[1::2])):
        file = f"model-{i}.safetensors"
        save_file({name: state[name] for name in chosen}, sharded / file)
        weight_map |= dict.fromkeys(chosen, file)
    index = sharded / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    (sharded / "config.json").write_bytes((folder / "config.json").read_bytes())
    model = load(sharded, vae=folder / "vae.safetensors")
    assert torch.equal(model.transformer.proj_out.weight, state["transformer.proj_out.weight"])

    def refused(message, changed):
        index.write_text(json.dumps(changed))
        with pytest.raises(FlashWorldError, match=message):
            load(sharded, vae=folder / "vae.safetensors")

    refused("not a file beside it", {"weight_map": weight_map | {names[0]: "../model/model.safetensors"}})
    refused("is missing", {"weight_map": weight_map | {names[0]: "model-7.safetensors"}})
    refused("lacks", {"weight_map": weight_map | {names[0]: "model-1.safetensors"}})
    refused("not an index", {"map": {}})


# --- info ----------------------------------------------------------------------------------------------------


def test_describe(folder, ckpt, parts):
    facts = describe(folder)
    count = sum(t.numel() for n in ("transformer", "recon_decoder") for t in parts[n].state_dict().values())
    assert (facts["kind"], facts["parameters"], facts["model_id"]) == ("flashworld", count, "small")
    assert facts["dtypes"] == {"float32": count} and sum(facts["parts"].values()) == count
    assert facts["notes"] == {"seed": 3} and facts["license"] == "ours" and facts["config"]["views"] == 3
    assert facts["vae"]["kind"] == "wan2.2 vae" and facts["text_encoder"]["kind"] == "umt5"
    assert facts["bytes"] == (folder / "model.safetensors").stat().st_size
    json.dumps(facts)
    facts = describe(ckpt)
    assert (facts["kind"], facts["format"], facts["parameters"]) == ("flashworld", "torch", count)
    assert "config" not in facts
    assert describe(folder / "vae.safetensors")["kind"] == "wan2.2 vae"
    assert describe(folder / "text_encoder")["kind"] == "umt5"
