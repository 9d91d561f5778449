"""`PromptCache`: encoded prompts, kept for the life of the process."""

from __future__ import annotations

import threading
from collections import OrderedDict

from torch import Tensor


class PromptCache:
    """The rows of the most recent prompts, in CPU memory, shared by all text encoders of the process.

    A ComfyUI graph loads the same model many times over; keyed by weights and prompt, its prompts are encoded once.

    Args:
        entries: how many prompts are kept; a full-size prompt of 40 tokens takes 0.6 MB.
    """

    def __init__(self, entries: int = 64):
        self.entries = entries
        self._rows: OrderedDict[tuple, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple) -> Tensor | None:
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
            return self._rows.get(key)

    def put(self, key: tuple, rows: Tensor) -> None:
        with self._lock:
            self._rows[key] = rows
            self._rows.move_to_end(key)
            while len(self._rows) > self.entries:
                self._rows.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._rows.clear()

    def __len__(self) -> int:
        return len(self._rows)


PROMPT_CACHE = PromptCache()
