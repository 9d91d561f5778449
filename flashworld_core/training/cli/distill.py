"""Stage 2: distill a run of stage 1 into the few-step student (FlashWorld, cross-mode post-training)."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from ...errors import FlashWorldError
from .arguments import add_recipe, add_run, gives_recipe, recipe_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    add_recipe(parser)
    parser.add_argument(
        "--start", type=Path, metavar="RUN", help="a run of stage 1, or a dual-mode model folder; it is the teacher too"
    )
    add_run(parser)


def run(options: argparse.Namespace) -> None:
    """Begin a run in ``--out``, or go on with the one there; its end is a model folder, ``OUT/model``."""
    from ..loop import pick_device
    from ..runs import RECIPE_FILE, open_run, read_run
    from ..stages import distill, teacher_folder

    device = pick_device(options.device)
    recipe = recipe_of(options)
    if options.start is not None:
        recipe = dataclasses.replace(recipe, start=str(teacher_folder(options.start)))
    elif not recipe.start:
        if not (options.out / RECIPE_FILE).is_file():
            raise FlashWorldError("Stage 2 needs a teacher: give --start RUN, a run of stage 1 or a model folder.")
        recipe = dataclasses.replace(recipe, start=read_run(options.out)[1].start)
    given = gives_recipe(options) or options.start is not None
    recipe, _ = open_run(options.out, "distill", recipe, resume=options.resume, given=given)
    distill(options.out, recipe, device, options.minutes)
