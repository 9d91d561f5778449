"""Rows in the order of a space-filling curve, so that those near one another in space are so in the file."""

from __future__ import annotations

import numpy as np

from ...gaussians import Gaussians
from .rows import check_field, ordered_map, ranges, take

_CHUNK_ROWS = 1 << 15
# Rounds of moving the bits of a number apart until two free ones follow each: (shift, mask).
_SPREAD = ((32, 0x1F00000000FFFF), (16, 0x1F0000FF0000FF), (8, 0x100F00F00F00F00F), (4, 0x10C30C30C30C30C3))
_SPREAD = tuple((shift, np.uint64(mask)) for shift, mask in (*_SPREAD, (2, 0x1249249249249249)))


def morton_order(gaussians: Gaussians, where: str, should_stop=None) -> np.ndarray:
    """[N] uint32: rows by the Morton code of their positions in the scene's box.

    Needs 12 bytes a row: code and row number share one integer, which is sorted in place. That leaves 13 bits for each
    axis at 4 million rows.

    Raises:
        FlashWorldError: a position that is not finite.
    """
    total = len(gaussians)
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for start, stop in ranges(total, _CHUNK_ROWS):
        means = take(gaussians, "means", slice(start, stop))
        check_field("means", means, start, where)
        low, high = np.minimum(low, means.min(axis=0)), np.maximum(high, means.max(axis=0))
    row_bits = max(1, (total - 1).bit_length())
    axis_bits = min(21, (64 - row_bits) // 3)
    extent = np.where(high > low, high - low, 1.0)
    factor = ((1 << axis_bits) - 1) / extent
    keys = np.empty(total, np.uint64)

    def fill(piece: tuple[int, int]) -> None:
        start, stop = piece
        cells = ((take(gaussians, "means", slice(start, stop)) - low) * factor).astype(np.uint64)
        key = np.zeros(stop - start, np.uint64)
        for axis in range(3):
            bits = cells[:, axis].copy()
            for shift, mask in _SPREAD:
                bits |= bits << np.uint64(shift)
                bits &= mask
            key |= bits << np.uint64(axis)
        keys[start:stop] = key << np.uint64(row_bits) | np.arange(start, stop, dtype=np.uint64)

    for _ in ordered_map(fill, ranges(total, _CHUNK_ROWS), should_stop):
        pass
    keys.sort()
    order = np.empty(total, np.uint32)
    for start, stop in ranges(total, _CHUNK_ROWS):
        order[start:stop] = keys[start:stop] & np.uint64((1 << row_bits) - 1)
    return order
