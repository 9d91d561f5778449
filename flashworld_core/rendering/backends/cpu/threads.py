"""Running compiled kernels over index ranges on a thread pool.

The kernels are plain `nogil` functions over a range of work, spread by Python threads, rather than numba's own
parallel loops: those compile several times slower, and on some platforms their thread pool aborts the process when
two Python threads, or two packages, enter it at once.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from ....errors import check_stop

_pools: dict[int, ThreadPoolExecutor] = {}
_pools_lock = threading.Lock()


def _forget_pools():
    """After a fork: threads do not survive it, and another thread may have held the lock."""
    global _pools_lock
    _pools.clear()
    _pools_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)


def run_ranges(function: Callable[[int, int], None], count: int, grain: int, should_stop=None) -> None:
    """Call ``function(start, stop)`` over consecutive ranges of at most ``grain`` that cover range(count).

    Ranges go to as many threads as torch uses; their order and thread are arbitrary, so ``function`` must write to
    places that depend on the range alone. ``should_stop`` is asked before every range of the calling thread. Whatever
    ends one thread, an interrupt included, ends the others after the range they are at.

    Raises:
        Cancelled: ``should_stop`` answered True.
    """
    blocks = -(-count // grain)
    threads = min(torch.get_num_threads(), blocks)
    ticket = itertools.count()
    ended = threading.Event()

    def work(should_stop=None):
        try:
            while not ended.is_set() and (block := next(ticket)) < blocks:
                check_stop(should_stop)
                function(block * grain, min(count, (block + 1) * grain))
        except BaseException:
            ended.set()
            raise

    if threads <= 1:
        return work(should_stop)
    with _pools_lock:
        pool = _pools.get(threads)
        if pool is None:
            pool = _pools[threads] = ThreadPoolExecutor(threads - 1, thread_name_prefix="flashworld-render")
    helpers = [pool.submit(work) for _ in range(threads - 1)]
    try:
        work(should_stop)
    finally:
        for helper in helpers:
            helper.result()
