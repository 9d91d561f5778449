"""A progress bar for the terminal; one line per tenth where there is no terminal."""

from __future__ import annotations

import sys
import time


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
        if self.stream.isatty():
            if done < total and now - self.last_drawn < 0.1:
                return
            filled = round(self.WIDTH * done / total)
            bar = "#" * filled + "-" * (self.WIDTH - filled)
            self.terminal.write(f"\r{self.label} [{bar}] {100 * done // total:3d} %  {now - self.started:5.1f} s ")
            self.last_drawn = now
        elif (tenth := 10 * done // total) != self.last_tenth:
            self.stream.write(f"{self.label} {10 * tenth} %  {now - self.started:.1f} s\n")
            self.last_tenth = tenth
        self.stream.flush()
        self.shown = True
