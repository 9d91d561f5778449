"""`Progress`: how long work reports what it has done and learns that it should stop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import check_stop

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass
class Progress:
    """Reports progress to a caller and asks it whether to stop, as one object.

    Attributes:
        report: called as ``report(done, total, preview)``; the preview is a picture [H, W, 3] in [0, 1] or None.
        should_stop: answers True when the work should end; asked often, so it must be quick.
        total: units of the whole work, see `start`.
        done: units done so far; set back where work is done again.
    """

    report: Callable[..., None] | None = None
    should_stop: Callable[[], bool] | None = None
    total: int = 1
    done: int = 0

    def start(self, total: int) -> Progress:
        """Begin work of ``total`` units for the same caller."""
        return dataclasses.replace(self, total=total, done=0)

    def check(self) -> None:
        """Stop here if the caller wants that.

        Raises:
            Cancelled: ``should_stop`` answered True.
        """
        check_stop(self.should_stop)

    def advance(self, count: int = 1, preview: Tensor | None = None) -> None:
        """Report ``count`` more units done, perhaps with a picture of the result so far."""
        self.done += count
        if self.report is not None:
            self.report(self.done, self.total, preview)

    def silent(self) -> Progress:
        """For a part of the work that is counted as one unit: it can be stopped, but reports nothing."""
        return Progress(None, self.should_stop)


def duration(seconds: float) -> str:
    """A time as people say it: "42 s", "3 min", "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
