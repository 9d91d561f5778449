"""The folder of a run: begun once, gone on with by name, never started over."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..errors import FlashWorldError
from .config import Recipe, Run, from_mapping, to_json
from .state import RunFolder

RECIPE_FILE = "recipe.json"
_MAY_CHANGE = ("iterations", "minutes", "save_every", "keep_every", "report_every", "sheet_every", "threads")
"""Fields of `config.Run` that may differ when a run goes on; ``iterations`` moves the end of a learning rate's fall."""


def open_run(folder: Path, stage: str, recipe: Recipe, *, resume: bool, given: bool) -> tuple[Recipe, bool]:
    """The recipe of a run, and whether the run begins now.

    A new run's recipe is written to ``folder/recipe.json``.

    Args:
        stage: "pretrain" or "distill".
        recipe: of the command line.
        resume: go on with what the folder holds.
        given: whether the command line said anything about the recipe; if not, a run goes on with its own.

    Raises:
        FlashWorldError: a folder that holds a run, without ``resume``; a run of another stage or recipe; a folder with
            other files in it.
    """
    path = folder / RECIPE_FILE
    if not path.is_file():
        old = [name for name in ("generator.pt", "vae.pt") if (folder / name).exists()]
        if old or (folder / "checkpoints").exists():
            raise FlashWorldError(f"{folder} holds other training ({', '.join(old) or 'checkpoints'}); name a new one.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write(path, json.dumps({"stage": stage, "recipe": json.loads(to_json(recipe))}, indent=1))
        except OSError as error:
            raise FlashWorldError(f"The run cannot be written to {folder}: {error}.") from error
        return recipe, True
    of, stored = read_run(folder)
    if of != stage:
        raise FlashWorldError(f"{folder} holds a run of {of}, not of {stage}; name another folder.")
    if not resume:
        latest = RunFolder(folder).latest()
        done = f" at iteration {int(latest.name)}" if latest else ""
        raise FlashWorldError(f"{folder} holds a run{done}; add --resume to go on with it, or name another folder.")
    if not given:
        return stored, False
    if changed := _differences(stored, recipe, stage):
        raise FlashWorldError(
            f"The run in {folder} was begun with another {', '.join(changed)}; leave that out to go on with it, or "
            "name another folder."
        )
    return recipe, False


def read_run(folder: str | Path) -> tuple[str, Recipe]:
    """(stage, recipe) of a run.

    Raises:
        FlashWorldError: a folder without a run, or whose recipe is damaged.
    """
    path = Path(folder) / RECIPE_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return values["stage"], from_mapping(Recipe, values["recipe"])
    except FileNotFoundError:
        raise FlashWorldError(f"{folder} holds no run: there is no {RECIPE_FILE}.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FlashWorldError(f"{path} is damaged: {error}.") from error


def run_of(recipe: Recipe, stage: str) -> Run:
    """The `config.Run` of a stage."""
    return getattr(recipe, stage).run


def _differences(stored: Recipe, given: Recipe, stage: str) -> list[str]:
    """Names of the fields that differ and must not."""
    names = []

    def compare(old, new, path):
        if isinstance(old, dict):
            for key in old:
                compare(old[key], new[key], f"{path}.{key}" if path else key)
        elif old != new and path not in {f"{stage}.run.{name}" for name in _MAY_CHANGE}:
            names.append(path)

    compare(json.loads(to_json(stored)), json.loads(to_json(given)), "")
    other = {"pretrain": "distill", "distill": "pretrain"}[stage]
    return [name for name in names if not name.startswith(f"{other}.")]


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
