"""Stage 1: train both modes of a FlashWorld from one pass (FlashWorld, Eq. 4 and 5)."""

from __future__ import annotations

import argparse

from .arguments import add_recipe, add_run, gives_recipe, recipe_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    add_recipe(parser)
    add_run(parser)


def run(options: argparse.Namespace) -> None:
    """Begin a run in ``--out``, or go on with the one there; its end is a model folder, ``OUT/model``."""
    from ..loop import pick_device
    from ..runs import open_run
    from ..stages import pretrain

    device = pick_device(options.device)
    recipe, _ = open_run(
        options.out, "pretrain", recipe_of(options), resume=options.resume, given=gives_recipe(options)
    )
    pretrain(options.out, recipe, device, options.minutes)
