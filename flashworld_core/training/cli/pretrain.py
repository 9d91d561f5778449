"""Stage 1: train both modes of a FlashWorld from one pass (FlashWorld, Eq. 4 and 5)."""

from __future__ import annotations

import argparse
import dataclasses
import logging

from .arguments import add_recipe, add_run, gives_recipe, recipe_of

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    add_recipe(parser)
    add_run(parser)


def run(options: argparse.Namespace) -> None:
    """Begin a run in ``--out``, or go on with the one there; its end is a model folder, ``OUT/model``."""
    from ..build import pretraining_stage
    from ..export import export_run
    from ..flashworld.sheets import SheetMaker
    from ..flashworld.start import networks_from, read_model, read_own_text, write_new_start
    from ..runs import open_run
    from ..sources import open_data
    from .loop import pick_device, train

    device = pick_device(options.device)
    recipe, _ = open_run(
        options.out, "pretrain", recipe_of(options), resume=options.resume, given=gives_recipe(options)
    )
    config = recipe.pretrain.run
    start = recipe.start or options.out / "start"
    if not recipe.start and not (start / "config.json").is_file():
        from ..flashworld.start import PRESETS

        preset = PRESETS[recipe.model]() if recipe.model in PRESETS else None
        write_new_start(start, recipe, None if preset is None else open_data(recipe, preset, seed=config.seed))
    model = read_model(start)
    own = read_own_text(start, model.config) if recipe.pretrain.train_text else None
    networks = networks_from(model, config, device, own)
    stage = pretraining_stage(networks, open_data(recipe, model.config, seed=config.seed), recipe)
    test = open_data(recipe, model.config, seed=config.seed, split="test")
    sheet = SheetMaker(networks, stage.players["student"].average, test, options.out) if config.sheet_every else None
    if options.minutes is not None:
        config = dataclasses.replace(config, minutes=options.minutes)
    if train(stage, config, options.out, about={"start": str(start)}, sheet=sheet):
        export_run(options.out, options.out / "model")
        log.info("The model is in %s; stage 2: distill --start %s --out ...", options.out / "model", options.out)
