"""Prompt to token ids, from either form UMT5's tokenizer is shipped in.

Both forms give the same ids for ordinary text: Hugging Face's ``tokenizer.json``, and the sentencepiece model
that T5 was trained with (``spiece.model``, or embedded in a ComfyUI text encoder file).
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..errors import FlashWorldError


class Tokenizer(Protocol):
    """Text to ids ending with the end token."""

    vocab_size: int

    def __call__(self, text: str, max_length: int) -> list[int]:
        """At most ``max_length`` ids, the end token included; what does not fit is cut off before it."""
        ...


class HuggingFaceTokenizer:
    """A ``tokenizer.json`` of the tokenizers library.

    Raises:
        FlashWorldError: the file is missing or is not a tokenizer, or it does not append an end token.
    """

    def __init__(self, path: str | Path):
        from tokenizers import Tokenizer as Backend

        path = Path(path)
        try:
            self._backend = Backend.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises plain Exception for content it cannot read
            raise FlashWorldError(f"tokenizer: {path} is not a tokenizer.json: {error}") from error
        self._backend.no_padding()
        self._backend.no_truncation()
        self.vocab_size = self._backend.get_vocab_size(with_added_tokens=True)
        self._specials = self._backend.num_special_tokens_to_add(is_pair=False)
        if self._specials < 1:
            raise FlashWorldError(f"tokenizer: {path} appends no end token; use the tokenizer of a T5 or UMT5 model.")

    def __call__(self, text: str, max_length: int) -> list[int]:
        ids = self._backend.encode(text).ids
        if len(ids) <= max_length:
            return ids
        # T5's only special token is the end token, last of all.
        return ids[: max_length - self._specials] + ids[-self._specials :]


class SentencePieceTokenizer:
    """A sentencepiece model with T5's habits: no begin token, the end token appended.

    Args:
        model: the serialized model.
        name: where it came from, for messages.

    Raises:
        FlashWorldError: not a sentencepiece model, one without an end token, or the library is missing.
    """

    def __init__(self, model: bytes, name: str):
        try:
            import sentencepiece
        except ImportError as error:
            raise FlashWorldError(
                f"tokenizer: {name} holds a sentencepiece model; install the package `sentencepiece` to use it."
            ) from error
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise FlashWorldError(f"tokenizer: {name} does not hold a sentencepiece model: {error}") from error
        self._eos = self._processor.eos_id()
        if self._eos < 0:
            raise FlashWorldError(f"tokenizer: the sentencepiece model of {name} has no end token.")
        self.vocab_size = self._processor.get_piece_size()

    def __call__(self, text: str, max_length: int) -> list[int]:
        return [*self._processor.encode(text, out_type=int)[: max_length - 1], self._eos]


def open_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer in a file (``*.json`` or a sentencepiece model) or folder (``tokenizer.json``, ``spiece.model``).

    Raises:
        FlashWorldError: it is not there or cannot be read.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        found = [path / name for name in ("tokenizer.json", "spiece.model") if (path / name).is_file()]
        if not found:
            raise FlashWorldError(f"tokenizer: {path} holds neither tokenizer.json nor spiece.model.")
        path = found[0]
    if not path.is_file():
        raise FlashWorldError(f"tokenizer: no such file: {path}")
    if path.suffix == ".json":
        return HuggingFaceTokenizer(path)
    return SentencePieceTokenizer(path.read_bytes(), str(path))
