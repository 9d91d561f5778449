"""The exceptions a caller may want to tell apart."""

import re

from .text import printable


class FlashWorldError(ValueError):
    """The user's input or a file is at fault. The message says what was wrong and what to do, on one line."""

    def __init__(self, message: str = ""):
        super().__init__(printable(str(message)))


class OutOfMemory(FlashWorldError, MemoryError):
    """Memory ran out. The message says how much was wanted."""


class Cancelled(Exception):
    """``should_stop()`` answered True. Nothing half written is left behind."""


def check_stop(should_stop) -> None:
    """Raise `Cancelled` if ``should_stop`` is given and answers True."""
    if should_stop is not None and should_stop():
        raise Cancelled("Stopped on request.")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is any library's way to say that memory, of the machine or of a GPU, has run out."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error)


def out_of_memory(error: BaseException, advice: str) -> OutOfMemory:
    """The sentence for an error that `is_out_of_memory`: how many bytes were wanted, if it says so, and ``advice``."""
    if isinstance(error, OutOfMemory):
        return error
    text = str(error)
    found = re.search(r"allocate (\d+) bytes|allocate ([\d.]+ [KMGT]i?B)", text)
    if found is None:
        wanted = "more than there is"
    elif found[2]:
        wanted = f"another {found[2]}"
    else:
        wanted = f"another {int(found[1]):,} bytes ({int(found[1]) / 1e9:.2f} GB)"
    where = "GPU memory" if "CUDA" in text or "HIP" in text else "Memory"
    return OutOfMemory(f"{where} ran out: {wanted} could not be had. {advice}")
