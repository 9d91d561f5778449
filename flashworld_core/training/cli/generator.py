"""The first flashworld-tiny's few-step generator, on ``OUT/vae.pt``; `pretrain` and `distill` are the paper's way."""

from __future__ import annotations

import argparse

from .first_tiny import add_stage, recipe_from, use_threads


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    add_stage(parser)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other fields of the Recipe")


def run(options: argparse.Namespace) -> None:
    """Train until the minutes are over."""
    from ..recipes import tiny

    use_threads(options)
    tiny.generator(options.out, recipe_from(options), options.resume)
