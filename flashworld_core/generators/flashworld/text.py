"""The prompt: UMT5's last hidden state, padded with zero rows to the model's text length.

Only the tokens themselves are run through the encoder. Its positions are relative and padding is masked, so the
rows are those of the padded run, at a fraction of the work: a short prompt is 20 tokens of 512.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ...errors import FlashWorldError
from .tokenizer import Tokenizer


class PromptCache:
    """The rows of the most recent prompts, in CPU memory, shared by all text encoders of the process.

    A ComfyUI graph loads the same model many times over; keyed by weights and prompt, its prompts are encoded once.

    Args:
        entries: how many prompts are kept; a full-size prompt of 40 tokens takes 0.6 MB.
    """

    def __init__(self, entries: int = 64):
        self.entries = entries
        self._rows: OrderedDict[tuple, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple) -> Tensor | None:
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
            return self._rows.get(key)

    def put(self, key: tuple, rows: Tensor) -> None:
        with self._lock:
            self._rows[key] = rows
            self._rows.move_to_end(key)
            while len(self._rows) > self.entries:
                self._rows.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._rows.clear()

    def __len__(self) -> int:
        return len(self._rows)


PROMPT_CACHE = PromptCache()


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
                raise FlashWorldError(f"TextEncoder: a prompt must be text, got {type(prompt).__name__}.")
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
        ids = self.tokenizer(text, self.text_length)
        with self._lock:
            if self._encoder is None:
                self._encoder = self._load_encoder(self.dtype, self.device)
            rows = self._encoder(input_ids=torch.tensor([ids], device=self.device)).last_hidden_state[0]
        if not torch.isfinite(rows).all():
            raise FlashWorldError(
                f"TextEncoder: {self.model_id} gave values that are not finite in {rows.dtype}; "
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
