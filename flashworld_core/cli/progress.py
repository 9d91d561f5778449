"""What a command says while it works: a progress bar, a line per tenth where there is no terminal, "Loading..."."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from ..progress import duration

QUIET_SECONDS = 10.0  # the longest silence where there is no terminal


@contextlib.contextmanager
def announced(text: str, after: float = 0.3) -> Iterator[None]:
    """Print ``text`` if the work inside takes longer than ``after`` seconds: quick things stay silent."""
    timer = threading.Timer(after, lambda: print(text, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class ProgressBar:
    """Callable as ``progress(done, total, preview=None)``; use as a context manager to end its line."""

    WIDTH = 28

    def __init__(self, label: str, stream=None):
        self.label, self.stream = label, stream or sys.stderr
        self.terminal = getattr(self.stream, "unescaped", self.stream)  # the bar is drawn over itself
        self.started, self.last_drawn, self.last_tenth, self.shown = time.monotonic(), 0.0, -1, False

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_) -> None:
        if self.shown and self.stream.isatty():
            self.stream.write("\n")
            self.stream.flush()

    def __call__(self, done: int, total: int, preview=None) -> None:
        done, total, now = min(done, total), max(total, 1), time.monotonic()
        passed, part = now - self.started, done / total
        # From what is done so far; before a twentieth or two seconds of it that would be a guess.
        left = passed / part - passed if part > 0.05 and passed > 2 else None
        remaining = "" if left is None or done == total else f", {duration(left)} left"
        if self.stream.isatty():
            if done < total and now - self.last_drawn < 0.1:
                return
            filled = round(self.WIDTH * part)
            bar = "#" * filled + "-" * (self.WIDTH - filled)
            line = f"{self.label} [{bar}] {100 * done // total:3d} %  {passed:5.1f} s{remaining}"
            self.terminal.write(f"\r{line:<78} ")
            self.last_drawn = now
        elif (tenth := 10 * done // total) != self.last_tenth or now - self.last_drawn > QUIET_SECONDS:
            percent = 10 * tenth if tenth != self.last_tenth else 100 * done // total
            self.stream.write(f"{self.label} {percent} %  {passed:.1f} s{remaining}\n")
            self.last_tenth, self.last_drawn = tenth, now
        self.stream.flush()
        self.shown = True
