"""Where a reader puts its rows: all of them, or only the most important ones, in bounded memory.

What stays of a limited store is what `ops.select.prune` and `ops.select.budget` would leave of the whole scene, in the
same order, without the whole scene ever being in memory.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from ...errors import FlashWorldError
from ...gaussians import Gaussians
from ...ops.select import budget, importance, prune

_SLACK = 4  # a limited store has room for a quarter more than stays, to be sorted out less often
_LEAST_SLACK = 1 << 16  # rows
_MOVED = 1 << 16  # rows moved at once when rows are sorted out: what that needs of memory


@dataclasses.dataclass(frozen=True)
class Limit:
    """What is to stay of a file's rows.

    Attributes:
        maximum: so many, the most important ones; None: all.
        min_opacity: none that is fainter.
    """

    maximum: int | None = None
    min_opacity: float = 0.0

    def __post_init__(self):
        if self.maximum is not None and self.maximum < 0:
            raise FlashWorldError(f"The number of Gaussians to keep must be 0 or more, got {self.maximum}.")

    def of(self, scene: Gaussians) -> Gaussians:
        """What stays of a scene that is in memory."""
        scene = prune(scene, min_opacity=self.min_opacity) if self.min_opacity > 0 else scene
        return scene if self.maximum is None else budget(scene, self.maximum)


class RowStore:
    """Arrays of the fields of `Gaussians`, filled from the front.

    Args:
        total: rows that may come.
        coefficients: of the colors, K.
        limit: what stays of them.
    """

    def __init__(self, total: int, coefficients: int, limit: Limit | None = None):
        self._limit = limit or Limit()
        maximum = self._limit.maximum
        self._bounded = maximum is not None and maximum < total
        capacity = min(total, maximum + max(maximum // _SLACK, _LEAST_SLACK)) if self._bounded else total
        shapes = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": (), "sh": (coefficients, 3)}
        # numpy asks Linux for huge pages where torch does not: the first touch of a scene is 40 % faster.
        self._arrays = {name: np.empty((capacity, *shape), np.float32) for name, shape in shapes.items()}
        self._capacity, self._length = capacity, 0
        self._least = -math.inf  # importance that a row must exceed: as many that came before have it

    def pieces(self, rows: int):
        """Cut ``rows`` of a chunk into slices of what there is room for, with the arrays [n, ...] to fill.

        Fill them, then `accept`, before asking for the next.
        """
        start = 0
        while start < rows:
            if self._length == self._capacity:
                self._sort_out()
            n = min(rows - start, self._capacity - self._length)
            yield slice(start, start + n), {k: a[self._length : self._length + n] for k, a in self._arrays.items()}
            start += n

    def accept(self, rows: int, keep: np.ndarray | None = None) -> None:
        """Keep the ``rows`` just filled, or those of the mask ``keep`` [n]."""
        part = {name: array[self._length : self._length + rows] for name, array in self._arrays.items()}
        if self._limit.min_opacity > 0:
            bright = part["opacities"] >= self._limit.min_opacity
            keep = bright if keep is None else keep & bright
        if self._bounded and self._least > -math.inf:
            better = self._importance(part) > self._least
            keep = better if keep is None else keep & better
        if keep is None or keep.all():
            self._length += rows
            return
        kept = int(keep.sum())
        for array in part.values():
            array[:kept] = array[keep]
        self._length += kept

    def scene(self, metadata: dict) -> Gaussians:
        """The rows that stay."""
        if self._bounded and self._length > self._limit.maximum:
            self._sort_out()
        return Gaussians(
            **{name: torch.from_numpy(array[: self._length]) for name, array in self._arrays.items()}, metadata=metadata
        )

    def _sort_out(self) -> None:
        """Leave the most important rows; of equal ones those that came first."""
        part = {name: array[: self._length] for name, array in self._arrays.items()}
        rank = self._importance(part)
        chosen = np.argsort(-rank, kind="stable")[: self._limit.maximum]
        self._least = float(rank[chosen[-1]]) if len(chosen) else math.inf
        chosen.sort()
        for array in self._arrays.values():
            for start in range(0, len(chosen), _MOVED):
                source = chosen[start : start + _MOVED]  # never before `start`: nothing is overwritten before it moved
                array[start : start + len(source)] = array[source]
        self._length = len(chosen)

    @staticmethod
    def _importance(part: dict[str, np.ndarray]) -> np.ndarray:
        tensors = {name: torch.from_numpy(part[name]) for name in part}
        return importance(Gaussians(**tensors)).numpy()
