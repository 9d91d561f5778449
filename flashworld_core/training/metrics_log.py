"""`MetricsLog`: one JSON line per report, with the means since the last."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from ..text import get_logger

log = get_logger(__name__)


class MetricsLog:
    """Collects named values and appends their means to ``metrics.jsonl``; to TensorBoard too where it is installed.

    A line is a function of the values alone, without times of day or durations, so that a resumed run writes what an
    uninterrupted one would have written. How fast it went is in ``speed.jsonl``.

    Args:
        folder: of the run; None collects without writing (all processes but the first).
        tensorboard: write event files as well, if the package is there.
    """

    def __init__(self, folder: Path | None, *, tensorboard: bool = True):
        self.folder = folder
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self._writer = _tensorboard(folder) if folder is not None and tensorboard else None

    def add(self, values: dict[str, float]) -> None:
        """Count values into the means of the next report."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
            self.counts[name] = self.counts.get(name, 0) + 1

    def report(self, iteration: int, **more: float) -> dict:
        """Write a line and start the next means; the line."""
        row = {"iteration": iteration, **more}
        row |= {name: _finite(self.sums[name] / self.counts[name]) for name in sorted(self.sums)}
        self.sums.clear()
        self.counts.clear()
        if self.folder is not None:
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            if self._writer is not None:
                for name, value in row.items():
                    if name != "iteration" and value is not None:
                        self._writer.add_scalar(name, value, iteration)
        return row

    def state(self) -> dict:
        """What a checkpoint keeps, so that a mean that spans it comes out the same."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def restore(self, state: dict, iteration: int) -> None:
        """Go on from `state`; lines of iterations after ``iteration``, which will be written again, are dropped."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])
        path = None if self.folder is None else self.folder / "metrics.jsonl"
        if path is not None and path.is_file():
            kept = []
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["iteration"] <= iteration:
                        kept.append(line + "\n")
                except (ValueError, KeyError):
                    continue  # the line a kill cut short
            temporary = path.with_name(".metrics.jsonl.writing")
            temporary.write_text("".join(kept), encoding="utf-8")
            os.replace(temporary, path)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _tensorboard(folder: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
