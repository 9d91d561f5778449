"""What every training loop here shares: schedule, weight averaging, checkpoints, logging."""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
import time
from pathlib import Path

import torch
from torch import nn

from ..errors import FlashWorldError
from ..text import get_logger

log = get_logger(__name__)


def warmup_cosine(step: int, total: int, warmup: int, floor: float = 0.02) -> float:
    """Learning-rate factor in [0, 1]: linear for ``warmup`` steps, then a cosine down to ``floor``."""
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


class WeightAverage:
    """Exponential moving average of a module's parameters and buffers.

    The decay ramps up with the number of updates, so that early averages forget the initialization.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999):
        self.decay, self.updates = decay, 0
        self.average = copy.deepcopy(module).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for kept, now in zip(self.average.state_dict().values(), module.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(now.to(kept.dtype), 1 - decay)
            else:
                kept.copy_(now)


def save_atomically(state: dict, path: Path) -> None:
    """``torch.save`` to a temporary name, then rename: a crash never costs the previous checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=True)


class Journal:
    """Appends one JSON line per report to ``path`` and to the log; means are taken between reports."""

    def __init__(self, path: Path, every: int):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.every = path, every
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.started = time.monotonic()

    def add(self, **values: float) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
            self.counts[name] = self.counts.get(name, 0) + 1

    def report(self, step: int, **more) -> None:
        """Write the means since the last report; call it every step, it acts every ``every`` steps."""
        if step % self.every:
            return
        row = {name: self.sums[name] / self.counts[name] for name in self.sums}
        row = {"step": step, "seconds": round(time.monotonic() - self.started, 1), **row, **more}
        self.sums.clear()
        self.counts.clear()
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        log.info("%s", "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))


class RunFolder:
    """The checkpoints of a run: a folder each, whole or not there at all.

    ``checkpoints/<iteration>/`` holds what `Trainer` needs to go on; it is written under a temporary name and renamed.
    ``latest`` names the last one. Without sharded networks a checkpoint is one file; sharded ones are written by every
    process (`distributed.ShardedStorage`).

    Args:
        folder: of the run.
        keep: how many of the newest stay.
        keep_every: iterations whose multiples stay for good, 0 for none.
        storage: writes and reads the tensors; None for one process.
        about: facts to store along: recipe, teacher, versions.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int = 2,
        keep_every: int = 0,
        storage=None,
        about: dict | None = None,
        rank: int = 0,
    ):
        self.folder, self.keep, self.keep_every = Path(folder), keep, keep_every
        self.storage, self.about, self.rank = storage or OneFile(), about or {}, rank

    def save(self, trainer) -> Path:
        """Write a checkpoint of the trainer's iteration, then forget old ones."""
        target = self._path(trainer.iteration)
        temporary = target.with_name(f".{target.name}.writing")
        if self.rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        self.storage.barrier()
        self.storage.write(temporary, trainer)
        self.storage.barrier()
        if self.rank == 0:
            facts = self.about | {
                "iteration": trainer.iteration,
                "updates": {name: player.updates for name, player in trainer.stage.players.items()},
                "metrics": trainer.metrics.state(),
                "stage": trainer.stage.name,
                "stage_state": trainer.stage.state(),
            }
            (temporary / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
            shutil.rmtree(target, ignore_errors=True)
            os.replace(temporary, target)
            latest = self.folder / "checkpoints" / ".latest"
            latest.write_text(target.name, encoding="utf-8")
            os.replace(latest, latest.with_name("latest"))
            self._forget()
        self.storage.barrier()
        return target

    def restore(self, trainer) -> bool:
        """Bring the trainer to the last checkpoint; False where there is none.

        Raises:
            FlashWorldError: a checkpoint of another stage, or one that does not fit the networks.
        """
        path = self.latest()
        if path is None:
            # Lines of a run that was killed before its first checkpoint will be written again.
            trainer.metrics.restore({"sums": {}, "counts": {}}, 0)
            return False
        facts = json.loads((path / "facts.json").read_text(encoding="utf-8"))
        if facts["stage"] != trainer.stage.name:
            raise FlashWorldError(f"{path} is a checkpoint of {facts['stage']}, not of {trainer.stage.name}.")
        self.storage.read(path, trainer)
        trainer.iteration = facts["iteration"]
        for name, player in trainer.stage.players.items():
            player.updates = facts["updates"][name]
        trainer.stage.restore(facts["stage_state"])
        trainer.metrics.restore(facts["metrics"], trainer.iteration)
        return True

    def latest(self) -> Path | None:
        """The newest whole checkpoint, or None."""
        name = self.folder / "checkpoints" / "latest"
        if name.is_file():
            path = name.with_name(name.read_text(encoding="utf-8").strip())
            if path.parent == name.parent and (path / "facts.json").is_file():
                return path
        whole = self._whole()
        return whole[-1] if whole else None

    def _whole(self) -> list[Path]:
        return sorted(path.parent for path in (self.folder / "checkpoints").glob("[0-9]*/facts.json"))

    def _path(self, iteration: int) -> Path:
        return self.folder / "checkpoints" / f"{iteration:08d}"

    def _forget(self) -> None:
        for path in self._whole()[: -self.keep]:
            if not self.keep_every or int(path.name) % self.keep_every:
                shutil.rmtree(path, ignore_errors=True)


class OneFile:
    """Tensors of all players in ``state.pt``: what a run of one process keeps."""

    def barrier(self) -> None:
        """Nobody to wait for."""

    def write(self, folder: Path, trainer) -> None:
        torch.save(player_states(trainer), folder / "state.pt")

    def read(self, folder: Path, trainer) -> None:
        load_player_states(folder, trainer)


def player_states(trainer) -> dict:
    """State of every player, by parameter name: module, average, optimizers. Sharded tensors stay sharded."""
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict

    states = {}
    for name, player in trainer.stage.players.items():
        states[name] = {
            "module": get_model_state_dict(player.module),
            "average": {} if player.average is None else get_model_state_dict(player.average),
            "optimizers": {
                str(i): get_optimizer_state_dict(player.module, optimizer)["state"]
                for i, (optimizer, _) in enumerate(player.optimizers)
            },
        }
    return states


def load_player_states(folder: Path, trainer) -> None:
    """Bring the trainer's players to a checkpoint that one process or several wrote.

    Raises:
        FlashWorldError: a checkpoint that does not fit the networks.
    """
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_optimizer_state_dict,
        set_model_state_dict,
        set_optimizer_state_dict,
    )

    try:
        whole = (folder / "state.pt").is_file()
        if whole:
            state = load_checkpoint(folder / "state.pt")
        else:
            state = player_states(trainer)
            _read_shards(folder, state)
        options = StateDictOptions(full_state_dict=whole)
        for name, player in trainer.stage.players.items():
            kept = state[name]
            set_model_state_dict(player.module, kept["module"], options=options)
            if player.average is not None:
                set_model_state_dict(player.average, kept["average"], options=options)
            for i, (optimizer, _) in enumerate(player.optimizers):
                # Learning rates and betas are the recipe's; only the moments come from the checkpoint.
                groups = get_optimizer_state_dict(player.module, optimizer)["param_groups"]
                values = {"state": kept["optimizers"][str(i)], "param_groups": groups}
                set_optimizer_state_dict(player.module, optimizer, values, options=options)
    except (RuntimeError, KeyError, ValueError, AssertionError) as error:
        raise FlashWorldError(f"The checkpoint {folder} does not fit this recipe's networks: {error}") from error


def read_average(checkpoint: Path, player: str) -> dict[str, torch.Tensor]:
    """The state dict of a player's running average in a checkpoint (of its module, where no average is kept)."""
    if (checkpoint / "state.pt").is_file():
        state = load_checkpoint(checkpoint / "state.pt")[player]
        return state["average"] or state["module"]
    from torch.distributed.checkpoint import FileSystemReader

    metadata = FileSystemReader(str(checkpoint / "shards")).read_metadata()
    for part in ("average", "module"):
        prefix = f"{player}.{part}."
        found = {
            key: torch.empty(tuple(entry.size), dtype=entry.properties.dtype)
            for key, entry in metadata.state_dict_metadata.items()
            if key.startswith(prefix) and hasattr(entry, "size")
        }
        if found:
            _read_shards(checkpoint, found)
            return {key.removeprefix(prefix): tensor for key, tensor in found.items()}
    raise FlashWorldError(f"{checkpoint} holds nothing of {player}.")


def _read_shards(folder: Path, state: dict) -> None:
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp

    dcp.load(state, checkpoint_id=str(folder / "shards"), no_dist=not dist.is_initialized())
