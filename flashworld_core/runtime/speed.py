"""How long counted work takes here: a rate measured in a tenth of a second, and a sentence where that is too long.

The figures are rough (a machine may be busy the next minute, caches favor some sizes): good for the difference between
seconds, minutes and hours, which is what a user needs before starting.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch

LONG = 300.0  # seconds above which a smaller size is named
_PROBE_SECONDS = 0.1
# Part of a matrix product's rate that whole generations reach: 0.5 to 0.8 of the processor time measured with the
# embedded model on one CPU core, at 8 views of 96x64 to 288x192.
EFFICIENCY = 0.6


@functools.lru_cache(maxsize=8)
def operations_per_second(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """Measure matrix products for a tenth of a second; what whole generations reach of it.

    Args:
        device: where.
        dtype: in which precision.
    """
    side = 512 if device.type == "cpu" else 4096
    a = torch.ones(side, side, device=device, dtype=dtype)
    with torch.no_grad():
        (a @ a)[0, 0].item()  # the first one loads the library
        begin, turns = time.perf_counter(), 0
        while turns < 1000 and time.perf_counter() - begin < _PROBE_SECONDS:
            (a @ a)[0, 0].item()  # waits for the device
            turns += 1
        seconds = time.perf_counter() - begin
    return EFFICIENCY * 2 * side**3 * turns / seconds


def advice(
    operations: Callable[[int, int, int], float],
    *,
    views: int,
    width: int,
    height: int,
    size_multiple: tuple[int, int],
    rate: float,
) -> tuple[float, str | None]:
    """Estimate how long a generation takes and, where that is too long, which size is not.

    Args:
        operations: ``operations(views, height, width)``, the work.
        views, width, height: what is asked.
        size_multiple: (columns, rows) that sizes must be multiples of.
        rate: operations per second.

    Returns:
        Seconds, and a sentence without the time, None where it is at most `LONG`.
    """
    seconds = operations(views, height, width) / rate
    if seconds <= LONG:
        return seconds, None
    columns, rows = size_multiple
    for part in (0.75, 0.5, 0.375, 0.25, 0.125):
        smaller = max(1, round(width * part / columns)) * columns, max(1, round(height * part / rows)) * rows
        if (quick := operations(views, smaller[1], smaller[0]) / rate) <= LONG:
            return seconds, f"{views} views of {smaller[0]}x{smaller[1]} take about {quick / 60:.1f} min."
    return seconds, f"{views} views of {width}x{height} are too many for this machine; use fewer or smaller ones."
