"""Compiling numba kernels: the CPU rasterizer's and the scene formats'. Importing this module imports numba."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numba

from .text import get_logger

logger = get_logger(__name__)

# No "nnan"/"ninf": masked-out lanes may hold any value. What is allowed keeps results identical from run to run.
_FASTMATH = {"contract", "reassoc", "nsz", "arcp"}


def kernel(function: Callable) -> Callable:
    """Compile ``function`` on first call, GIL released, cached on disk where a writable folder is found.

    numba looks for one itself (``NUMBA_CACHE_DIR``, beside the source file, the user's cache folder).
    """
    # What numba caches imports its module by name, and its files are named after the function: a package that one
    # program knows by another name than the next (a host, the command line) must not share them.
    function.__qualname__ += "_" + hashlib.sha256(function.__module__.encode()).hexdigest()[:8]
    options = {"nogil": True, "fastmath": _FASTMATH, "error_model": "numpy", "boundscheck": False}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError as error:
        logger.warning("No writable folder for numba's cache, compiling anew each time (%s).", error)
        return numba.njit(function, **options)
