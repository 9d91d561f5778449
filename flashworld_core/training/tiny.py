"""The sizes of the embedded model, `flashworld-tiny`: every class is the full model's, only narrower."""

from __future__ import annotations

from ..generators.flashworld.config import FlashWorldConfig

VIEWS, HEIGHT, WIDTH = 8, 64, 96
TEXT_DIM, TEXT_LENGTH = 96, 48


def tiny_vocabulary() -> list[str]:
    """Every word a ToyWorld prompt can hold."""
    from .toyworld import scene, solids, textures

    words = [*scene.COLORS, *scene.GROUNDS, *scene.SKIES, *scene.WALLS, *scene.SIZES, *solids.KINDS, *textures.KINDS]
    return [*words, "a an and on in the with room floor walls ground sky under ,"]


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
