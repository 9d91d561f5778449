"""Arguments the training commands share, and the recipe they make."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..config import Recipe, override, read_recipe
from ..recipes import RECIPES, recipe


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """--recipe, --config, --set."""
    parser.add_argument("--recipe", choices=list(RECIPES), help="what to start from (default: nano)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML or JSON with fields of the recipe")
    parser.add_argument(
        "--set", nargs="*", action="extend", default=[], metavar="NAME=VALUE",
        help="fields of the recipe, such as distill.run.batch=2",
    )  # fmt: skip


def add_run(parser: argparse.ArgumentParser) -> None:
    """--out, --resume, --minutes, --device."""
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on if OUT holds a run; without it that is refused")
    parser.add_argument("--minutes", type=float, help="stop and save after this long; nothing else depends on it")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The recipe of the command line, before a run's own."""
    chosen = recipe(options.recipe or "nano")
    if options.config is not None:
        chosen = read_recipe(options.config, chosen)
    return override(chosen, options.set)


def gives_recipe(options: argparse.Namespace) -> bool:
    """Whether the command line says anything about the recipe."""
    return bool(options.recipe or options.config or options.set)
