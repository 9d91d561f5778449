"""Tensor names of the same networks in different files.

FlashWorld's checkpoint and this package use diffusers' names. Wan's own release and ComfyUI use shorter ones; the
rules below lead from each to the other.
"""

from __future__ import annotations

# FlashWorld's checkpoint: two state dicts, by these keys in model.ckpt, with these prefixes in a flat file.
PARTS = ("transformer", "recon_decoder")
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
