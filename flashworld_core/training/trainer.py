"""The one training loop: iterations, players that take turns, samples, updates, reports, checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ..errors import FlashWorldError
from ..text import get_logger
from .config import Optimizer, Run
from .draws import Draws
from .metrics_log import MetricsLog
from .optim import clip_gradients, learning_rate, set_learning_rate, update_average

log = get_logger(__name__)

_PROGRESS_SECONDS = 10.0
_LARGEST_SKIPPED = 20  # updates in a row without finite gradients before the run gives up


@dataclasses.dataclass
class Player:
    """Networks that are updated together.

    Attributes:
        module: all of them; its parameters are what an update changes.
        optimizers: each with the config of its learning rate.
        clip: largest norm of the gradient over all of them, 0 for no limit.
        average: running average of ``module``, or None.
        average_decay: of it.
        updates: made so far.
    """

    module: nn.Module
    optimizers: list[tuple[torch.optim.Optimizer, Optimizer]]
    clip: float = 1.0
    average: nn.Module | None = None
    average_decay: float = 0.999
    updates: int = 0


class Stage(Protocol):
    """What is trained: the players, whose turn it is, and the loss of a sample."""

    name: str
    players: dict[str, Player]

    def turns(self, iteration: int) -> tuple[str, ...]:
        """The players updated in an iteration, in order."""

    def losses(self, player: str, draws: Sequence[Draws]) -> tuple[Tensor, list[dict[str, float]]]:
        """The losses [B] of samples that are computed together, and what to report of each.

        ``draws[i].sample`` is the sample's number, which counts over the whole run. What steers control flow comes
        from ``draws[0].of(None)`` alone, so that it is the same for all samples of an update and on all processes.
        """

    def wanted(self, player: str, draws: Draws) -> tuple[str, int, int] | None:
        """The key of the sample that `losses` will ask the data for; None for none."""

    def state(self) -> dict:
        """What the stage itself has to keep between iterations; empty for most."""

    def restore(self, state: dict) -> None: ...


@dataclasses.dataclass
class World:
    """The processes of a run: which this one is, and what they do together. Alone, all of it does nothing."""

    rank: int = 0
    size: int = 1
    any_true: Callable[[bool], bool] = bool
    gather: Callable[[list], list] = list


class Trainer:
    """Runs a stage.

    Args:
        stage: what is trained.
        run: how long, how much, how often.
        checkpoints: saves and restores; None keeps nothing.
        log: where metrics go.
        world: the processes.
        sheet: called with the iteration every ``run.sheet_every``, on every process.
    """

    def __init__(
        self, stage: Stage, run: Run, *, checkpoints=None, metrics: MetricsLog | None = None,
        world: World | None = None, sheet: Callable[[int], None] | None = None,
    ):  # fmt: skip
        self.stage, self.run, self.checkpoints = stage, run, checkpoints
        self.metrics = metrics or MetricsLog(None)
        self.world = world or World()
        self.sheet = sheet
        self.iteration = 0
        self.skipped = 0
        if run.batch % self.world.size:
            raise FlashWorldError(
                f"A batch of {run.batch} samples cannot be shared by {self.world.size} processes; make it a multiple."
            )

    def train(self) -> bool:
        """Iterate to the end, or until interrupted or out of minutes; whether the end was reached.

        Ctrl-C and SIGTERM finish the update in progress, save, and return; a second Ctrl-C stops at once.
        """
        run, started, begun_at = self.run, time.monotonic(), self.iteration
        said = started
        with _stop_signals() as stopped:
            while self.iteration < run.iterations:
                for name in self.stage.turns(self.iteration):
                    self.update(name)
                self.iteration += 1
                last = self.iteration == run.iterations
                out_of_time = run.minutes and time.monotonic() - started > 60 * run.minutes
                stop = self.world.any_true(bool(stopped) or bool(out_of_time))
                if self.iteration % run.report_every == 0:
                    self._report(self._left(started, begun_at))
                    said = time.monotonic()
                elif self.world.rank == 0 and time.monotonic() - said > _PROGRESS_SECONDS:
                    log.info(
                        "%s %d of %d, %s left",
                        self.stage.name,
                        self.iteration,
                        run.iterations,
                        self._left(started, begun_at),
                    )
                    said = time.monotonic()
                if self.sheet and run.sheet_every and (self.iteration % run.sheet_every == 0 or last):
                    self.sheet(self.iteration)
                if self.checkpoints and (stop or last or self.iteration % run.save_every == 0):
                    self.checkpoints.save(self)
                if stop:
                    return False
        return True

    def upcoming(self) -> Iterator[tuple[str, int, int]]:
        """Keys of the samples that this process will ask its data for from here on, in order."""
        run, updates = self.run, {name: player.updates for name, player in self.stage.players.items()}
        share = run.batch // self.world.size
        for iteration in range(self.iteration, run.iterations):
            for name in self.stage.turns(iteration):
                draws = Draws(run.seed, f"{self.stage.name}/{name}", updates[name])
                first = run.batch * updates[name] + self.world.rank * share
                updates[name] += 1
                keys = (self.stage.wanted(name, draws.of(first + k)) for k in range(share))
                yield from (key for key in keys if key is not None)

    def update(self, name: str) -> None:
        """One update of a player: the gradient of its share of the batch, clipped and applied if it is finite."""
        player, run, world = self.stage.players[name], self.run, self.world
        share = run.batch // world.size
        for optimizer, _ in player.optimizers:
            optimizer.zero_grad(set_to_none=True)
        first = run.batch * player.updates
        draws = Draws(run.seed, f"{self.stage.name}/{name}", player.updates)
        reports: list[dict[str, float]] = []
        others = [other.module for key, other in self.stage.players.items() if key != name]
        # Backward may recompute what forward did, so the others stay frozen until it is through.
        with _frozen(others):
            for i in range(0, share, run.together):
                begin, end = (first + world.rank * share + k for k in (i, min(i + run.together, share)))
                losses, found = self.stage.losses(name, [draws.of(sample) for sample in range(begin, end)])
                # Sharded gradients are averaged over processes, and what is wanted is their sum.
                (losses.sum() * (world.size / run.batch)).backward()
                reports += found
        norm = clip_gradients(
            [p for o, _ in player.optimizers for g in o.param_groups for p in g["params"]], player.clip
        )
        finite = not world.any_true(not bool(torch.isfinite(norm)))
        for optimizer, config in player.optimizers:
            set_learning_rate(optimizer, learning_rate(config, self.iteration, run.iterations))
            if finite:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        player.updates += 1
        if finite:
            self.skipped = 0
            if player.average is not None:
                update_average(player.average, player.module, player.average_decay, player.updates)
        else:
            self.skipped += 1
            if self.skipped > _LARGEST_SKIPPED:
                raise FlashWorldError(
                    f"{self.skipped} updates in a row had a loss or gradient that is not finite; "
                    "lower the learning rate, or go on from an earlier checkpoint."
                )
        reports = world.gather(reports)
        for key in sorted({key for report in reports for key in report}):
            values = [report[key] for report in reports if key in report]
            self.metrics.add({f"{name}/{key}": sum(values) / len(values)})
        self.metrics.add({f"{name}/gradient_norm": norm.item(), f"{name}/skipped": float(not finite)})

    def _report(self, left: str) -> None:
        rates = {
            f"{name}/lr": learning_rate(config, self.iteration, self.run.iterations)
            for name, player in self.stage.players.items()
            for _, config in player.optimizers[:1]
        }
        row = self.metrics.report(self.iteration, **rates)
        if self.world.rank == 0:
            shown = "  ".join(f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, float) and "/lr" not in k)
            log.info("%s %d of %d, %s left  %s", self.stage.name, self.iteration, self.run.iterations, left, shown)

    def _left(self, started: float, begun_at: int) -> str:
        seconds = time.monotonic() - started
        return _clock(seconds / max(1, self.iteration - begun_at) * (self.run.iterations - self.iteration))


@contextlib.contextmanager
def _frozen(modules: Sequence[nn.Module]) -> Iterator[None]:
    """No gradient for the modules' parameters, though gradients may pass through."""
    changed = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in changed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(True)


def _clock(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {int(seconds % 60):02d} s"


@contextlib.contextmanager
def _stop_signals() -> Iterator[list]:
    """A list that fills when the process is asked to stop; handlers are put back at the end."""
    stopped: list = []

    def ask(number, frame):
        if stopped and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopped.append(number)
        log.info("Stopping after this update and saving; Ctrl-C again stops at once.")

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread
        before = {}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
