"""Sizes of known FlashWorld models: the published one and the embedded one."""

from __future__ import annotations

import dataclasses

from ...models.wan_vae_blocks import WanVaeConfig
from .config import FlashWorldConfig, TransformerConfig

OFFICIAL_LICENSE = "FlashWorld weights: see the license at huggingface.co/imlixinyang/FlashWorld (research use)"
# What a model is not made for, by model_id: said to who asks for it.
LIMITS = {
    "flashworld-tiny": {
        "text alone": "flashworld-tiny hardly follows words without a picture: give an image too, or use the official "
        "weights.",
        "photograph": "This picture looks like a photograph, and flashworld-tiny knows only drawings of simple shapes: "
        "for photographs use the official weights.",
    },
}

# diffusers' WanTransformer3DModel of Wan2.2-TI2V-5B, before FlashWorld widens its two ends.
_OFFICIAL_TRANSFORMER = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "in_channels": 48,
    "out_channels": 48,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 14336,
    "num_layers": 30,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "image_dim": None,
    "added_kv_proj_dim": None,
    "rope_max_seq_len": 1024,
    "pos_embed_seq_len": None,
}
# fmt: off
_LATENTS_MEAN = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
    0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723,
    -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
)
_LATENTS_STD = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)
# fmt: on

# diffusers' AutoencoderKLWan of Wan2.2-TI2V-5B.
_OFFICIAL_VAE = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "dim_mult": (1, 2, 4, 4),
    "num_res_blocks": 2,
    "attn_scales": (),
    "temperal_downsample": (False, True, True),
    "dropout": 0.0,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "scale_factor_temporal": 4,
    "clip_output": False,
    "latents_mean": _LATENTS_MEAN,
    "latents_std": _LATENTS_STD,
}
VIEWS, HEIGHT, WIDTH = 8, 64, 96
TEXT_DIM, TEXT_LENGTH = 96, 48


def tiny_config(latents_mean: list[float] | None = None, latents_std: list[float] | None = None) -> FlashWorldConfig:
    """The configuration of `flashworld-tiny`: 8 views of 64x96, 32 latent channels at 1/8 resolution.

    Args:
        latents_mean, latents_std: the trained autoencoder's channel statistics (0 and 1 before that).
    """
    z = 32
    return FlashWorldConfig(
        model_id="flashworld-tiny",
        views=VIEWS,
        height=HEIGHT,
        width=WIDTH,
        feature_channels=96,
        text_length=TEXT_LENGTH,
        sh_degree=1,
        transformer={
            "patch_size": [1, 1, 1],
            "num_attention_heads": 4,
            "attention_head_dim": 64,
            "in_channels": z,
            "out_channels": z,
            "text_dim": TEXT_DIM,
            "freq_dim": 128,
            "ffn_dim": 1024,
            "num_layers": 6,
            "cross_attn_norm": True,
            "qk_norm": "rms_norm_across_heads",
            "eps": 1e-6,
            "image_dim": None,
            "added_kv_proj_dim": None,
            "rope_max_seq_len": 256,
            "pos_embed_seq_len": None,
        },
        vae={
            "base_dim": 48,
            "decoder_base_dim": 64,
            "z_dim": z,
            "dim_mult": [1, 2, 2],
            "num_res_blocks": 1,
            "attn_scales": [],
            "temperal_downsample": [False, True],
            "dropout": 0.0,
            "is_residual": True,
            "in_channels": 12,
            "out_channels": 12,
            "patch_size": 2,
            "scale_factor_spatial": 8,
            "scale_factor_temporal": 2,
            "clip_output": False,
            "latents_mean": latents_mean or [0.0] * z,
            "latents_std": latents_std or [1.0] * z,
        },
    )


def nano_config() -> FlashWorldConfig:
    """The configuration of `nano`: 4 views of 32x48, 12 latent channels at 1/4 resolution; trains in minutes."""
    z = 12
    tiny = tiny_config()
    return dataclasses.replace(
        tiny,
        model_id="flashworld-nano",
        views=4,
        height=32,
        width=48,
        feature_channels=48,
        text_length=24,
        num_points=1,
        sh_degree=0,
        transformer=dataclasses.replace(
            tiny.transformer,
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=64,
            in_channels=z,
            out_channels=z,
            ffn_dim=384,
            rope_max_seq_len=64,
        ),
        vae=dataclasses.replace(
            tiny.vae,
            base_dim=16,
            decoder_base_dim=16,
            z_dim=z,
            dim_mult=(2, 2),
            temperal_downsample=(False,),
            scale_factor_spatial=4,
            latents_mean=(0.0,) * z,
            latents_std=(1.0,) * z,
        ),
    )


def official_config() -> FlashWorldConfig:
    """Make the published model's config: 24 views of 480 x 704 pixels, 5.03 billion transformer parameters."""
    return FlashWorldConfig(transformer=TransformerConfig(**_OFFICIAL_TRANSFORMER), vae=WanVaeConfig(**_OFFICIAL_VAE))
