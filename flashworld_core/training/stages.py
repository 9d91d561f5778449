"""The two stages as runs: a folder with a recipe, trained from where it stands to its end, then exported."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import torch

from ..errors import FlashWorldError
from ..text import get_logger
from .build import distillation_stage, pretraining_stage
from .config import Recipe, Run
from .distributed import ShardedStorage, Sharding, processes
from .export import export_run
from .flashworld.sheets import SheetMaker
from .flashworld.start import PRESETS, networks_from, read_model, read_own_text, write_new_start
from .loop import train
from .runs import RECIPE_FILE, read_run
from .sources import check_data, open_data, open_text_cache
from .trainer import World

log = get_logger(__name__)


def pretrain(folder: Path, recipe: Recipe, device: torch.device, minutes: float | None = None) -> bool:
    """Stage 1 in a run's folder (see `runs.open_run`); whether it came to its end, with ``folder/model`` written.

    Raises:
        FlashWorldError: a recipe whose data or start cannot be used.
    """
    run = _limited(recipe.pretrain.run, minutes)
    start = Path(recipe.start) if recipe.start else folder / "start"
    with processes(device) as world:
        if not recipe.start and not (start / "config.json").is_file() and world.rank == 0:
            if recipe.model not in PRESETS:
                raise FlashWorldError(f"There is no model {recipe.model!r}; known are {', '.join(PRESETS)}.")
            write_new_start(start, recipe, open_data(recipe, PRESETS[recipe.model](), seed=run.seed))
        _wait(world)
        model = read_model(start)
        own = read_own_text(start, model.config) if recipe.pretrain.train_text else None
        data, shard = open_data(recipe, model.config, seed=run.seed), Sharding(run, world, device)
        check_data(recipe, "pretrain", data)
        networks = networks_from(model, run, device, own, open_text_cache(recipe, model.config, data))
        stage = pretraining_stage(networks, data, recipe, shard)
        return _train(stage, networks, recipe, run, folder, world, {"start": str(start)})


def distill(folder: Path, recipe: Recipe, device: torch.device, minutes: float | None = None) -> bool:
    """Stage 2 in a run's folder; whether it came to its end, with ``folder/model`` written.

    Args:
        recipe: whose ``start`` is the teacher's model folder.

    Raises:
        FlashWorldError: a recipe whose data or teacher cannot be used.
    """
    run = _limited(recipe.distill.run, minutes)
    with processes(device) as world:
        model = read_model(recipe.start)
        data, shard = open_data(recipe, model.config, seed=run.seed), Sharding(run, world, device)
        check_data(recipe, "distill", data)
        networks = networks_from(model, run, device, cache=open_text_cache(recipe, model.config, data))
        stage = distillation_stage(networks, data, recipe, shard=shard)
        about = {"start": recipe.start, "teacher": teacher_hash(recipe.start)}
        return _train(stage, networks, recipe, run, folder, world, about)


def _train(stage, networks, recipe: Recipe, run: Run, folder: Path, world: World, about: dict) -> bool:
    sheet = None
    if run.sheet_every:
        test = open_data(recipe, networks.config, seed=run.seed, split="test")
        average = stage.players["student"].average
        sheet = SheetMaker(networks, average, test, folder, writes=world.rank == 0)
    storage = None if world.size == 1 else ShardedStorage()
    finished = train(stage, run, folder, about=about, sheet=sheet, world=world, storage=storage)
    if finished and world.rank == 0:
        export_run(folder, folder / "model")
        then = f"; stage 2: distill --start {folder} --out ..." if stage.name == "pretrain" else ""
        log.info("The model is in %s%s", folder / "model", then)
    _wait(world)
    return finished


def _wait(world: World) -> None:
    world.any_true(False)


def teacher_folder(start: Path) -> Path:
    """The model folder of a run of stage 1 (exported now if it is not there), or the model itself.

    Raises:
        FlashWorldError: a run of stage 2, or one without a checkpoint.
    """
    if not (start / RECIPE_FILE).is_file():
        return start
    stage, _ = read_run(start)
    if stage != "pretrain":
        raise FlashWorldError(f"{start} is a run of {stage}; stage 2 starts from one of pretrain.")
    model = start / "model"
    if not (model / "config.json").is_file():
        export_run(start, model)
        log.info("%s is not finished; its weights of now are in %s.", start, model)
    return model


def teacher_hash(path: str) -> str:
    """SHA-256 of a model's weight file, for the record; empty where there is no single file."""
    file = Path(path) / "model.safetensors" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        return ""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _limited(run: Run, minutes: float | None) -> Run:
    return run if minutes is None else dataclasses.replace(run, minutes=minutes)
