"""The first flashworld-tiny's autoencoder; writes ``OUT/vae.pt``."""

from __future__ import annotations

import argparse

from .first_tiny import add_stage, use_threads


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    add_stage(parser)


def run(options: argparse.Namespace) -> None:
    """Train until the minutes are over."""
    from ..recipes import tiny

    use_threads(options)
    tiny.vae(options.out, options.minutes, options.seed, options.device, options.workers, options.resume)
