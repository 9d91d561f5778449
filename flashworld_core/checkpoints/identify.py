"""Which model a weight file belongs to, from its tensors' names and shapes, and what to do with the wrong one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ..errors import FlashWorldError
from .open import WeightFile, unwrapped

CHECKPOINT = "load FlashWorld's model.ckpt (imlixinyang/FlashWorld on Hugging Face) or a file converted from it"
_AS_VAE = f"give it as the VAE, and {CHECKPOINT} as the model"
_AS_TEXT = f"give it as the text encoder, and {CHECKPOINT} as the model"

Shapes = dict[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class FileKind:
    """What a weight file is.

    Attributes:
        name: short key, e.g. "flashworld", "wan transformer", "wan2.2 vae".
        description: completes "it looks like ...".
        advice: what to load instead where a FlashWorld model was wanted; empty for one.
    """

    name: str
    description: str
    advice: str = CHECKPOINT


def identify(weights: WeightFile) -> FileKind:
    """What a weight file looks like. Never fails: what nothing recognizes is of kind "other"."""
    prefix, names = unwrapped(list(weights.entries))
    shapes = {name: weights.entries[prefix + name].shape for name in names}
    for recognize in _RECOGNIZERS:
        kind = recognize(shapes)
        if kind is not None:
            return kind
    some = ", ".join(list(weights.entries)[:3])
    description = f"another model (its tensors begin with {some})" if some else "a file without any tensors"
    return FileKind("other", description)


def wrong_file(weights: WeightFile, kind: FileKind, wanted: str = "a FlashWorld model") -> FlashWorldError:
    """The error that says in one sentence what the file looks like and what to load."""
    return FlashWorldError(f"load: {weights.path} is not {wanted}: it looks like {kind.description}; {kind.advice}.")


def _lora(shapes: Shapes) -> FileKind | None:
    marks = ("lora_A", "lora_B", "lora_up", "lora_down", "lora.up", "lora.down", "lokr_", "hada_", "diff_b")
    if any(mark in name for name in shapes for mark in marks):
        return FileKind("lora", "a LoRA, which is no model by itself")
    return None


def _flashworld(shapes: Shapes) -> FileKind | None:
    heads = [name.split(".", 1)[0] for name in shapes]
    has_transformer = "transformer" in heads and "transformer.patch_embedding.weight" in shapes
    has_decoder = "recon_decoder" in heads
    if has_transformer and has_decoder:
        patch, head = shapes["transformer.patch_embedding.weight"], shapes.get("recon_decoder.extra_conv_in.weight")
        latents = shapes.get("recon_decoder.post_quant_conv.weight")
        if len(patch) < 2 or head is None or latents is None or min(len(head), len(latents)) < 2:
            return _dual_mode("other parts")
        if patch[1] != 3 * latents[1] + 6 + head[1]:
            return _dual_mode(f"{patch[1]} input channels where the distilled model has {3 * latents[1] + 6 + head[1]}")
        return FileKind("flashworld", "a FlashWorld checkpoint", "")
    if has_decoder or "gs_head.gs_proj.weight" in shapes:
        return FileKind("flashworld part", "the 3DGS decoder of a FlashWorld checkpoint without its transformer")
    return None


def _dual_mode(difference: str) -> FileKind:
    return FileKind(
        "flashworld pre-trained",
        f"FlashWorld's pre-trained dual-mode checkpoint ({difference}), which cannot generate in a few steps",
    )


def _transformer(shapes: Shapes) -> FileKind | None:
    names = {name.removeprefix("transformer.") for name in shapes}
    ours = {"condition_embedder.time_embedder.linear_1.weight", "blocks.0.attn1.to_q.weight"}
    wans = {"time_embedding.0.weight", "blocks.0.self_attn.q.weight"}
    if not (ours <= names or wans <= names):
        return None
    patch = shapes.get("patch_embedding.weight") or shapes.get("transformer.patch_embedding.weight") or (0, 0)
    width, channels = (*patch, 0, 0)[:2]
    if channels > 3 * 48 + 6:
        return FileKind("flashworld part", "FlashWorld's transformer without its 3DGS decoder")
    known = {
        (3072, 48): "Wan2.2-TI2V-5B",
        (5120, 16): "Wan 14B text-to-video",
        (5120, 36): "Wan 14B image-to-video",
        (1536, 16): "Wan2.1 1.3B",
    }
    which = known.get((width, channels), f"a Wan model of width {width} with {channels} input channels")
    style = "diffusers' naming" if ours <= names else "Wan's own naming"
    return FileKind("wan transformer", f"the base video transformer {which} ({style}), not FlashWorld's")


def _vae(shapes: Shapes) -> FileKind | None:
    def has(*parts: str) -> bool:
        return any(name.startswith(parts) for name in shapes)

    if has("encoder.downsamples.0.downsamples.", "decoder.upsamples.0.upsamples."):
        return FileKind("wan2.2 vae", "the Wan 2.2 VAE (single-file naming)", _AS_VAE)
    if has("encoder.downsamples.0.residual.", "decoder.upsamples.0.residual."):
        return FileKind("wan2.1 vae", "the Wan 2.1 VAE, which FlashWorld does not use", CHECKPOINT)
    if "encoder.down_blocks.0.resnets.0.norm1.gamma" in shapes:
        return FileKind("wan2.2 vae", "the Wan 2.2 VAE (diffusers' naming)", _AS_VAE)
    if "encoder.down_blocks.0.norm1.gamma" in shapes:
        return FileKind("wan2.1 vae", "the Wan 2.1 VAE, which FlashWorld does not use", CHECKPOINT)
    if has("encoder.down.", "encoder.down_blocks.", "decoder.up_blocks.", "decoder.up."):
        return FileKind("other vae", "the VAE of another model", CHECKPOINT)
    return None


def _text(shapes: Shapes) -> FileKind | None:
    bias = "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.weight"
    if bias.format(0) in shapes:
        if "encoder.block.1.layer.0.SelfAttention.q.weight" in shapes and bias.format(1) not in shapes:
            return FileKind("t5", "a T5 text encoder, which FlashWorld does not use (it wants UMT5-XXL)")
        return FileKind("umt5", "a UMT5 text encoder", _AS_TEXT)
    if "token_embedding.weight" in shapes and "blocks.0.attn.q.weight" in shapes:
        return FileKind(
            "umt5 original",
            "a UMT5 text encoder in Wan's own naming",
            "for the text use Wan2.2-TI2V-5B-Diffusers' text_encoder folder or ComfyUI's umt5_xxl file, "
            f"and for the model {CHECKPOINT}",
        )
    clip = ("text_model.", "vision_model.", "cond_stage_model.", "visual.transformer.", "transformer.text_model.")
    if any(name.startswith(clip) for name in shapes):
        return FileKind("clip", "a CLIP encoder")
    if any("layers.0.self_attn.q_proj.weight" in name for name in shapes):
        return FileKind("language model", "a language model")
    return None


def _image_model(shapes: Shapes) -> FileKind | None:
    def contains(part: str) -> bool:
        return any(part in name for name in shapes)

    if contains("double_blocks.0."):
        video = contains("txt_in.individual_token_refiner")
        return FileKind("other transformer", "a HunyuanVideo transformer" if video else "a Flux transformer")
    if contains("joint_blocks.0."):
        return FileKind("other transformer", "a Stable Diffusion 3 checkpoint")
    if contains("input_blocks.0."):
        if contains("conditioner.embedders."):
            return FileKind("sdxl", "a Stable Diffusion XL checkpoint")
        return FileKind("sd", "a Stable Diffusion checkpoint")
    if contains("down_blocks.0.resnets.0.") and contains("mid_block."):
        return FileKind("sd", "a Stable Diffusion U-Net (diffusers' naming)")
    if contains("transformer_blocks.0."):
        return FileKind("other transformer", "another diffusion transformer (diffusers' naming)")
    return None


# LoRAs first: their names contain the names of what they change. Whole checkpoints of image models before text
# encoders: they bring their own.
_RECOGNIZERS: tuple[Callable[[Shapes], FileKind | None], ...] = (
    _lora,
    _flashworld,
    _transformer,
    _vae,
    _image_model,
    _text,
)
