"""Write the picture, path and prompt of the demo."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--scene-seed", type=int, default=109)


def run(options: argparse.Namespace) -> None:
    """Write them."""
    from ..recipes import tiny

    tiny.example(options.folder, options.scene_seed)
