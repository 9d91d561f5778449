import dataclasses
import json

import pytest
import torch
from small_model import one_thread, small_config, small_path  # noqa: F401

from flashworld_core.errors import FlashWorldError
from flashworld_core.flow.noise import SeededNoise
from flashworld_core.flow.schedule import shifted_schedule
from flashworld_core.generators.flashworld.cameras import normalize_path
from flashworld_core.generators.flashworld.conditioning import Conditions
from flashworld_core.generators.flashworld.memory import choose_chunk, memory_plan
from flashworld_core.generators.flashworld.pipeline import FlashWorldModel
from flashworld_core.generators.flashworld.presets import official_config
from flashworld_core.generators.flashworld.sampler import FewStepSampler
from flashworld_core.runtime.memory import peak_bytes

GB = 1e9


@pytest.fixture(scope="module")
def official():
    return official_config()


def measured_peak(function, folder):
    """Bytes that torch's own allocator reports beyond what lives before ``function`` runs."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        function()
    profile.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    live = peak = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"]):
        live += event["args"]["Bytes"]
        peak = max(peak, live)
    return peak


def test_traced_peaks_are_what_lives_at_one_time():
    def work():
        a = torch.empty(1000, device="meta")  # 4000
        b = a * 2  # 8000
        del a
        c = b + b  # 8000
        d = c.view(10, 100).transpose(0, 1)  # no bytes
        del b, c
        return torch.cat([d, d])  # 4000 + 8000

    assert peak_bytes(work) == 12_000
    weight = torch.empty(50, 100, device="meta")
    assert peak_bytes(lambda: torch.empty(2, 100, device="meta") @ weight.t()) == 800 + 400  # weights are not counted
    query = torch.empty(1, 4, 1000, 8, device="meta")
    attention = torch.nn.functional.scaled_dot_product_attention
    assert peak_bytes(lambda: attention(query, query, query)) == query.numel() * 4  # nor is a matrix of scores


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_the_official_models_weights(official, device_type):
    plan = memory_plan(official, dtype=torch.float32, device_type=device_type)
    # Parameters of the published parts; the rest are the rotary tables and the head's multipliers.
    assert plan["transformer"].weights == pytest.approx(4 * 5_026_211_008, rel=1e-3)
    assert plan["decoder"].weights == 4 * 207_832_776
    # Without the temporal resampling convolutions, which single frames skip.
    assert plan["encoder"].weights == 4 * (55_415_008 - (3 * 320 * 320 + 320) - (3 * 640 * 640 + 640))
    assert plan["text"].weights == pytest.approx(22.7 * GB, rel=0.01)
    half = memory_plan(official, dtype=torch.bfloat16, device_type=device_type)
    assert half["decoder"].weights * 2 == plan["decoder"].weights
    assert half["transformer"].weights == pytest.approx(10.1 * GB, rel=0.01)


def test_the_official_models_activations(official):
    """Against counts by hand: the tensors that live at the same time where the most do."""
    whole = memory_plan(official, dtype=torch.bfloat16, views_per_chunk=24)
    chunked = memory_plan(official, dtype=torch.bfloat16, views_per_chunk=4)
    # Three tensors of the last up block's 512 channels: input, phases, and the phases put in their places.
    for plan, views in ((whole, 24), (chunked, 4)):
        assert plan["decoder"].activations == pytest.approx(3 * views * 240 * 352 * 512 * 2, rel=0.1)
    assert 3.9 * GB / 2 < whole["encoder"].activations < 3.9 * GB * 2
    # Tokens, the feed-forward layer's inner row and its result.
    tokens, width, inner = 24 * 15 * 22, 3072, 14336
    assert whole["transformer"].activations == pytest.approx(2 * tokens * (2 * width + inner), rel=0.05)
    keys = 30 * 2 * 512 * width * 2  # of the text
    assert chunked["renderer"].held == pytest.approx(4_055_040 * 38 * 4 + keys, rel=0.5)
    assert 12 * GB < chunked.peak() < 16 * GB
    assert chunked.peak(()) == pytest.approx(10.1 * GB, rel=0.1)


def test_peak_is_a_function_of_the_chunk(official):
    plans = {n: memory_plan(official, views_per_chunk=n) for n in (1, 2, 4)}
    for stage in ("decoder", "renderer", "encoder"):
        one, two, four = (plans[n][stage].activations for n in (1, 2, 4))
        assert one < two < four and four - two == pytest.approx(2 * (two - one), rel=0.1)
    assert len({plan["transformer"] for plan in plans.values()}) == 1
    # On the CPU networks take One view at a time.
    cpu = [memory_plan(official, views_per_chunk=n, device_type="cpu") for n in (1, 4)]
    assert cpu[0]["decoder"] == cpu[1]["decoder"] and cpu[0]["encoder"] == cpu[1]["encoder"]


def wide_config():
    """Wide enough for activations to outweigh the small change."""
    config = small_config()
    vae = dataclasses.asdict(config.vae) | {"base_dim": 24, "decoder_base_dim": 32}
    transformer = dataclasses.asdict(config.transformer) | {"attention_head_dim": 64, "ffn_dim": 512}
    return small_config(vae=vae, transformer=transformer, feature_channels=64)


@pytest.fixture(scope="module")
def wide():
    from flashworld_core.generators.flashworld.gaussian_decoder import GaussianDecoder
    from flashworld_core.generators.flashworld.transformer import FlashWorldTransformer
    from flashworld_core.models.wan_vae import FrameEncoder

    config = wide_config()
    return FlashWorldModel(config, FlashWorldTransformer(config), GaussianDecoder(config), FrameEncoder(config.vae))


def test_planned_activations_are_what_the_allocator_sees(wide, tmp_path):
    config, views, height, width = wide.config, 4, 96, 128
    rows, columns = config.latent_size(height, width)
    plan = memory_plan(config, views=views, height=height, width=width, dtype=torch.float32, device_type="cpu")
    x = torch.zeros(1, config.input_channels, views, rows, columns)
    text = torch.zeros(1, config.text_length, config.transformer.text_dim)
    features, latents = torch.zeros(1, config.feature_channels, rows, columns), torch.zeros(1, 4, rows, columns)
    images, cameras = torch.zeros(1, height, width, 3), torch.ones(1, 11)

    def encode():
        return wide.encoder.encode((images.permute(0, 3, 1, 2) * 2 - 1).clamp(-1, 1))

    def decode():
        return wide.decoder.gaussians_from_raw(wide.decoder(features, latents), cameras)

    with torch.no_grad():
        keys = wide.transformer.text_keys(text)
    calls = {"transformer": lambda: wide.transformer(x, torch.zeros(1), keys), "decoder": decode, "encoder": encode}
    for stage, call in calls.items():
        with torch.no_grad():
            call()  # what libraries keep for later calls is theirs
            measured = measured_peak(call, tmp_path)
        assert measured / 1.5 < plan[stage].activations < measured * 1.5, (stage, measured, plan[stage])


def test_a_whole_run_stays_within_the_plan(wide, tmp_path):
    views, height, width = 4, 96, 128
    given = Conditions(normalize_path(small_path(views, width, height))[0], width, height, torch.zeros(1, 6, 8))
    sampler = FewStepSampler(wide.config, wide.transformer, wide.decoder, wide.encoder, views_per_chunk=2)
    schedule = shifted_schedule().evenly(2)

    def run():
        sampler.sample(given, schedule, SeededNoise(0))

    run()
    measured = measured_peak(run, tmp_path)
    plan = memory_plan(
        wide.config, views=views, height=height, width=width, dtype=torch.float32, device_type="cpu", views_per_chunk=2
    )
    # The CPU renderer's own buffers are not torch's; everything else is seen.
    planned = max(stage.held + (0 if stage.stage == "renderer" else stage.activations) for stage in plan.stages)
    assert measured / 1.5 < planned < measured * 1.5, (measured, plan.table())


def test_choosing_a_chunk(official):
    # Weights of the three networks 10.6 GB; four views 3.9 GB on top of them, one view 2.3 GB.
    assert choose_chunk(official, 24e9) == 4
    assert choose_chunk(official, 14.6e9) in (1, 2, 3)
    assert choose_chunk(official, 14e9, resident=()) == 4
    assert choose_chunk(official, 24e9, views=2) == 2
    with pytest.raises(FlashWorldError, match=r"One view at a time needs 1\d.\d GB, but 8.0 GB are free"):
        choose_chunk(official, 8e9)


def test_the_chunk_of_a_loaded_model_follows_the_free_memory(wide, monkeypatch):
    from flashworld_core.generators.flashworld import pipeline

    size = {"views": 4, "height": 96, "width": 128}
    assert wide.fitting_chunk(**size) is None  # on the CPU

    monkeypatch.setattr(pipeline, "module_device", lambda module: torch.device("cuda"))
    plans = {n: memory_plan(wide.config, dtype=torch.float32, views_per_chunk=n, **size) for n in (1, 3, 4)}
    weights = sum(plans[1][stage].weights for stage in ("transformer", "decoder", "encoder"))
    for chunk, plan in plans.items():
        needed = 1.12 * plan.peak() - weights  # a tenth stays free
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, needed=needed: (int(needed) - 1000, 0))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5000)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4000)
        assert wide.fitting_chunk(**size) == chunk
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 0))
    assert wide.fitting_chunk(**size) == 1  # tried in spite of the plan


def test_the_table_names_every_stage(official):
    table = memory_plan(official).table()
    for word in ("text", "transformer", "decoder", "renderer", "encoder", "world", "24 views of 480x704", "bfloat16"):
        assert word in table
    assert "text" not in memory_plan(small_config()).table()
    assert memory_plan(small_config(), text_parameters=1000, text_dtype=torch.float32)["text"].weights == 4000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": torch.int8}, "dtype must be"),
        ({"device_type": "tpu"}, "device_type must be"),
        ({"height": 100}, "multiple of 32"),
        ({"views": -1}, "at least 1"),
        ({"views_per_chunk": -2}, "at least 1"),
    ],
)
def test_impossible_plans_are_refused(official, options, message):
    with pytest.raises(FlashWorldError, match=message):
        memory_plan(official, **options)
    with pytest.raises(FlashWorldError, match="no stages"):
        memory_plan(official).peak(["kitchen"])
