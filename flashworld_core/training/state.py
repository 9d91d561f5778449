"""What every training loop here shares: schedule, weight averaging, checkpoints, logging."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import time
from pathlib import Path

import torch
from torch import nn

log = logging.getLogger(__name__)


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
