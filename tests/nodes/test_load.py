"""Load FlashWorld Model: where its parts come from, what it says, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from flashworld_pack.flashworld_core.errors import FlashWorldError
from flashworld_pack.flashworld_core.generators import EMBEDDED as EMBEDDED_FOLDERS
from flashworld_pack.flashworld_core.generators import open_model
from flashworld_pack.flashworld_core.generators.flashworld.config import FlashWorldConfig
from flashworld_pack.flashworld_core.generators.flashworld.pipeline import info_of
from flashworld_pack.flashworld_core.generators.flashworld.presets import official_config
from flashworld_pack.nodes import load
from flashworld_pack.nodes import load as model_info
from flashworld_pack.nodes.comfyui import encoders as parts
from safetensors.torch import load_file, save_file

TINY = EMBEDDED_FOLDERS["tiny"]


def run_node(*inputs):
    return load.LoadModel.execute(*inputs).result[0]


@pytest.fixture
def copied(host):
    """The tiny model as a single file of the model folder, with the manifest in it and its VAE beside."""
    folder = host.models / "flashworld"
    folder.mkdir()
    weights = parts_of(TINY / "model.safetensors")
    save_file(weights, folder / "mine.safetensors", metadata={"flashworld": (TINY / "config.json").read_text()})
    shutil.copy(TINY / "vae.safetensors", folder / "vae.safetensors")
    return folder


def parts_of(path):
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict


class FakeVae:
    """ComfyUI's VAE socket: a video VAE that halves 4 times; encodes one film at a time."""

    latent_channels = 48

    def __init__(self, channels=48):
        self.latent_channels, self.seen = channels, []

    def spacial_compression_encode(self):
        return 16

    def encode(self, pixels):
        self.seen.append(pixels)
        assert pixels.ndim == 4 and pixels.shape[0] == 1 and pixels.shape[-1] == 3
        _, height, width, _ = pixels.shape
        mean = pixels.mean().expand(1, self.latent_channels, 1, height // 16, width // 16)
        return mean * torch.arange(1, self.latent_channels + 1).view(1, -1, 1, 1, 1)


class FakeClip:
    """ComfyUI's CLIP socket: rows of a width, at least 512 of them."""

    def __init__(self, width=4096, rows=512):
        self.width, self.rows, self.texts = width, rows, []

    def tokenize(self, text):
        self.texts.append(text)
        return {"umt5xxl": [[(1, 1.0)]]}

    def encode_from_tokens_scheduled(self, tokens):
        rows = torch.arange(self.rows, dtype=torch.float16)[None, :, None].expand(1, self.rows, self.width)
        return [[rows, {"pooled_output": None}]]


# --- loading ---------------------------------------------------------------------------------------------------


def test_the_embedded_model_loads_lazily_and_says_what_it_is(host):
    loaded = run_node(load.EMBEDDED)
    assert not host.management.requests  # nothing is brought to a device by loading
    assert loaded.model.dtype == torch.float32 and loaded.model.text is not None
    texts = [text for text, _ in host.server.texts]
    assert any("License: Apache-2.0" in t and "8 views of 96x64" in t and "transformer" in t for t in texts), texts
    assert host.updates[-1][0] == host.updates[-1][1] > 0


@pytest.mark.parametrize(
    ("choice", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)]
)
def test_precision_is_the_users_choice(host, choice, dtype):
    model = run_node(load.EMBEDDED, choice).model
    assert model.dtype == dtype
    assert {p.dtype for p in model.decoder.parameters()} == {dtype}


def test_what_is_loaded_inside_inference_mode_is_not_bound_to_it(host):
    with torch.inference_mode():
        model = run_node(load.EMBEDDED).model
    for network in (model.transformer, model.decoder, model.encoder):
        assert not any(t.is_inference() for t in (*network.parameters(), *network.buffers()))


def test_a_file_of_the_model_folder_with_its_vae_beside_it(host, copied):
    shutil.copytree(TINY / "text_encoder", copied / "text_encoder")
    loaded = run_node("mine.safetensors", "fp32")
    expected = run_node(load.EMBEDDED).model.transformer.state_dict()
    found = loaded.model.transformer.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert loaded.model.text is not None


def test_the_vae_may_lie_in_the_hosts_folder(host, copied):
    (host.models / "vae").mkdir()
    (copied / "vae.safetensors").rename(host.models / "vae" / "Wan2.2_VAE.safetensors")
    assert run_node("mine.safetensors").model.encoder is not None


@pytest.mark.parametrize("usable", [True, False])
def test_of_several_text_encoders_the_first_that_can_be_used_is_taken(host, usable):
    """A file in a quantization that cannot be multiplied out is named, and the next one is tried."""
    folder = host.models / "text_encoders"
    folder.mkdir(exist_ok=True)
    shutil.copy(TINY / "text_encoder" / "tokenizer.json", folder)
    state = load_file(TINY / "text_encoder" / "model.safetensors")
    layer = "encoder.block.0.layer.0.SelfAttention.q"
    marker = torch.tensor(list(json.dumps({"format": "nvfp4"}).encode()), dtype=torch.uint8)
    quantized = {**state, f"{layer}.comfy_quant": marker, f"{layer}.weight_scale": torch.ones(())}
    save_file(quantized, folder / "umt5_a_nvfp4.safetensors")
    save_file(state if usable else quantized, folder / "umt5_b.safetensors")
    save_file(quantized, folder / "umt5_c.safetensors")
    info = SimpleNamespace(text=SimpleNamespace(text_dim=96))
    run = load.NodeRun("x")
    assert load.find_text_encoder(run, info).name == ("umt5_b.safetensors" if usable else "umt5_c.safetensors")
    assert len(run.lines) == 2 - usable and "umt5_a_nvfp4.safetensors is not used." in run.lines[0]
    assert "'nvfp4'" in run.lines[0]


def test_without_text_encoder_it_loads_all_the_same(host, copied):
    assert run_node("mine.safetensors").model.text is None


def test_the_plan_of_the_published_model_on_a_card(monkeypatch):
    from flashworld_pack.nodes.comfyui import memory

    opened = open_model("official")
    on_cpu = load.facts(opened, "bf16")
    monkeypatch.setattr(memory.management, "is_device_cpu", lambda device: False)
    lines = load.facts(opened, "bf16")[2:]
    assert "10.7 GB with one network loaded at a time, 14.5 GB with all" in lines[0]
    assert any("smaller card" in line for line in lines) and not any("smaller card" in line for line in on_cpu)
    assert any(line.startswith("- transformer: 10.1 GB of weights") for line in lines)


def test_cancel_stops_the_loading(host):
    host.management.interrupted = True
    with pytest.raises(host.management.InterruptProcessingException):
        run_node(load.EMBEDDED)


# --- errors ----------------------------------------------------------------------------------------------------


def test_no_such_model_names_folder_file_source_and_license(host):
    with pytest.raises(FlashWorldError) as error:
        run_node("model.ckpt")
    message = str(error.value)
    for part in (load.TITLE, "models/flashworld", "model.ckpt", "imlixinyang/FlashWorld", "license"):
        assert part in message.replace("\\", "/"), message
    assert load.LoadModel.validate_inputs("model.ckpt") in message
    assert load.LoadModel.validate_inputs(load.EMBEDDED) is True


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/../../b.ckpt", "C:\\x.ckpt", "nul.ckpt"])
def test_names_that_lead_elsewhere_are_refused(host, name):
    with pytest.raises(FlashWorldError):
        run_node(name)
    assert isinstance(load.LoadModel.validate_inputs(name), str)
    assert model_info.model_info(name)["error"]


def test_no_vae_says_which_and_where(host, copied):
    (copied / "vae.safetensors").unlink()
    with pytest.raises(FlashWorldError, match=r"Wan 2\.2 VAE.*wan2\.2_vae\.safetensors.*Apache-2\.0.*models/vae"):
        run_node("mine.safetensors")


def test_a_wrong_checkpoint_is_recognized(host):
    folder = host.models / "diffusion_models"
    folder.mkdir()
    names = ("condition_embedder.time_embedder.linear_1.weight", "blocks.0.attn1.to_q.weight")
    weights = {name: torch.zeros(2, 2) for name in names} | {"patch_embedding.weight": torch.zeros(3072, 48, 1, 2, 2)}
    save_file(weights, folder / "wan.safetensors")
    with pytest.raises(FlashWorldError, match=r"Wan2\.2-TI2V-5B.*load FlashWorld's model\.ckpt"):
        run_node("wan.safetensors")
    assert "Wan2.2-TI2V-5B" in model_info.model_info("wan.safetensors")["error"]


# --- caching ---------------------------------------------------------------------------------------------------


def test_the_fingerprint_follows_the_file(host, copied):
    import os

    before = load.LoadModel.fingerprint_inputs("mine.safetensors")
    assert load.LoadModel.fingerprint_inputs("mine.safetensors", "bf16") == before  # the host knows the widgets
    os.utime(copied / "mine.safetensors", ns=(1, 1))
    assert load.LoadModel.fingerprint_inputs("mine.safetensors") != before
    assert load.LoadModel.fingerprint_inputs("none.ckpt") == ""
    assert load.LoadModel.fingerprint_inputs(load.EMBEDDED) == load.LoadModel.fingerprint_inputs(load.EMBEDDED) != ""


# --- core sockets ----------------------------------------------------------------------------------------------


def test_the_vae_socket_encodes_each_view_alone_and_normalizes():
    config, vae = official_config(), FakeVae()
    encoder = parts.SocketEncoder(vae, info_of(config))
    images = torch.linspace(-1, 1, 3)[:, None, None, None].expand(3, 3, 32, 64)
    latents = encoder.encode(images, torch.randn(3, 48, 2, 4))
    assert latents.shape == (3, 48, 2, 4) and latents.dtype == torch.float32
    assert [seen.shape for seen in vae.seen] == [(1, 32, 64, 3)] * 3
    assert [round(float(seen.mean()), 4) for seen in vae.seen] == [0.0, 0.5, 1.0]
    mean, std = (torch.tensor(getattr(config.vae, f"latents_{name}")) for name in ("mean", "std"))
    raw = torch.arange(1, 49) * torch.tensor([[0.0], [0.5], [1.0]])
    torch.testing.assert_close(latents[:, :, 1, 3], (raw - mean) / std)
    assert list(encoder.parameters()) == [] and list(encoder.children()) != [vae]


@pytest.mark.parametrize(
    "vae", [FakeVae(16), SimpleNamespace(latent_channels=48, spacial_compression_encode=lambda: 8)]
)
def test_another_vae_is_refused(vae):
    with pytest.raises(FlashWorldError, match=r"the vae input has .* needs 48 and 16 \(the Wan 2\.2 VAE\): connect"):
        parts.SocketEncoder(vae, info_of(official_config()))


def test_a_big_vae_on_the_embedded_model_is_refused(host):
    with pytest.raises(FlashWorldError, match=r"flashworld-tiny needs .*leave the input open"):
        run_node(load.EMBEDDED, "auto", FakeVae())


def test_the_clip_socket_gives_the_rows_the_model_takes():
    config, clip = official_config(), FakeClip(rows=700)
    rows = parts.SocketText(clip, info_of(config)).encode("a lake (deep:1.3)")
    assert clip.texts == [r"[Static] a lake \(deep:1.3\)"]  # the host's way to say: no weight, just brackets
    assert rows.shape == (1, 512, 4096) and rows.dtype == torch.float32 and rows[0, -1, 0] == 511


def test_another_clip_is_refused():
    with pytest.raises(FlashWorldError, match=r"gives 768 numbers.*needs 4096 \(UMT5-XXL\): connect Load CLIP"):
        parts.SocketText(FakeClip(768), info_of(official_config())).encode("x")


@pytest.mark.parametrize("value", [None, [], [[]], [["text"]], 3])
def test_a_conditioning_that_is_none_is_refused(value):
    with pytest.raises(FlashWorldError, match="holds no text embedding"):
        parts.conditioning_rows(value, info_of(official_config()), "conditioning", parts.CLIP_ADVICE)


def test_sockets_win_over_files(host, copied):
    width = FlashWorldConfig.from_json(json.dumps(json.loads((TINY / "config.json").read_text())["config"]))
    clip = FakeClip(width.transformer.text_dim, 60)
    text = run_node("mine.safetensors", "fp32", None, clip).model.text
    assert text.encode("a").shape == (1, width.text_length, width.transformer.text_dim)


# --- what the browser asks -------------------------------------------------------------------------------------


def test_model_info_tells_license_and_plan_without_loading(host, copied, monkeypatch):
    from flashworld_pack.flashworld_core.generators.flashworld import checkpoint

    monkeypatch.setattr(checkpoint, "load", lambda *a, **k: pytest.fail("nothing is loaded"))
    for name in (load.EMBEDDED, "mine.safetensors"):
        info = model_info.model_info(name, "bf16")
        assert info["error"] == "" and info["license"].startswith("Apache-2.0")
        assert "flashworld-tiny" in info["summary"] and "bfloat16" in info["plan"][0] and len(info["plan"]) > 3
    assert "dtype" in model_info.model_info(load.EMBEDDED, "int3")["error"]


@pytest.mark.parametrize("query", [{}, {"model": "x"}, {"model": "../x"}, {"model": load.EMBEDDED, "dtype": "fp32"}])
def test_the_route_answers_json(host, monkeypatch, query):
    answers = []
    web = SimpleNamespace(json_response=lambda data, status=200: answers.append((data, status)))
    monkeypatch.setitem(sys.modules, "aiohttp", SimpleNamespace(web=web))
    asyncio.run(model_info._answer(SimpleNamespace(query=query)))
    ((data, status),) = answers
    assert status == 200 and set(data) == {"license", "summary", "plan", "error"}
    assert bool(data["error"]) == (query.get("model") != load.EMBEDDED)
    json.dumps(data)
