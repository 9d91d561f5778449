"""Text embeddings kept on disk, so that training need not hold a text encoder (UMT5-XXL: 11 GB).

A cache is a folder: ``cache.json`` says which encoder made it; each ``rows-*.safetensors`` holds, by the SHA-256 of a
prompt, its rows [tokens, D] in bfloat16, without padding. Shards appear complete or not at all, so writing can be
stopped and gone on with at any time, and prompts that are there already are not encoded again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..errors import FlashWorldError
from ..formats.files import atomic_writer, check_folder, parse_json
from ..progress import Progress

FACTS, PATTERN = "cache.json", "rows-*.safetensors"
COMMAND = "python -m flashworld_core.training embed --index INDEX --text-encoder ENCODER --out CACHE"
PER_SHARD = 1024  # prompts


class Encoder(Protocol):
    """What makes embeddings: `models.umt5.TextEncoder` is one."""

    text_dim: int
    text_length: int
    prompt_prefix: str

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """[B, L, D], rows behind a prompt's tokens zero."""


def key_of(prompt: str) -> str:
    """What a prompt's rows are found by."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


def encoder_facts(encoder: Encoder, fingerprint: str) -> dict:
    """What a cache says about the encoder that made it."""
    return {
        "text_dim": encoder.text_dim,
        "text_length": encoder.text_length,
        "prompt_prefix": encoder.prompt_prefix,
        "encoder": fingerprint,
    }


def fingerprint(path: str | os.PathLike) -> str:
    """Tell text encoders apart by their files: SHA-256 over sizes and the first and last MiB of each.

    The place does not count, so that a cache can be gone on with on another machine.
    """
    path = Path(path).expanduser()
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            digest.update(f"{size}/".encode())
            for place in (0, max(0, size - 2**20)):
                stream.seek(place)
                digest.update(stream.read(2**20))
    return digest.hexdigest()[:32]


def write_cache(
    folder: Path, prompts: Iterable[str], encoder: Encoder, encoder_fingerprint: str, *,
    progress: Progress | None = None, per_shard: int = PER_SHARD,
) -> tuple[int, int]:  # fmt: skip
    """Encode the prompts a cache does not have yet, and the empty one, which training without text needs.

    Args:
        folder: of the cache, made if missing; one that is there is gone on with.
        per_shard: prompts a file.

    Returns:
        How many prompts were encoded, and how many were there.

    Raises:
        FlashWorldError: the cache is another encoder's, or cannot be written.
        Cancelled: stopped; what is encoded so far is kept but for the last shard.
    """
    from safetensors.torch import save

    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    facts = encoder_facts(encoder, encoder_fingerprint)
    if (folder / FACTS).exists():
        there = parse_json((folder / FACTS).read_bytes(), str(folder / FACTS))
        if there != facts:
            different = [key for key in facts if not isinstance(there, dict) or there.get(key) != facts[key]]
            raise FlashWorldError(
                f"The cache in {folder} was made by another text encoder ({', '.join(different)} differ); give another "
                "folder."
            )
    else:
        with atomic_writer(folder / FACTS) as stream:
            stream.write((json.dumps(facts, indent=1) + "\n").encode())
    known = set(_shards(folder))
    wanted = {key_of(prompt): prompt for prompt in ["", *prompts]}
    missing = [(key, prompt) for key, prompt in wanted.items() if key not in known]
    progress = (progress or Progress()).start(len(missing))
    for begin in range(0, len(missing), per_shard):
        rows = {}
        for key, prompt in missing[begin : begin + per_shard]:
            progress.check()
            rows[key] = _unpadded(encoder.encode([prompt])[0]).to(torch.bfloat16).contiguous()
            progress.advance()
        # Named by what it holds: two processes that share the work do not meet.
        name = hashlib.sha256("".join(rows).encode()).hexdigest()[:16]
        with atomic_writer(folder / f"rows-{name}.safetensors") as stream:
            stream.write(save(rows))
    return len(missing), len(wanted) - len(missing)


def _unpadded(embedding: Tensor) -> Tensor:
    """[tokens, D] without the zero rows at the end."""
    used = embedding.ne(0).any(1).nonzero()
    return embedding[: int(used[-1]) + 1 if len(used) else 0]


def _shards(folder: Path) -> dict[str, Path]:
    """Key -> shard, from the headers of all shards."""
    from safetensors import SafetensorError, safe_open

    found = {}
    for path in sorted(folder.glob(PATTERN)):
        try:
            with safe_open(path, "pt") as shard:
                found.update(dict.fromkeys(shard.keys(), path))
        except (SafetensorError, OSError) as error:
            raise FlashWorldError(f"{path} is damaged ({error}); delete it and run again: {COMMAND}.") from None
    return found


class TextCache:
    """A cache, opened: prompts to embeddings as networks take them. Can be handed to other processes.

    Args:
        folder: of the cache.
        text_dim, text_length, prompt_prefix: what the model takes; prefix None takes the cache's.

    Raises:
        FlashWorldError: no cache, or one made for another model.
    """

    def __init__(self, folder: str | Path, *, text_dim: int, text_length: int, prompt_prefix: str | None = None):
        self.folder = Path(folder).expanduser()
        if not (self.folder / FACTS).is_file():
            raise FlashWorldError(f"There is no cache of text embeddings in {self.folder}; make it: {COMMAND}.")
        facts = parse_json((self.folder / FACTS).read_bytes(), str(self.folder / FACTS))
        wanted = {"text_dim": text_dim, "text_length": text_length}
        if prompt_prefix is not None:
            wanted["prompt_prefix"] = prompt_prefix
        for key, value in wanted.items():
            found = facts.get(key) if isinstance(facts, dict) else None
            if found != value:
                raise FlashWorldError(
                    f"The cache in {self.folder} has a {key} of {found!r}, the model wants {value!r}; make one with "
                    f"the model's text encoder: {COMMAND}."
                )
        self.text_dim, self.text_length = text_dim, text_length
        self.shards = _shards(self.folder)

    def __len__(self) -> int:
        return len(self.shards)

    def __call__(self, prompts: str | Sequence[str]) -> Tensor:
        """[B, L, D] float32, rows behind a prompt's tokens zero.

        Raises:
            FlashWorldError: a prompt that was not encoded.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        out = torch.zeros(len(prompts), self.text_length, self.text_dim)
        for row, prompt in zip(out, prompts, strict=True):
            key = key_of(prompt)
            if key not in self.shards:
                raise FlashWorldError(
                    f"The prompt {prompt[:60]!r} is not in the cache {self.folder}; add it: {COMMAND}."
                )
            rows = _rows(self.shards[key], key)
            row[: len(rows)] = rows
        return out

    def check(self, prompts: Iterable[str]) -> None:
        """See, before a run, that all prompts are there.

        Raises:
            FlashWorldError: how many are missing, and how to add them.
        """
        missing = {prompt for prompt in prompts if key_of(prompt) not in self.shards}
        if missing:
            raise FlashWorldError(
                f"{len(missing)} prompts are not in the cache {self.folder}, {sorted(missing)[0][:60]!r} among them; "
                f"add them: {COMMAND}."
            )


@functools.lru_cache(maxsize=4096)
def _rows(path: Path, key: str) -> Tensor:
    from safetensors import safe_open

    with safe_open(path, "pt") as shard:
        return shard.get_tensor(key).float()
