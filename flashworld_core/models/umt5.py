"""The prompt: UMT5's last hidden state, padded with zero rows to the model's text length.

Only the tokens themselves are run through the encoder. Its positions are relative and padding is masked, so the
rows are those of the padded run, at a fraction of the work: a short prompt is 20 tokens of 512.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..checkpoints.assign import assign, check_names_and_shapes, expected_shapes
from ..checkpoints.open import FP8, WeightFile, open_weights
from ..checkpoints.quantized import is_marker, resolved, scaled_weights
from ..errors import FlashWorldError
from ..formats.files import parse_json
from .prompt_cache import PROMPT_CACHE, PromptCache
from .tokenizer import SentencePieceTokenizer, Tokenizer, open_tokenizer

if TYPE_CHECKING:
    from transformers import UMT5Config


MAX_PROMPT = 100_000  # characters that are tokenized at all; thousands are more than any text length takes


@dataclasses.dataclass(frozen=True)
class TextSpec:
    """The text embedding a model takes.

    Attributes:
        text_dim: D, numbers per token.
        text_length: L, rows of the padded embedding; longer prompts are cut, keeping the end token.
        prompt_prefix: put before every prompt.
    """

    text_dim: int
    text_length: int = 512
    prompt_prefix: str = ""


class TextEncoder:
    """Prompts to text embeddings. The weights are loaded when a prompt first needs them, and can be released.

    Args:
        load_encoder: returns the encoder on a device in a dtype, as ``load_encoder(dtype, device)``.
        tokenizer: text to ids.
        model_id: names the weights; prompts are cached under it.
        text_dim: D, width of the embedding.
        text_length: L, rows of the embedding; longer prompts are cut, keeping the end token.
        prompt_prefix: put before every prompt, an empty one too.
        dtype: compute type; None keeps the file's (bfloat16 for 8-bit files).
        device: where the encoder runs.
        cache: where encoded prompts are kept.
    """

    def __init__(
        self,
        load_encoder: Callable[[torch.dtype | None, torch.device], nn.Module],
        tokenizer: Tokenizer,
        *,
        model_id: str,
        text_dim: int,
        text_length: int = 512,
        prompt_prefix: str = "[Static] ",
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
        cache: PromptCache = PROMPT_CACHE,
    ):
        self.tokenizer, self.model_id = tokenizer, model_id
        self.text_dim, self.text_length, self.prompt_prefix = text_dim, text_length, prompt_prefix
        self.dtype, self.device, self.cache = dtype, torch.device(device), cache
        self._load_encoder = load_encoder
        self._encoder: nn.Module | None = None
        self._lock = threading.Lock()

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._encoder is not None

    def encode(self, prompts: str | Sequence[str]) -> Tensor:
        """Text embeddings.

        Args:
            prompts: one prompt or several, without the prefix.

        Returns:
            [B, L, D] float32 on the CPU; rows beyond a prompt's tokens are zero.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        out = torch.zeros(len(prompts), self.text_length, self.text_dim)
        for row, prompt in zip(out, prompts, strict=True):
            if not isinstance(prompt, str):
                raise FlashWorldError(f"a prompt must be text, got {type(prompt).__name__}.")
            if (at := next((i for i, letter in enumerate(prompt) if "\ud800" <= letter <= "\udfff"), None)) is not None:
                raise FlashWorldError(f"The prompt holds half of a character at position {at}; type or save it anew.")
            key = (self.model_id, self.dtype, self.text_length, self.prompt_prefix, prompt)
            rows = self.cache.get(key)
            if rows is None:
                rows = self._encode(self.prompt_prefix + prompt)
                self.cache.put(key, rows)
            row[: len(rows)] = rows
        return out

    @torch.inference_mode()
    def _encode(self, text: str) -> Tensor:
        """[tokens, D] float32 on the CPU."""
        ids = self.tokenizer(text[:MAX_PROMPT], self.text_length)
        with self._lock:
            if self._encoder is None:
                self._encoder = self._load_encoder(self.dtype, self.device)
            rows = self._encoder(input_ids=torch.tensor([ids], device=self.device)).last_hidden_state[0]
        if not torch.isfinite(rows).all():
            raise FlashWorldError(
                f"{self.model_id} gave values that are not finite in {rows.dtype}; "
                "use bfloat16 or float32 for the text encoder."
            )
        return rows.float().cpu()

    def host(self, adapter: Callable[[nn.Module], Callable]) -> TextEncoder:
        """Let a host's memory manager run the encoder. Returns itself.

        Args:
            adapter: takes the encoder when it has been loaded, on `device`, and returns what is called in its place:
                with ``input_ids`` on `device`, answering as the encoder does, on any device.
        """
        load = self._load_encoder
        self._load_encoder = lambda dtype, device: adapter(load(dtype, device))
        return self

    def release(self) -> None:
        """Drop the weights; they are read again when a new prompt needs them. Cached prompts stay."""
        with self._lock:
            self._encoder = None

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> TextEncoder:
        """Run on another device or in another dtype from the next new prompt on. Returns itself."""
        with self._lock:
            self.device = self.device if device is None else torch.device(device)
            self.dtype = dtype or self.dtype
            if self._encoder is not None:
                self._encoder = self._encoder.to(device=self.device) if dtype is None else None
        return self


logger = logging.getLogger(__name__)
_NOT_WEIGHTS = ("spiece_model", "lm_head.weight")  # the tokenizer in ComfyUI's files, and a whole model's last layer
_EIGHT_BIT = (*FP8, torch.int8)
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
            Hugging Face's layouts, or a ComfyUI single file (``umt5_xxl_*.safetensors``: fp16, bf16, fp8,
            scaled fp8, int8).
        tokenizer: a folder, ``tokenizer.json`` or ``spiece.model``; default: the one embedded in the file, in the
            folder, or in ``tokenizer/`` beside or inside it.
        text_length, prompt_prefix, dtype, device: as in `TextEncoder`.
        text_dim: what the width must be; None takes any.

    Raises:
        FlashWorldError: files that are missing, damaged or not a UMT5 encoder, or that do not fit each other.
    """
    path = Path(path).expanduser()
    weights = open_weights(path)
    scaled_weights(weights)  # what it could not multiply out, it refuses
    shapes = encoder_shapes(weights)
    config = deduce_umt5_config(shapes, path)
    check_names_and_shapes(expected_shapes(_build(config)), shapes, "UMT5 text encoder", path)
    if text_dim is not None and config.d_model != text_dim:
        raise FlashWorldError(
            f"{path} gives {config.d_model} numbers per token, but the model wants {text_dim}; "
            "use the text encoder the model was trained with (UMT5-XXL for the official one)."
        )
    tokens = _find_tokenizer(path, weights, tokenizer)
    if tokens.vocab_size > config.vocab_size:
        raise FlashWorldError(
            f"the tokenizer of {path} has {tokens.vocab_size} tokens, the encoder only "
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
        if name not in _NOT_WEIGHTS and not name.startswith("decoder.") and not is_marker(name)
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
            f"{path} is not a UMT5 text encoder ({error}); use umt5_xxl, the text encoder of Wan."
        ) from error
    layers = 1
    while block.format(layers, "q") in shapes:
        layers += 1
    if layers > 1 and block.format(1, "relative_attention_bias") not in shapes:
        raise FlashWorldError(
            f"{path} is a T5 encoder, not UMT5 (only block 0 has position biases); "
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
        raise FlashWorldError(f"{path} has an unusable config.json: {error}") from error


def _folder_config(folder: Path) -> dict:
    """The content of a folder's config.json; empty if there is none."""
    file = folder / "config.json"
    if not file.is_file():
        return {}
    try:
        values = parse_json(file.read_bytes(), str(file))
    except OSError as error:
        raise FlashWorldError(f"{file} cannot be read: {error.strerror or error}.") from error
    if not isinstance(values, dict) or values.get("model_type", "umt5") != "umt5":
        raise FlashWorldError(f"{file} does not describe a UMT5 model.")
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
    raise FlashWorldError(f"no tokenizer for {path}; put tokenizer.json or spiece.model into {folder / 'tokenizer'}.")


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
    dtype = dtype or (torch.bfloat16 if stored in _EIGHT_BIT else stored)

    plain = resolved(weights, scaled_weights(weights))

    def read(name: str) -> Tensor:
        return plain.read(_TIED if name == _EMBEDDING and name not in plain.entries else name)

    # In half precision the last feed-forward layer overflows; transformers computes with it in float32.
    keep = ("wo",) if dtype == torch.float16 else ()
    assign(model, read, dtype=dtype, device=device, keep_float32=keep)
    logger.info("Text encoder loaded from %s in %s.", weights.path, dtype)
    return model
