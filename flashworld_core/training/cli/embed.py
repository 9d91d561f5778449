"""Encode the prompts of data sets once, for training without a text encoder in memory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("--index", type=Path, nargs="+", default=[], metavar="INDEX", help="folders of indices")
    parser.add_argument("--prompts", type=Path, nargs="+", default=[], metavar="FILE", help="texts, a prompt a line")
    parser.add_argument("--text-encoder", type=Path, required=True, metavar="PATH", help="UMT5: a file or folder")
    parser.add_argument("--out", type=Path, required=True, metavar="CACHE", help="folder; gone on with if there")
    parser.add_argument("--model", default="official", metavar="official|tiny|PATH", help="whose text lengths to use")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")


def run(options: argparse.Namespace) -> None:
    """Encode what is not there yet."""
    from ...datasets.index import ClipIndex
    from ...datasets.text_cache import fingerprint, write_cache
    from ...errors import FlashWorldError
    from ...generators import open_model
    from ...models.umt5 import open_text_encoder
    from ...progress import Progress

    if not options.index and not options.prompts:
        raise FlashWorldError("Name the prompts: --index with folders of indices, or --prompts with text files.")
    spec = open_model(options.model).info.text
    if spec is None:
        raise FlashWorldError(f"The model {options.model} takes no text.")
    indices = [ClipIndex(folder) for folder in options.index]
    prompts = [index.clip(number).prompt for index in indices for number in range(len(index))]
    for path in options.prompts:
        prompts += read_prompts(path)
    encoder = open_text_encoder(
        options.text_encoder, text_length=spec.text_length, prompt_prefix=spec.prompt_prefix, text_dim=spec.text_dim,
        device=options.device,
    )  # fmt: skip

    def report(done: int, total: int, preview=None) -> None:
        if done % 100 == 0 or done == total:
            print(f"{done} of {total} prompts", file=sys.stderr, flush=True)

    made, there = write_cache(
        options.out, prompts, encoder, fingerprint(options.text_encoder), progress=Progress(report)
    )
    print(f"{options.out}: {made} prompts encoded, {there} were there.")


def read_prompts(path: Path) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        FlashWorldError: it is not there, no UTF-8, or holds none.
    """
    from ...errors import FlashWorldError

    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FlashWorldError(f"The prompts in {path} cannot be read: {getattr(error, 'strerror', error)}.") from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise FlashWorldError(f"{path} holds no prompts; write one a line.")
    return prompts
