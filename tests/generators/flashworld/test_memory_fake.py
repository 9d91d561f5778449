"""Plans against torch's own tracker of memory on fake tensors: another count of the same passes, within 5 %."""

import dataclasses

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from flashworld_core.checkpoints.assign import fixed_names, single_precision_names, target_dtype
from flashworld_core.generators.flashworld import memory
from flashworld_core.generators.flashworld.gaussian_decoder import GaussianDecoder
from flashworld_core.generators.flashworld.presets import official_config
from flashworld_core.models.wan_vae import FrameEncoder

tracker = pytest.importorskip("torch.distributed._tools.mem_tracker")

# Full size; fewer blocks, which all have the same peak.
CONFIG = official_config()
CONFIG = dataclasses.replace(CONFIG, transformer=dataclasses.replace(CONFIG.transformer, num_layers=2))
ROWS, COLUMNS = CONFIG.latent_size()
PRECISIONS = {
    "fp32": (torch.float32, None),
    "bf16": (torch.bfloat16, None),
    "fp8": (torch.bfloat16, torch.float8_e4m3fn),
    "int8": (torch.bfloat16, torch.int8),
}


def faked(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The module with fake tensors of the CPU, in the precision it is loaded in."""
    keep, fixed = single_precision_names(module), fixed_names(module)
    for kind in (module.named_parameters, module.named_buffers):
        for name, old in list(kind()):
            wanted = old.dtype if name in fixed else target_dtype(name, old.dtype, dtype, keep)
            new = torch.empty(old.shape, dtype=wanted)
            path, _, leaf = name.rpartition(".")
            owner = module.get_submodule(path)
            # As buffers: the tracker wants gradients of parameters, which 8-bit ones have not.
            owner._parameters.pop(leaf, None)
            owner.register_buffer(leaf, new)
    return module.eval()


def tracked(work) -> int:
    """Bytes at the peak, without weights and what was there before."""
    watch = tracker.MemTracker()
    with torch.no_grad():
        result = work(watch)
    peak = watch.get_tracker_snapshot("peak")[torch.device("cpu")]
    del result
    return peak["Total"] - sum(
        size for kind, size in peak.items() if getattr(kind, "value", kind) in ("Parameter", "Buffer")
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_transformer(precision):
    dtype, stored = PRECISIONS[precision]
    weights, activations = memory.transformer_bytes(CONFIG, dtype, stored, "cpu", CONFIG.views, ROWS, COLUMNS)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = faked(memory.meta_transformer(CONFIG, stored), dtype)
        x = torch.empty(1, CONFIG.input_channels, CONFIG.views, ROWS, COLUMNS, dtype=dtype)
        with torch.no_grad():
            keys = model.text_keys(torch.empty(1, CONFIG.text_length, CONFIG.transformer.text_dim))

        def work(watch):
            time = torch.empty(1)
            with watch:
                return model(x, time, keys)

        assert weights == sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
        assert activations == pytest.approx(tracked(work), rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decoder_and_encoder(dtype):
    views = 2
    with torch.device("meta"):
        networks = GaussianDecoder(CONFIG), FrameEncoder(CONFIG.vae)
    planned = (
        memory.decoder_bytes(CONFIG, dtype, "cpu", views, ROWS, COLUMNS),
        memory.encoder_bytes(CONFIG, dtype, "cpu", views, CONFIG.height, CONFIG.width),
    )
    with FakeTensorMode(allow_non_fake_inputs=True):
        decoder, encoder = (faked(network, dtype) for network in networks)
        features = torch.empty(views, CONFIG.feature_channels, ROWS, COLUMNS, dtype=dtype)
        latents, cameras = torch.empty(views, CONFIG.latent_channels, ROWS, COLUMNS), torch.empty(views, 11)
        images = torch.empty(views, CONFIG.height, CONFIG.width, 3)

        def decode(watch):
            with watch:
                return decoder.gaussians_from_raw(decoder(features, latents), cameras)

        def encode(watch):
            with watch:
                return encoder.encode((images.permute(0, 3, 1, 2) * 2 - 1).clamp(-1, 1))

        for (_, activations), work in zip(planned, (decode, encode), strict=True):
            assert activations == pytest.approx(tracked(work), rel=0.05), work.__name__
