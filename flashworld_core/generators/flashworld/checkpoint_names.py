"""Tensor names of the same networks in different files.

FlashWorld's checkpoint and this package use diffusers' names. Wan's own release and ComfyUI use shorter ones; the
rules below lead from each to the other.
"""

from __future__ import annotations

import re

# FlashWorld's checkpoint: two state dicts, by these keys in model.ckpt, with these prefixes in a flat file.
PARTS = ("transformer", "recon_decoder")

# Wrappings other programs put around a network's own names.
WRAPPINGS = (
    "model.diffusion_model.", "diffusion_model.", "first_stage_model.", "state_dict.", "model_state.", "model.",
    "module.", "vae.", "net.",
)  # fmt: skip

# (diffusers, Wan) pieces of the transformer's names; both sides occur only where the other one does.
_TRANSFORMER_PIECES = (
    ("attn1.to_out.0.", "self_attn.o."),
    ("attn2.to_out.0.", "cross_attn.o."),
    ("attn1.to_", "self_attn."),
    ("attn2.to_", "cross_attn."),
    ("attn1.", "self_attn."),
    ("attn2.", "cross_attn."),
    ("ffn.net.0.proj.", "ffn.0."),
    ("ffn.net.2.", "ffn.2."),
    ("norm2.", "norm3."),
    ("condition_embedder.time_embedder.linear_1.", "time_embedding.0."),
    ("condition_embedder.time_embedder.linear_2.", "time_embedding.2."),
    ("condition_embedder.text_embedder.linear_1.", "text_embedding.0."),
    ("condition_embedder.text_embedder.linear_2.", "text_embedding.2."),
    ("condition_embedder.time_proj.", "time_projection.1."),
    ("proj_out.", "head.head."),
)


def wan_transformer_name(name: str) -> str:
    """A transformer tensor's name in Wan's own (and ComfyUI's) files, from diffusers' name."""
    if name == "scale_shift_table":
        return "head.modulation"
    if name.startswith("blocks.") and name.endswith(".scale_shift_table"):
        return name.removesuffix("scale_shift_table") + "modulation"
    for diffusers, wan in _TRANSFORMER_PIECES:
        if f".{diffusers}" in f".{name}":
            return f".{name}".replace(f".{diffusers}", f".{wan}")[1:]
    return name


_VAE_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^conv1\.", "quant_conv."),
        (r"^conv2\.", "post_quant_conv."),
        (r"^(encoder|decoder)\.conv1\.", r"\1.conv_in."),
        (r"\.head\.0\.gamma$", ".norm_out.gamma"),
        (r"\.head\.2\.", ".conv_out."),
        (r"\.middle\.0\.", ".mid_block.resnets.0."),
        (r"\.middle\.1\.", ".mid_block.attentions.0."),
        (r"\.middle\.2\.", ".mid_block.resnets.1."),
        # Within a stage residual blocks come first; the resampler has the number after the last of them.
        (r"\.downsamples\.(\d+)\.downsamples\.\d+\.(resample|time_conv)\.", r".down_blocks.\1.downsampler.\2."),
        (r"\.upsamples\.(\d+)\.upsamples\.\d+\.(resample|time_conv)\.", r".up_blocks.\1.upsampler.\2."),
        (r"\.downsamples\.(\d+)\.downsamples\.(\d+)\.", r".down_blocks.\1.resnets.\2."),
        (r"\.upsamples\.(\d+)\.upsamples\.(\d+)\.", r".up_blocks.\1.resnets.\2."),
        (r"\.residual\.0\.gamma$", ".norm1.gamma"),
        (r"\.residual\.2\.", ".conv1."),
        (r"\.residual\.3\.gamma$", ".norm2.gamma"),
        (r"\.residual\.6\.", ".conv2."),
        (r"\.shortcut\.", ".conv_shortcut."),
    )
)


def diffusers_vae_name(name: str) -> str:
    """A VAE tensor's name in diffusers, from its name in ``Wan2.2_VAE.pth`` or ``wan2.2_vae.safetensors``.

    Names that are diffusers' already come back unchanged.
    """
    for pattern, replacement in _VAE_RULES:
        name = pattern.sub(replacement, name)
    return name


def unwrapped(names: list[str]) -> tuple[str, list[str]]:
    """The wrapping that all ``names`` share ("" if none), and the names without it."""
    prefix = ""
    while names:
        found = next((w for w in WRAPPINGS if all(name.startswith(w) for name in names)), None)
        if found is None:
            break
        prefix += found
        names = [name.removeprefix(found) for name in names]
    return prefix, names
