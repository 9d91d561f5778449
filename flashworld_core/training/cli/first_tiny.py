"""Arguments of the first flashworld-tiny's two stages, which followed the clock (`recipes.tiny`)."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from ...errors import FlashWorldError


def add_stage(parser: argparse.ArgumentParser) -> None:
    """What `vae` and `generator` share."""
    parser.add_argument("--out", type=Path, default=Path("runs/tiny"), help="folder of the run")
    parser.add_argument("--minutes", type=float, required=True, help="wall time to train for")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads of the training process")
    parser.add_argument("--resume", action="store_true", help="go on from what OUT holds")
    parser.add_argument("--workers", type=int, default=1, help="processes that make scenes")


def use_threads(options: argparse.Namespace) -> None:
    """Keep to ``--threads``."""
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)


def recipe_from(options: argparse.Namespace):
    """The `few_step.Recipe` of the command line; ``--set`` takes any of its fields.

    Raises:
        FlashWorldError: an unknown field.
    """
    from ..objectives.few_step import Recipe

    recipe = Recipe(minutes=options.minutes, seed=options.seed, device=options.device, workers=options.workers)
    types = {field.name: type(getattr(recipe, field.name)) for field in dataclasses.fields(recipe)}
    for item in options.set:
        name, _, value = item.partition("=")
        if name not in types or not value:
            raise FlashWorldError(f"--set {item}: use NAME=VALUE with a name among {', '.join(types)}.")
        recipe = dataclasses.replace(recipe, **{name: types[name](value)})
    return recipe
