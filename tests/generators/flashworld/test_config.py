import dataclasses
import json
from pathlib import Path

import pytest
import torch

from flashworld_core.errors import FlashWorldError
from flashworld_core.generators.flashworld.config import FlashWorldConfig
from flashworld_core.generators.flashworld.presets import official_config
from flashworld_core.generators.flashworld.transformer import FlashWorldTransformer

# Tensor names and shapes of the published checkpoint: the two networks of model.ckpt, and the untrimmed VAE encoder.
MANIFEST = Path(__file__).resolve().parents[2] / "data" / "flashworld_manifest.json"


def test_official_sizes():
    config = official_config()
    assert (config.latent_channels, config.input_channels, config.output_channels) == (48, 1174, 1072)
    assert (config.spatial_factor, config.head_factor, config.size_multiple) == (16, 8, (32, 32))
    assert config.latent_size() == (30, 44)
    assert config.head_grid() == (240, 352)
    assert config.latent_size(704, 480) == (44, 30)
    assert (config.point_channels, config.gaussian_channels) == (38, 76)


def test_channel_order():
    config = official_config()
    assert config.input_layout == {
        "noisy": slice(0, 48),
        "raymap": slice(48, 54),
        "condition": slice(54, 102),
        "feedback_features": slice(102, 1126),
        "feedback_latents": slice(1126, 1174),
    }
    assert config.output_layout == {"velocity": slice(0, 48), "features": slice(48, 1072)}
    assert config.point_layout == {
        "sh": slice(0, 27),
        "uv_offset": slice(27, 29),
        "depth": slice(29, 30),
        "opacity": slice(30, 31),
        "scales": slice(31, 34),
        "quats": slice(34, 38),
    }


@pytest.mark.parametrize("part", ["transformer", "recon_decoder", "vae_encoder"])
def test_full_size_networks_have_exactly_the_checkpoints_names_and_shapes(part):
    from flashworld_core.generators.flashworld.gaussian_decoder import GaussianDecoder
    from flashworld_core.models.wan_vae import FrameEncoder

    expected = {name: tuple(shape) for name, shape in json.loads(MANIFEST.read_text())[part].items()}
    if part == "vae_encoder":  # the frame encoder keeps the last temporal slice and no temporal convolution
        expected = {name: shape for name, shape in expected.items() if ".time_conv." not in name}
        expected = {name: (*s[:2], 1, *s[3:]) if len(s) == 5 else s for name, s in expected.items()}
    build = {
        "transformer": FlashWorldTransformer,
        "recon_decoder": GaussianDecoder,
        "vae_encoder": lambda config: FrameEncoder(config.vae),
    }[part]
    with torch.device("meta"):
        model = build(official_config())
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == expected


def test_json_round_trip():
    config = dataclasses.replace(official_config(), views=7, prompt_prefix="", model_id="other")
    assert FlashWorldConfig.from_json(config.to_json()) == config
    assert FlashWorldConfig.from_dict(config.to_dict()) == config
    # Lists or tuples, a config is the same.
    assert FlashWorldConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_json_defaults_and_refusals():
    official = official_config()
    small = {"transformer": official.transformer, "vae": official.vae}
    assert FlashWorldConfig.from_dict(small) == official
    with pytest.raises(FlashWorldError, match="unknown fields color"):
        FlashWorldConfig.from_dict(small | {"color": 1})
    with pytest.raises(FlashWorldError, match="fields vae are missing"):
        FlashWorldConfig.from_dict({"transformer": official.transformer})
    with pytest.raises(FlashWorldError, match="not JSON"):
        FlashWorldConfig.from_json("{")
    with pytest.raises(FlashWorldError, match="object"):
        FlashWorldConfig.from_json("[]")
    with pytest.raises(FlashWorldError, match="wrong type"):
        FlashWorldConfig.from_dict(small | {"timestep_indices": 3})


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("views", 0, "views"),
        ("height", "480", "height"),
        ("sh_degree", 4, "sh_degree"),
        ("scale_range", (2.0, 1.0), "scale_range"),
        ("timestep_indices", (), "timestep_indices"),
        ("timestep_indices", (0, 1000), "0..999"),
        ("timestep_indices", (250, 0), "increase"),
        ("shift", 0.0, "shift"),
        ("transformer", {"num_layers": 0}, "num_layers"),
        ("transformer", {"patch_size": (2, 2, 2)}, "patch_size"),
        ("transformer", {"image_dim": 1280}, "image branch"),
        ("vae", {"is_residual": False}, "Wan 2.2"),
        ("vae", {"in_channels": 3}, "in_channels"),
        ("vae", {"z_dim": 16}, "latents_mean"),
        ("vae", {"latents_std": (0.0,) * 48}, "positive"),
        ("vae", {"temperal_downsample": (True,)}, "one entry fewer"),
        ("vae", {"dim_mult": (1, 2, 4, 8)}, "repeat the multiplier"),
        ("vae", {"dim_mult": (1, 3, 3, 3)}, "stage 1 cannot widen"),
    ],
)
def test_refuses_sizes_that_do_not_belong_together(field, change, message):
    official = official_config()
    if isinstance(change, dict):
        change = dataclasses.asdict(getattr(official, field)) | change
    with pytest.raises(FlashWorldError, match=message):
        dataclasses.replace(official, **{field: change})


def test_image_sizes_the_model_cannot_divide():
    config = official_config()
    with pytest.raises(FlashWorldError, match="700x480.*multiple of 32"):
        config.latent_size(480, 700)
    with pytest.raises(FlashWorldError, match="height that is a multiple of 32"):
        config.head_grid(500, 704)
