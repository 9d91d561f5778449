import dataclasses
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from flashworld_core.checkpoints.write import write_safetensors
from flashworld_core.errors import Cancelled, FlashWorldError
from flashworld_core.generators.flashworld import export as convert_module
from flashworld_core.generators.flashworld.checkpoint import build_parts, load
from flashworld_core.generators.flashworld.checkpoint_names import wan_transformer_name
from flashworld_core.generators.flashworld.config import FlashWorldConfig
from flashworld_core.generators.flashworld.export import convert
from flashworld_core.generators.flashworld.gaussian_decoder import GaussianDecoder
from flashworld_core.generators.flashworld.transformer import FlashWorldTransformer
from flashworld_core.models.wan_vae import FrameEncoder, diffusers_vae_name


@pytest.fixture(scope="module")
def config(small_config):
    return small_config()


@pytest.fixture(scope="module")
def states(config):
    torch.manual_seed(0)
    decoder = GaussianDecoder(config)
    torch.nn.init.normal_(decoder.gs_head.gs_proj.weight)
    return {"transformer": FlashWorldTransformer(config).state_dict(), "recon_decoder": decoder.state_dict()}


@pytest.fixture
def ckpt(states, tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({part: dict(state) for part, state in states.items()}, path)
    return path


@pytest.mark.parametrize("dtype", [None, "fp32", "bf16", "fp16"])
def test_convert(ckpt, states, config, tmp_path, dtype):
    seen = []
    target = tmp_path / "out.safetensors"
    assert convert(ckpt, target, dtype, config=config, progress=lambda *done: seen.append(done)) == target
    tensors = load_file(target)  # the library's own reader
    expected = {f"{part}.{name}": tensor for part, state in states.items() for name, tensor in state.items()}
    assert tensors.keys() == expected.keys()
    wanted = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(dtype, torch.float32)
    for name, tensor in tensors.items():
        single = name.startswith("transformer.") and any(
            part in name.split(".") for part in ("time_embedder", "scale_shift_table", "norm2")
        )
        assert tensor.dtype == (torch.float32 if single else wanted), name
        assert torch.equal(tensor, expected[name].to(tensor.dtype)), name
    assert seen == [(i, len(expected)) for i in range(1, len(expected) + 1)]
    model = load(target, vae=FrameEncoder(config.vae))  # the config travels in the file
    assert model.config == config
    again = convert(target, tmp_path / "again.safetensors")
    assert {n: t.dtype for n, t in load_file(again).items()} == {n: t.dtype for n, t in tensors.items()}


def test_metadata(ckpt, config, tmp_path):
    with safe_open(convert(ckpt, tmp_path / "out.safetensors", config=config), "pt") as file:
        manifest = json.loads(file.metadata()["flashworld"])
    assert manifest["generator"] == "flashworld"
    assert manifest["config"]["feature_channels"] == config.feature_channels


def test_stopping_or_failing_leaves_what_was_there(ckpt, config, tmp_path, monkeypatch):
    target = tmp_path / "out.safetensors"
    target.write_bytes(b"older")
    asked = iter([False] * 30)
    with pytest.raises(Cancelled):
        convert(ckpt, target, config=config, should_stop=lambda: next(asked, True))

    def fail(*_):
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        convert(ckpt, target, config=config, progress=fail)
    usage = convert_module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(convert_module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(FlashWorldError, match="free"):
        convert(ckpt, target, config=config)
    assert target.read_bytes() == b"older"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.ckpt", "out.safetensors"]


def test_arguments(ckpt, config, tmp_path):
    for arguments, message in (
        ((tmp_path / "x.safetensors", "int4"), "dtype"),
        ((tmp_path / "x.ckpt", None), "must end in .safetensors"),
        ((tmp_path / "nowhere" / "x.safetensors", None), "does not exist"),
    ):
        with pytest.raises(FlashWorldError, match=message):
            convert(ckpt, *arguments, config=config)
    target = convert(ckpt, tmp_path / "out.safetensors", config=config)
    with pytest.raises(FlashWorldError, match="the source itself"):
        convert(target, target)
    with pytest.raises(FlashWorldError, match="another size"):
        convert(ckpt, tmp_path / "y.safetensors")


def test_stream_writer_handles_every_dtype_and_shape(tmp_path):
    tensors = {
        "u8": torch.arange(5, dtype=torch.uint8),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "transposed": torch.randn(3, 4).T,
        "half": torch.randn(3, 3).half(),
        "bf16": torch.randn(2, 3, 1).bfloat16(),
        "fp8": torch.randn(4).to(torch.float8_e4m3fn),
        "i64": torch.tensor([2**40, -1]),
        "bool": torch.tensor([True, False, True]),
        "ünïcode": torch.ones(1),
    }
    specs = {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}
    with (tmp_path / "x.safetensors").open("wb") as stream:
        write_safetensors(stream, specs, tensors.__getitem__, {"note": 'a "quoted" text'})
    loaded = load_file(tmp_path / "x.safetensors")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype and loaded[name].shape == tensor.shape
        assert torch.equal(loaded[name].float(), tensor.float()), name
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"note": 'a "quoted" text'}
    with pytest.raises(ValueError, match="promised"), (tmp_path / "y").open("wb") as stream:
        write_safetensors(stream, {"half": ((9,), torch.float16)}, tensors.__getitem__, {})


# --- names ---------------------------------------------------------------------------------------------------


def test_transformer_names_in_wans_files(config):
    """Every name of a real transformer, against Wan's own list for two blocks."""
    block = [f"{a}_attn.{p}.{w}" for a in ("self", "cross") for p in "qkvo" for w in ("weight", "bias")]
    block += [f"{a}_attn.norm_{p}.weight" for a in ("self", "cross") for p in "qk"]
    block += [f"{layer}.{w}" for layer in ("norm3", "ffn.0", "ffn.2") for w in ("weight", "bias")] + ["modulation"]
    top = ("time_embedding.0", "time_embedding.2", "text_embedding.0", "text_embedding.2", "time_projection.1")
    top += ("patch_embedding", "head.head")
    expected = {f"blocks.{i}.{name}" for i in (0, 1) for name in block} | {"head.modulation"}
    expected |= {f"{name}.{w}" for name in top for w in ("weight", "bias")}
    diffusers = dataclasses.asdict(config.transformer) | {"cross_attn_norm": True, "qk_norm": "rms_norm_across_heads"}
    with torch.device("meta"):
        names = FlashWorldTransformer(FlashWorldConfig(diffusers, config.vae)).state_dict()
    assert sorted(wan_transformer_name(name) for name in names) == sorted(expected)
    assert wan_transformer_name("blocks.1.attn2.to_out.0.bias") == "blocks.1.cross_attn.o.bias"
    assert wan_transformer_name("blocks.0.ffn.net.0.proj.weight") == "blocks.0.ffn.0.weight"


def test_vae_names_that_are_diffusers_already_stay(config):
    with torch.device("meta"):
        names = list(FrameEncoder(config.vae).state_dict())
    assert [diffusers_vae_name(name) for name in names] == names
    assert diffusers_vae_name("encoder.downsamples.1.downsamples.2.time_conv.weight") == (
        "encoder.down_blocks.1.downsampler.time_conv.weight"
    )


# --- memory --------------------------------------------------------------------------------------------------

MEASURE = """
    import sys, threading, time, torch
    from pathlib import Path
    from flashworld_core.generators.flashworld.checkpoint import build_parts, load
    from flashworld_core.generators.flashworld.config import FlashWorldConfig
    from flashworld_core.generators.flashworld.export import convert
    from flashworld_core.models.wan_vae import FrameEncoder

    def anonymous():  # memory of the process's own; what is mapped from files can be dropped at any time
        line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("RssAnon"))
        return int(line.split()[1]) * 1024

    mode, source, target, config = sys.argv[1:5]
    config = FlashWorldConfig.from_json(Path(config).read_text())
    vae = FrameEncoder(config.vae)
    build_parts(config)  # imports and their memory are not what is measured
    peak, running = [0], [True]
    def watch():
        while running[0]:
            peak[0] = max(peak[0], anonymous()); time.sleep(0.001)
    before = anonymous()
    thread = threading.Thread(target=watch); thread.start()
    if mode == "load":
        model = load(source, config=config, vae=vae, dtype=torch.bfloat16)
    else:
        convert(source, target, "bf16", config=config)
    running[0] = False
    thread.join()
    print(peak[0] - before, anonymous() - before)
"""


@pytest.fixture(scope="module")
def large(small_config, tmp_path_factory):
    """A float32 checkpoint of about 200 MB in tensors of at most 17 MB, and its size."""
    config = small_config(
        transformer={"num_attention_heads": 8, "attention_head_dim": 64, "ffn_dim": 8192, "num_layers": 4}
    )
    folder = tmp_path_factory.mktemp("large")
    modules = {part: module.to_empty(device="cpu").state_dict() for part, module in build_parts(config).items()}
    for state in modules.values():
        for tensor in state.values():
            tensor.normal_()
    torch.save(modules, folder / "model.ckpt")
    (folder / "sizes.json").write_text(config.to_json())
    size = sum(t.nbytes for state in modules.values() for t in state.values())
    return folder, size, max(t.nbytes for state in modules.values() for t in state.values())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux' memory accounting")
@pytest.mark.parametrize("mode", ["load", "convert"])
def test_memory(large, mode):
    folder, size, largest = large
    arguments = [mode, folder / "model.ckpt", folder / "out.safetensors", folder / "sizes.json"]
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURE), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    peak, kept = map(int, result.stdout.split())
    assert size > 100e6
    slack = 25e6  # the interpreter's and allocator's own
    if mode == "load":  # the finished half-precision model and a few tensors, never the float32 file besides
        assert 0.5 * size * 0.9 < kept and peak < 0.5 * size + 3 * largest + slack
    else:
        assert peak < 3 * largest + slack
