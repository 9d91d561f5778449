"""A FlashWorld model of a few thousand random weights, and paths for it. Shared by the tests of this folder."""

import pytest
import torch

from flashworld_core.cameras import Cameras
from flashworld_core.generators.flashworld.config import FlashWorldConfig
from flashworld_core.generators.flashworld.gaussian_decoder import GaussianDecoder
from flashworld_core.generators.flashworld.pipeline import FlashWorldModel
from flashworld_core.generators.flashworld.transformer import FlashWorldTransformer
from flashworld_core.models.wan_vae import FrameEncoder

WIDTH, HEIGHT, VIEWS = 64, 32, 5
TEXT_LENGTH, TEXT_DIM = 6, 8


def small_config(**changes) -> FlashWorldConfig:
    values = {
        "model_id": "small",
        "views": VIEWS,
        "height": HEIGHT,
        "width": WIDTH,
        "feature_channels": 6,
        "text_length": TEXT_LENGTH,
        "transformer": {
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "in_channels": 4,
            "out_channels": 4,
            "text_dim": TEXT_DIM,
            "freq_dim": 16,
            "ffn_dim": 32,
            "num_layers": 2,
            "cross_attn_norm": True,
            "qk_norm": "rms_norm_across_heads",
            "rope_max_seq_len": 32,
        },
        "vae": {
            "base_dim": 4,
            "decoder_base_dim": 4,
            "z_dim": 4,
            "in_channels": 12,
            "out_channels": 12,
            "patch_size": 2,
            "is_residual": True,
            "latents_mean": (0.1, -0.2, 0.0, 0.3),
            "latents_std": (0.8, 1.1, 0.9, 0.7),
        },
    }
    return FlashWorldConfig(**(values | changes))


class FixedText:
    """Stands for a text encoder: an embedding that depends on the prompt; counts its calls."""

    def __init__(self):
        self.calls = []

    def encode(self, prompt: str):
        self.calls.append(prompt)
        text = torch.zeros(1, TEXT_LENGTH, TEXT_DIM)
        text[:, :3] = torch.randn(1, 3, TEXT_DIM, generator=torch.Generator().manual_seed(len(prompt)))
        return text


def small_model(seed: int = 0, **changes) -> FlashWorldModel:
    """Random weights, Gaussians a few pixels wide, opaque enough for every view to show something."""
    config = small_config(**changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        decoder = GaussianDecoder(config)
        torch.nn.init.normal_(decoder.extra_conv_in.weight, std=0.3)
        torch.nn.init.normal_(decoder.gs_head.gs_proj.weight, std=0.3)
        return FlashWorldModel(
            config, FlashWorldTransformer(config), decoder, FrameEncoder(config.vae), FixedText(), license="none"
        )


def small_path(views: int = VIEWS, width: int = WIDTH, height: int = HEIGHT, seed: int = 3) -> Cameras:
    """A path with turns and moves that neither begins at the origin nor looks along an axis."""
    generator = torch.Generator().manual_seed(seed)
    quats = torch.tensor([1.0, 0.1, -0.2, 0.3]) + 0.05 * torch.randn(views, 4, generator=generator)
    w, x, y, z = (quats / quats.norm(dim=1, keepdim=True)).double().unbind(1)
    pose = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    pose[:, :3, :3] = torch.stack(
        (
            torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)), 1),
            torch.stack((2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)), 1),
            torch.stack((2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)), 1),
        ),
        1,
    )
    pose[:, :3, 3] = torch.tensor([4.0, -2.0, 7.0]) + torch.randn(views, 3, generator=generator)
    k = torch.tensor([[0.9 * height, 0, 0.5 * width], [0, 0.95 * height, 0.48 * height], [0, 0, 1.0]])
    return Cameras(pose.float(), k.repeat(views, 1, 1), width, height)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny layers gain nothing from threads, and lose much where other work wants the same cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
