"""The text encoder from whatever file holds UMT5: Hugging Face's folders, ComfyUI's single files, our own."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...errors import FlashWorldError
from .assign import assign, check_names_and_shapes, expected_shapes
from .text import TextEncoder
from .tokenizer import SentencePieceTokenizer, Tokenizer, open_tokenizer
from .weights import FP8, WeightFile, open_weights

if TYPE_CHECKING:
    from transformers import UMT5Config

logger = logging.getLogger(__name__)

# A ComfyUI text encoder file holds these beside the weights: the tokenizer, and the scales of quantised weights.
_NOT_WEIGHTS = ("spiece_model", "scaled_fp8")
_SCALES = (".scale_weight", ".weight_scale")
_NOT_WEIGHT_ENDINGS = (*_SCALES, ".scale_input", ".input_scale", ".comfy_quant")
# One tensor under two names; files hold the first, the second, or both.
_EMBEDDING, _TIED = "shared.weight", "encoder.embed_tokens.weight"


def open_text_encoder(
    path: str | Path,
    *,
    tokenizer: str | Path | None = None,
    text_length: int = 512,
    prompt_prefix: str = "[Static] ",
    text_dim: int | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
) -> TextEncoder:
    """A UMT5 text encoder of any size, opened but not loaded.

    Args:
        path: a folder with weights (single or sharded safetensors) and perhaps ``config.json``, as in diffusers' and
            Hugging Face's layouts, or a ComfyUI single file (``umt5_xxl_*.safetensors``: fp16, bf16, fp8, scaled fp8).
        tokenizer: a folder, ``tokenizer.json`` or ``spiece.model``; default: the one embedded in the file, in the
            folder, or in ``tokenizer/`` beside or inside it.
        text_length, prompt_prefix, dtype, device: as in `TextEncoder`.
        text_dim: what the width must be; None takes any.

    Raises:
        FlashWorldError: files that are missing, damaged or not a UMT5 encoder, or that do not fit each other.
    """
    path = Path(path).expanduser()
    weights = open_weights(path)
    shapes = encoder_shapes(weights)
    config = deduce_umt5_config(shapes, path)
    check_names_and_shapes(expected_shapes(_build(config)), shapes, "UMT5 text encoder", path)
    if text_dim is not None and config.d_model != text_dim:
        raise FlashWorldError(
            f"open_text_encoder: {path} gives {config.d_model} numbers per token, but the model wants {text_dim}; "
            "use the text encoder the model was trained with (UMT5-XXL for the official one)."
        )
    tokens = _find_tokenizer(path, weights, tokenizer)
    if tokens.vocab_size > config.vocab_size:
        raise FlashWorldError(
            f"open_text_encoder: the tokenizer of {path} has {tokens.vocab_size} tokens, the encoder only "
            f"{config.vocab_size}; they do not belong together."
        )
    return TextEncoder(
        lambda dtype, device: load_umt5(weights, config, dtype=dtype, device=device),
        tokens,
        model_id=weights_id(weights),
        text_dim=config.d_model,
        text_length=text_length,
        prompt_prefix=prompt_prefix,
        dtype=dtype,
        device=device,
    )


def weights_id(weights: WeightFile) -> str:
    """A name for these very weights: the file's place, size and time of change."""
    path = weights.path.resolve()
    files = path.glob("*.safetensors") if path.is_dir() else [path]
    return f"{path}:{weights.nbytes}:{max(file.stat().st_mtime_ns for file in files)}"


def encoder_shapes(weights: WeightFile) -> dict[str, tuple[int, ...]]:
    """Shapes of the encoder's own tensors: without the tokenizer, scales, and a whole model's decoder."""
    shapes = {
        name: shape
        for name, shape in weights.shapes.items()
        if name not in (*_NOT_WEIGHTS, "lm_head.weight")
        and not name.startswith("decoder.")
        and not name.endswith(_NOT_WEIGHT_ENDINGS)
    }
    tied = shapes.pop(_TIED, None)
    if tied is not None:
        shapes.setdefault(_EMBEDDING, tied)
    return shapes


def deduce_umt5_config(shapes: dict[str, tuple[int, ...]], path: Path) -> UMT5Config:
    """The encoder's configuration: sizes from its tensors, the rest from config.json if ``path`` is a folder with one.

    Raises:
        FlashWorldError: the tensors are not a UMT5 encoder's (a T5 encoder has position biases in block 0 only).
    """
    from transformers import UMT5Config

    block = "encoder.block.{}.layer.0.SelfAttention.{}.weight"
    try:
        vocab_size, d_model = shapes[_EMBEDDING]
        buckets, heads = shapes[block.format(0, "relative_attention_bias")]
        inner = shapes[block.format(0, "q")][0]
        feed_forward = shapes["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"][0]
        d_kv = inner // heads
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise FlashWorldError(
            f"open_text_encoder: {path} is not a UMT5 text encoder ({error}); use umt5_xxl, the text encoder of Wan."
        ) from error
    layers = 1
    while block.format(layers, "q") in shapes:
        layers += 1
    if layers > 1 and block.format(1, "relative_attention_bias") not in shapes:
        raise FlashWorldError(
            f"open_text_encoder: {path} is a T5 encoder, not UMT5 (only block 0 has position biases); "
            "use umt5_xxl, the text encoder of Wan."
        )
    stored = _folder_config(path)
    try:
        return UMT5Config(
            vocab_size=vocab_size,
            d_model=d_model,
            d_kv=d_kv,
            d_ff=feed_forward,
            num_layers=layers,
            num_heads=heads,
            relative_attention_num_buckets=buckets,
            relative_attention_max_distance=int(stored.get("relative_attention_max_distance", 128)),
            layer_norm_epsilon=float(stored.get("layer_norm_epsilon", 1e-6)),
            feed_forward_proj=str(stored.get("feed_forward_proj", "gated-gelu")),
        )
    except Exception as error:  # the class of a refused field differs between versions of the library
        raise FlashWorldError(f"open_text_encoder: {path} has an unusable config.json: {error}") from error


def _folder_config(folder: Path) -> dict:
    """The content of a folder's config.json; empty if there is none."""
    file = folder / "config.json"
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FlashWorldError(f"open_text_encoder: {file} is not JSON: {error}") from error
    if not isinstance(values, dict) or values.get("model_type", "umt5") != "umt5":
        raise FlashWorldError(f"open_text_encoder: {file} does not describe a UMT5 model.")
    return values


def _find_tokenizer(path: Path, weights: WeightFile, given: str | Path | None) -> Tokenizer:
    if given is not None:
        return open_tokenizer(given)
    if "spiece_model" in weights.entries:
        return SentencePieceTokenizer(weights.read("spiece_model").numpy().tobytes(), str(path))
    folder = path if path.is_dir() else path.parent
    for candidate in (folder, folder.parent / "tokenizer", folder / "tokenizer"):
        if any((candidate / name).is_file() for name in ("tokenizer.json", "spiece.model")):
            return open_tokenizer(candidate)
    raise FlashWorldError(
        f"open_text_encoder: no tokenizer for {path}; put tokenizer.json or spiece.model into {folder / 'tokenizer'}."
    )


def _build(config: UMT5Config) -> nn.Module:
    """The encoder on the meta device, its embedding one module under two names."""
    from transformers import UMT5EncoderModel

    with torch.device("meta"):
        model = UMT5EncoderModel(config)
    model.set_input_embeddings(model.shared)
    return model.eval()


def load_umt5(
    weights: WeightFile, config: UMT5Config, *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> nn.Module:
    """A transformers ``UMT5EncoderModel`` with the file's weights; scaled 8-bit weights are multiplied out.

    Args:
        weights: checked against ``config`` before.
        dtype: compute type; None takes the attention weights' own, bfloat16 for 8-bit ones.
        device: where it goes.
    """
    model = _build(config)
    stored = weights.entries["encoder.block.0.layer.0.SelfAttention.q.weight"].dtype
    dtype = dtype or (torch.bfloat16 if stored in FP8 else stored)

    def read(name: str) -> Tensor:
        tensor = weights.read(_TIED if name == _EMBEDDING and name not in weights.entries else name)
        if tensor.dtype not in FP8:
            return tensor
        stem = name.removesuffix(".weight")
        scale = next((weights.read(stem + ending) for ending in _SCALES if stem + ending in weights.entries), None)
        return tensor.float() if scale is None else tensor.float() * scale.float()

    # In half precision the last feed-forward layer overflows; transformers computes with it in float32.
    keep = ("wo",) if dtype == torch.float16 else ()
    assign(model, read, dtype=dtype, device=device, keep_float32=keep)
    logger.info("Text encoder loaded from %s in %s.", weights.path, dtype)
    return model
