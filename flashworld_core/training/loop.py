"""From a stage to a finished run: trainer, checkpoints, metrics, sheets, and what is said at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from .. import __version__
from ..errors import FlashWorldError
from ..text import get_logger
from .ahead import ReadAhead
from .config import Run
from .metrics_log import MetricsLog
from .state import RunFolder
from .trainer import Stage, Trainer, World

log = get_logger(__name__)


def pick_device(name: str) -> torch.device:
    """The device of ``--device``.

    Raises:
        FlashWorldError: CUDA asked for where there is none, or an unknown name.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise FlashWorldError(f"--device {name} is no device; use auto, cpu or cuda.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise FlashWorldError("There is no CUDA device here; use --device cpu.")
    return device


def train(
    stage: Stage, run: Run, folder: Path, *, about: dict, sheet: Callable[[int], None] | None = None,
    world: World | None = None, storage=None,
) -> bool:  # fmt: skip
    """Train from the folder's last checkpoint, or from the start, to the end; whether the end was reached.

    Args:
        about: facts every checkpoint stores.
        storage: see `state.RunFolder`.
    """
    world = world or World()
    if run.threads:
        torch.set_num_threads(run.threads)
    checkpoints = RunFolder(
        folder, keep_every=run.keep_every, about=about | {"version": __version__}, storage=storage, rank=world.rank
    )
    metrics = MetricsLog(folder if world.rank == 0 else None)
    trainer = Trainer(stage, run, checkpoints=checkpoints, metrics=metrics, world=world, sheet=sheet)
    begun = checkpoints.restore(trainer)
    if trainer.iteration >= run.iterations:
        log.info("%s is finished: %d iterations.", folder, trainer.iteration)
        return True
    if begun:
        log.info("Going on from iteration %d of %d.", trainer.iteration, run.iterations)
    if run.workers:
        stage.data = ReadAhead(stage.data, trainer.upcoming(), run.workers)
    finished = trainer.train()
    if world.rank == 0 and not finished:
        log.info(
            "Saved at iteration %d of %d. To go on: python -m flashworld_core.training %s --out %s --resume",
            trainer.iteration, run.iterations, stage.name, folder,
        )  # fmt: skip
    return finished
