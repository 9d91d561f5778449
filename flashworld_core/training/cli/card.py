"""Write a model card: figures, curve, pictures and the words around them, into a model folder."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("--out", type=Path, default=Path("runs/tiny"), help="folder of the run")
    parser.add_argument("--model", type=Path, required=True, help="model folder the run was exported to")
    parser.add_argument("--made-by", nargs="+", required=True, metavar="COMMAND", help="the command lines that made it")


def run(options: argparse.Namespace) -> None:
    """Judge and write."""
    if (options.out / "generator.pt").is_file():
        from ..model_card import write_card
    else:
        from ..run_card import write_card

    write_card(options.out, options.model, options.made_by)
