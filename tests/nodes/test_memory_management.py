"""Networks under the host's patchers: the same results, room asked for, and memory running out."""

from __future__ import annotations

import sys
import types

import comfy.model_management as management
import comfy.model_patcher
import comfy.ops
import pytest
import torch
from flashworld_pack.flashworld_core.errors import FlashWorldError
from flashworld_pack.flashworld_core.generators import load_model
from flashworld_pack.flashworld_core.runtime.stages import retry_on_oom
from flashworld_pack.nodes.comfyui import memory
from torch import nn

OOM = torch.OutOfMemoryError
SIZE = {"views": 3, "height": 64, "width": 96}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def plain():
    return load_model("tiny")


@pytest.fixture(scope="module")
def loaded():
    return memory.LoadedModel(load_model("tiny"))


def fail(error):
    raise error


def transformer_inputs(config):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, config.input_channels, 2, 4, 6, generator=g)
    return x, torch.tensor([700.0]), torch.randn(1, config.text_length, config.transformer.text_dim, generator=g)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_hosts_layers_compute_what_the_networks_own_do(dtype):
    model = load_model("tiny", dtype=dtype)
    inputs = transformer_inputs(model.config)
    names = list(model.transformer.state_dict())
    with torch.no_grad():
        before = model.transformer(*inputs)
        memory.use_host_layers(model.transformer)
        after = model.transformer(*inputs)
    swapped = [m for m in model.transformer.modules() if isinstance(m, nn.Linear)]
    assert len(swapped) > 50 and all(type(m) is comfy.ops.manual_cast.Linear for m in swapped)
    assert type(model.transformer.patch_embedding) is comfy.ops.manual_cast.Conv3d
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert list(model.transformer.state_dict()) == names and model.dtype == dtype


@pytest.mark.parametrize("dtype", ["fp8", "int8"])
def test_eight_bit_layers_stay_so_in_the_hosts_hands(tmp_path, dtype):
    from flashworld_pack.flashworld_core.generators import model_path, open_model
    from flashworld_pack.nodes.comfyui.layers import HostQuantizedLinear

    file, folder = open_model("tiny").convert(tmp_path / "x.safetensors", dtype), model_path("tiny")
    parts = {"vae": folder / "vae.safetensors", "text_encoder": folder / "text_encoder"}
    model = open_model(file).load(dtype=torch.bfloat16, parts=parts)
    inputs = transformer_inputs(model.config)
    with torch.no_grad():
        before = model.transformer(*inputs)
        memory.use_host_layers(model.transformer)
        after = model.transformer(*inputs)
    layers = [m for m in model.transformer.modules() if isinstance(m, HostQuantizedLinear)]
    assert len(layers) == 60 and all(m.weight.element_size() == 1 and m.comfy_cast_weights for m in layers)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_hosts_attention_reaches_every_block(monkeypatch):
    from flashworld_pack.nodes.comfyui import layers

    model = load_model("tiny", dtype=torch.float32)
    inputs = transformer_inputs(model.config)
    with torch.no_grad():
        expected = model.transformer(*inputs)
    seen = []

    def optimized_attention(query, key, value, heads):
        """Of a host: [B, tokens, heads * d] in and out."""
        assert query.ndim == 3
        seen.append((heads, query.shape[1], key.shape[1]))
        query, key, value = (t.unflatten(2, (heads, -1)).transpose(1, 2) for t in (query, key, value))
        return nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)

    chosen = types.SimpleNamespace(optimized_attention=optimized_attention)
    for name in ("comfy.ldm", "comfy.ldm.modules"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules["comfy.ldm.modules"], "attention", chosen, raising=False)
    part = memory.Part("transformer", model.transformer)
    assert model.transformer.attention is layers.host_attention
    with torch.no_grad():
        on_cpu = part.network(*inputs)
    assert not seen and all(torch.equal(a, b) for a, b in zip(on_cpu, expected, strict=True))
    monkeypatch.setattr(layers, "_ON_CPU", "another device")
    with torch.no_grad():
        out = part.network(*inputs)
    config = model.config
    tokens, heads = 2 * 4 * 6, config.transformer.num_attention_heads
    blocks = config.transformer.num_layers
    assert seen == blocks * [(heads, tokens, tokens), (heads, tokens, config.text_length)]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(out, expected, strict=True))


def test_only_plain_layers_are_swapped():
    class Own(nn.Linear):
        def forward(self, x):
            return -super().forward(x)

    network = nn.Sequential(nn.Linear(2, 2), Own(2, 2), nn.Embedding(3, 2), nn.LayerNorm(2))
    memory.use_host_layers(network)
    assert [type(m) for m in network] == [comfy.ops.manual_cast.Linear, Own, comfy.ops.manual_cast.Embedding,
                                          nn.LayerNorm]  # fmt: skip
    assert network[2].bias is None
    assert torch.equal(network[2](torch.tensor([1])), network[2].weight[1:2])


def test_a_network_whose_device_is_read_only_can_be_patched(loaded):
    with pytest.raises(AttributeError):
        loaded.model.transformer.device = torch.device("cpu")
    assert set(loaded.parts) == {"transformer", "decoder", "encoder"}
    assert type(loaded.parts["transformer"].patcher.model).__name__ == "FlashWorld transformer"


def test_the_host_may_leave_its_layers_behind_but_nothing_else(monkeypatch):
    """A host that loads nothing at all, as with too little memory: what it cannot stream is brought all the same."""
    part = memory.Part("test", nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.BatchNorm1d(2)), streamed=True)
    monkeypatch.setattr(part.patcher, "load_device", torch.device("meta"))
    monkeypatch.setattr(management, "load_models_gpu", lambda models, **options: None)
    assert part.bring(0).type == "meta"
    linear, norm, batch = part.network
    assert linear.weight.device.type == "cpu"
    assert {t.device.type for m in (norm, batch) for t in (*m.parameters(), *m.buffers())} == {"meta"}


def test_the_hosts_cache_can_count_the_weights(loaded):
    counted = sum(t.numel() * t.element_size() for t in loaded._comfy_cache_tensors())
    assert counted > 0.9 * sum(part.patcher.model_size() for part in loaded.parts.values())


def test_the_patcher_is_looked_up_when_it_is_needed(monkeypatch):
    class Dynamic(comfy.model_patcher.ModelPatcher):
        pass

    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", Dynamic, raising=False)
    assert type(memory.Part("test", nn.Linear(1, 1)).patcher) is Dynamic


def test_each_stage_asks_for_the_room_the_plan_names(host, loaded):
    plan = loaded.plan(**SIZE, views_per_chunk=2)
    stages = loaded.stages(plan, pytest.fail)
    for name in ("transformer", "decoder", "encoder"):
        with stages(name) as device:
            assert device.type == "cpu"
            (patcher,), asked = host.management.requests[-1]
            assert patcher is loaded.parts[name].patcher
            assert plan[name].activations <= asked <= plan[name].activations + plan[name].held
    with stages("renderer"), stages("text"):
        assert len(host.management.requests) == 3


def test_the_renderer_makes_room_on_an_accelerator(host, loaded, monkeypatch):
    monkeypatch.setattr(management, "is_device_cpu", lambda device: False)
    plan = loaded.plan(**SIZE)
    with loaded.stages(plan, pytest.fail)("renderer"):
        views = plan["renderer"].activations + plan["renderer"].held - plan["decoder"].held
        assert host.management.freed == [max(views, plan["world"].activations)]


def test_chunks_follow_the_memory_that_could_be_free(host, loaded, monkeypatch):
    monkeypatch.setattr(management, "is_device_cpu", lambda device: False)
    size = {"views": 24, "height": 480, "width": 704}
    stages = ("decoder", "renderer", "encoder")
    peaks = {chunk: max(loaded.plan(**size, views_per_chunk=chunk)[s].peak for s in stages) for chunk in (1, 2, 4)}
    assert peaks[1] < peaks[2] < peaks[4]
    for free, expected in ((peaks[4] / 0.89, 4), (peaks[2] / 0.89, 2), (peaks[1] / 2, 1)):
        monkeypatch.setattr(management, "get_free_memory", lambda dev=None, free=free: free)
        assert loaded.views_per_chunk(**size) == expected
    # What is loaded now counts as free: the host evicts it.
    loaded.parts["transformer"].bring(0)
    held = loaded.parts["transformer"].patcher.loaded_size()
    monkeypatch.setattr(management, "get_free_memory", lambda dev=None: peaks[2] / 0.89 - held)
    assert held > 1e6 and loaded.views_per_chunk(**size) == 2


@pytest.mark.parametrize(("name", "chunks"), [("decoder", [4, 2, 1, 1]), ("transformer", [4, 4])])
def test_running_out_of_memory_halves_chunks_then_gives_up(host, loaded, name, chunks):
    warnings, tried = [], []
    stages = loaded.stages(loaded.plan(**SIZE), warnings.append)

    def work(chunk):
        tried.append(chunk)
        with stages(name):
            raise OOM("no room")

    with pytest.raises(OOM):
        retry_on_oom(stages, name, 4, work)
    assert tried == chunks and len(warnings) == 1
    asked = [memory_required for _, memory_required in host.management.requests]
    assert asked == sorted(asked) and asked[-1] > asked[0]  # each time more room
    assert len(host.management.freed) == len(chunks) - 1  # each time after everything was evicted


def test_other_errors_stand(loaded):
    stages = loaded.stages(loaded.plan(**SIZE), pytest.fail)
    for error in (RuntimeError("shape"), FlashWorldError("no")):
        assert stages.recover("decoder", error, 4) is None
        with pytest.raises(type(error), match=str(error)):
            memory.with_clear_errors(lambda error=error: fail(error))


@pytest.mark.parametrize("error", [OOM("x"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_no_memory_at_all_says_what_to_change(host, error):
    with pytest.raises(FlashWorldError, match=r"fewer views.*smaller width.*lower precision") as raised:
        memory.with_clear_errors(lambda: fail(error))
    assert raised.value.__context__ is None and len(host.management.freed) == 1  # nothing holds on to the tensors


def test_the_hosts_own_judgement_of_errors_counts(monkeypatch):
    monkeypatch.setattr(management, "is_oom", lambda error: "odd" in str(error), raising=False)
    assert memory.is_out_of_memory(RuntimeError("odd")) and not memory.is_out_of_memory(OOM("x"))


@pytest.mark.parametrize(
    ("cpu", "bf16", "fp16", "expected"),
    [
        (True, True, True, torch.float32),
        (False, True, True, torch.bfloat16),
        (False, False, True, torch.float16),
        (False, False, False, torch.float32),
    ],
)
def test_the_host_chooses_the_precision(monkeypatch, cpu, bf16, fp16, expected):
    monkeypatch.setattr(management, "is_device_cpu", lambda device: cpu)
    monkeypatch.setattr(management, "should_use_bf16", lambda device: bf16)
    monkeypatch.setattr(management, "should_use_fp16", lambda device: fp16)
    assert memory.dtype_for(None) == expected
    assert memory.dtype_for(None, torch.float64) == torch.float64
    assert memory.dtype_for(torch.float16, torch.float64) == torch.float16


def test_the_models_own_text_encoder_runs_under_the_host(host, plain):
    hosted = memory.LoadedModel(load_model("tiny")).model.text
    hosted.cache = type(hosted.cache)()
    plain.text.cache = type(plain.text.cache)()
    assert torch.equal(hosted.encode("a red cube"), plain.text.encode("a red cube"))
    ((patcher,), asked), *_ = host.management.requests
    assert type(patcher.model).__name__ == "FlashWorld text encoder" and asked > 0
    hosted.encode("a red cube")
    assert len(host.management.requests) == 1  # a known prompt needs no encoder


def test_nothing_holds_a_model_but_its_socket(host):
    import gc
    import weakref

    loaded = memory.LoadedModel(load_model("tiny"))
    for name in loaded.parts:
        loaded.parts[name].bring(0)
    network = weakref.ref(loaded.model.transformer)
    host.management.loaded.clear()
    host.management.requests.clear()
    del loaded
    gc.collect()
    assert network() is None
