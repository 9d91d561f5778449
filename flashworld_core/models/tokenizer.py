"""Prompt to token ids, from either form UMT5's tokenizer is shipped in.

Both forms give the same ids for ordinary text: Hugging Face's ``tokenizer.json``, and the sentencepiece model
that T5 was trained with (``spiece.model``, or embedded in a ComfyUI text encoder file).
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ..errors import FlashWorldError
from ..formats.files import parse_json

SAFE_SENTENCEPIECE = (0, 2, 1)  # before, a crafted model corrupts memory (CVE-2026-1260)


class Tokenizer(Protocol):
    """Text to ids ending with the end token."""

    vocab_size: int

    def __call__(self, text: str, max_length: int) -> list[int]:
        """At most ``max_length`` ids, the end token included; what does not fit is cut off before it."""
        ...


@contextlib.contextmanager
def _failures_of_the_library(message: str) -> Iterator[None]:
    """The tokenizers library raises plain Exception, and on some content a panic that passes ``except Exception``."""
    try:
        yield
    except FlashWorldError:
        raise
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
            raise
        raise FlashWorldError(f"{message}: {str(error)[:200]}") from error


def _check_charsmaps(content: object, path: Path) -> None:
    """Refuse normalization tables the library would panic at, which prints its own stack before it can be caught.

    A table is base64 of: u32 bytes of the trie, the trie (u32 units), UTF-8 text.
    """
    if isinstance(content, list):
        for value in content:
            _check_charsmaps(value, path)
    elif isinstance(content, dict):
        if content.get("type") == "Precompiled":
            try:
                data = base64.b64decode(content["precompiled_charsmap"] or "", validate=True)
                size = int.from_bytes(data[:4], "little")
                data[4 + size :].decode()
                usable = len(data) >= 4 and size % 4 == 0 and 4 + size <= len(data)
            except (KeyError, TypeError, ValueError):
                usable = False
            if not usable:
                raise FlashWorldError(f"{path} is a damaged tokenizer.json: its precompiled_charsmap cannot be read.")
        for key in ("normalizer", "normalizers"):
            _check_charsmaps(content.get(key), path)


class HuggingFaceTokenizer:
    """A ``tokenizer.json`` of the tokenizers library.

    Raises:
        FlashWorldError: the file is missing or is not a tokenizer, or it does not append an end token.
    """

    def __init__(self, path: str | Path):
        from tokenizers import Tokenizer as Backend

        self._path = path = Path(path)
        with _failures_of_the_library(f"{path} is not a tokenizer.json"):
            text = path.read_text(encoding="utf-8")
            _check_charsmaps(parse_json(text, str(path)), path)
            self._backend = Backend.from_str(text)
            self._backend.no_padding()
            self._backend.no_truncation()
            self.vocab_size = self._backend.get_vocab_size(with_added_tokens=True)
            self._specials = self._backend.num_special_tokens_to_add(is_pair=False)
        if self._specials < 1:
            raise FlashWorldError(f"{path} appends no end token; use the tokenizer of a T5 or UMT5 model.")
        self("[Static] a \u00e9t\u00e9 \u6f22 \U0001f600", 512)  # what is missing from a vocabulary shows in use only

    def __call__(self, text: str, max_length: int) -> list[int]:
        with _failures_of_the_library(f"{self._path} is a damaged tokenizer.json: it cannot take {text[:40]!r} apart"):
            ids = self._backend.encode(text).ids
        if ids and max(ids) >= self.vocab_size:
            raise FlashWorldError(
                f"{self._path} is a damaged tokenizer.json: it gives token {max(ids)} of {self.vocab_size}."
            )
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
                f"{name} holds a sentencepiece model; install the package `sentencepiece` to use it."
            ) from error
        version = tuple(int(part) for part in re.findall(r"\d+", sentencepiece.__version__)[:3])
        if version < SAFE_SENTENCEPIECE:
            raise FlashWorldError(
                f"{name} holds a sentencepiece model, which sentencepiece {sentencepiece.__version__} does not read "
                f"safely; update it to {'.'.join(map(str, SAFE_SENTENCEPIECE))} or later."
            )
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise FlashWorldError(f"{name} does not hold a sentencepiece model: {error}") from error
        self._eos = self._processor.eos_id()
        if self._eos < 0:
            raise FlashWorldError(f"the sentencepiece model of {name} has no end token.")
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
            raise FlashWorldError(f"{path} holds neither tokenizer.json nor spiece.model.")
        path = found[0]
    if not path.is_file():
        raise FlashWorldError(f"no such file: {path}")
    if path.suffix == ".json":
        return HuggingFaceTokenizer(path)
    return SentencePieceTokenizer(path.read_bytes(), str(path))
