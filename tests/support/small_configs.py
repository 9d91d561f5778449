"""Configs of very small models, and diffusers' twin of their VAE."""

import dataclasses

from flashworld_core.generators.flashworld.config import FlashWorldConfig
from flashworld_core.models.wan_vae_blocks import WanVaeConfig


def small_config(**changes) -> FlashWorldConfig:
    latent = 6
    config = FlashWorldConfig(
        transformer={
            "patch_size": (1, 2, 2),
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "in_channels": latent,
            "out_channels": latent,
            "text_dim": 10,
            "freq_dim": 16,
            "ffn_dim": 32,
            "num_layers": 2,
            "rope_max_seq_len": 16,
        },
        vae={
            "base_dim": 4,
            "decoder_base_dim": 6,
            "z_dim": latent,
            "dim_mult": (1, 2, 2),
            "num_res_blocks": 1,
            "temperal_downsample": (False, True),
            "is_residual": True,
            "in_channels": 12,
            "out_channels": 12,
            "patch_size": 2,
            "latents_mean": tuple(0.1 * i for i in range(latent)),
            "latents_std": tuple(1.0 + 0.1 * i for i in range(latent)),
        },
        feature_channels=8,
        text_length=5,
        views=3,
        height=32,
        width=48,
        model_id="small",
    )
    vae = dataclasses.asdict(config.vae) | changes.pop("vae", {})
    transformer = dataclasses.asdict(config.transformer) | changes.pop("transformer", {})
    return dataclasses.replace(config, vae=vae, transformer=transformer, **changes)


def diffusers_vae(config: WanVaeConfig):
    """diffusers' own untrimmed video VAE of a config, with its random weights."""
    from diffusers import AutoencoderKLWan

    values = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}
    values.pop("clip_output")  # on record in the published config, no argument of the class
    return AutoencoderKLWan(**values).eval()
