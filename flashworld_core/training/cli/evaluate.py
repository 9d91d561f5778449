"""Held-out ToyWorld figures of a model folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("--out", type=Path, default=Path("runs/tiny"), help="folder of the run")
    parser.add_argument("--model", type=Path, required=True, help="model folder to judge")
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--text-only", action="store_true", help="give the prompts without pictures")


def run(options: argparse.Namespace) -> None:
    """Print them as JSON."""
    from ..recipes import tiny

    print(json.dumps(tiny.evaluate(options.model, options.scenes, options.text_only), indent=1))
