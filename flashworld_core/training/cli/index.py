"""Go through a data set once and write its index, which training draws from."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    from ...datasets import READERS

    parser.add_argument("dataset", metavar="DATASET", help=f"which set: {', '.join(READERS)}")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where it was unpacked to")
    parser.add_argument("--out", type=Path, required=True, metavar="INDEX", help="folder for the index")
    parser.add_argument(
        "--captions",
        type=Path,
        metavar="FILE",
        help='lines {"id": ..., "caption": ...}; default FOLDER/captions.jsonl',
    )


def run(options: argparse.Namespace) -> None:
    """Write the index and say what it holds."""
    from ...datasets.index import write_index

    def notify(text: str) -> None:
        print(text, file=sys.stderr)

    facts = write_index(
        options.dataset, options.folder, options.out, captions=options.captions, notify=notify, progress=_counter()
    )
    skipped = sum(map(len, facts["skipped"].values()))
    kinds = ", ".join(f"{count} {kind}" for kind, count in facts["kinds"].items())
    print(f"{options.out}: {kinds} with {facts['frames']} frames of {facts['dataset']}; {skipped} skipped.")
    if facts["without_caption"]:
        print(
            f"{facts['without_caption']} of {facts['clips']} have no caption of their own; give some with --captions, "
            "else they train with their category's name or without text."
        )


def _counter():
    """Clips so far, every thousand: how many there will be nobody knows."""
    from ...progress import Progress

    def report(done: int, total: int, preview=None) -> None:
        if done % 1000 == 0:
            print(f"{done} clips", file=sys.stderr, flush=True)

    return Progress(report)
