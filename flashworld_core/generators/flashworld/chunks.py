"""Work that goes view by view: chunks of views, network passes within a chunk, and the count of what is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ...errors import check_stop


class Report:
    """Progress and stopping of one run.

    Attributes:
        done: of ``total``; set back where work is done again.
    """

    def __init__(self, progress: Callable[..., None] | None, should_stop: Callable[[], bool] | None, total: int):
        self.should_stop, self._progress, self.done, self._total = should_stop, progress, 0, total

    def check(self) -> None:
        check_stop(self.should_stop)

    def advance(self, count: int, preview: Tensor | None = None) -> None:
        self.done += count
        if self._progress is not None:
            self._progress(self.done, self._total, preview)


def chunks(views: int, size: int) -> Iterator[tuple[int, int]]:
    """First and last view (exclusive) of each chunk."""
    return ((start, min(start + size, views)) for start in range(0, views, size))


def passes(start: int, stop: int, device: torch.device) -> Iterator[tuple[int, int]]:
    """What of a chunk goes through a network at once: all of it, but on the CPU one view.

    CPU convolutions round differently for different batch sizes, and a batch gains nothing there; view by view the
    scene is the same to the last bit for every chunk size.
    """
    return ((a, a + 1) for a in range(start, stop)) if device.type == "cpu" else iter([(start, stop)])
