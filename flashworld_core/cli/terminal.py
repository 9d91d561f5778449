"""What commands print: whatever names and files hold, no character of it commands the terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TextIO

from ..text import printable


class Terminal:
    """A text stream that escapes control characters (`text.printable`) but for line breaks and tabs.

    Attributes:
        unescaped: the stream behind it, for what moves the cursor on purpose.
    """

    def __init__(self, stream: TextIO):
        self.unescaped = stream

    def write(self, text: str) -> int:
        return self.unescaped.write(printable(text, keep="\n\t"))

    def __getattr__(self, name: str):
        return getattr(self.unescaped, name)


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Standard output and error are `Terminal`s inside, and hold every character in some form."""
    before = sys.stdout, sys.stderr
    for stream in before:  # a file's name must not be what ends a finished command
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = (None if stream is None else Terminal(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
