"""CPU threads on a machine that does other things too: short waits before torch starts, fewer threads afterwards.

OpenMP's threads wait for each other by spinning. When other programs want the cores as well, a thread that spins keeps
the one it waits for from running: a generation of 1.4 seconds took 13 beside three busy programs on two cores, and 5
with a short spin. Importing this module does not import torch, whose OpenMP reads these variables when it starts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

# Turns of GNU's waiting loop (torch on Linux), and milliseconds of Intel's and LLVM's (Windows, macOS; not measured).
SHORT_SPIN = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
_USERS_CHOICE = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "MKL_NUM_THREADS", *SHORT_SPIN)


def chosen_by_user() -> bool:
    """Whether the environment says how threads are to be used."""
    return any(name in os.environ for name in _USERS_CHOICE)


def set_short_spin() -> None:
    """Let OpenMP's threads sleep soon instead of spinning; before torch is imported, and not against the user."""
    if not chosen_by_user():
        os.environ.update(SHORT_SPIN)


@contextlib.contextmanager
def threads_by_load(enabled: bool = True) -> Iterator[int]:
    """Use as many threads inside as there are idle cores, where torch runs already and the user chose nothing.

    Both torch and the CPU renderer follow. Sums in another number of threads may round differently.
    """
    import torch

    before = torch.get_num_threads()
    wanted = idle_threads(before) if enabled and not chosen_by_user() else before
    if wanted == before:
        yield before
        return
    torch.set_num_threads(wanted)
    try:
        yield wanted
    finally:
        torch.set_num_threads(before)


def idle_threads(most: int) -> int:
    """How many of ``most`` threads would find an idle core, at least one; ``most`` where the load is unknown."""
    cores = os.cpu_count() or 1
    busy = _busy_cores(cores)
    return most if busy is None else max(1, min(most, round(cores - busy)))


def _busy_cores(cores: int) -> float | None:
    """Cores that are at work now; None: no way to know."""
    try:
        import psutil  # ComfyUI brings it

        return psutil.cpu_percent(interval=0.1) / 100 * cores
    except ImportError:
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
