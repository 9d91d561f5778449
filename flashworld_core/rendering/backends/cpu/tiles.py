"""Numba kernels: one list per tile of the Gaussians that reach it, front to back.

An entry is a uint64, camera z as float32 bits in the upper half (positive floats order like their bits) and the
Gaussian's index in the lower. Sorting tile by tile keeps each sort inside the cache, and spares sorting what no tile
sees.
"""

from __future__ import annotations

import numpy as np

from ....compiled import kernel

u64 = np.uint64


@kernel
def scatter(start, stop, rects, records, tiles_x, cursors, entries):
    """Append Gaussians start..stop of one view to their tiles' lists: (depth bits << 32 | index) at cursors[tile]."""
    bits = np.empty(1, np.float32)
    as_int = bits.view(np.uint32)
    for n in range(start, stop):
        columns = rects[n, 2]
        if columns == 0:
            continue
        bits[0] = records[n, 9]
        entry = (u64(as_int[0]) << u64(32)) | u64(n)
        for ty in range(rects[n, 1], rects[n, 1] + rects[n, 3]):
            for tx in range(rects[n, 0], rects[n, 0] + columns):
                tile = ty * tiles_x + tx
                entries[cursors[tile]] = entry
                cursors[tile] += 1


@kernel
def depth_entries(start, stop, rects, records, entries):
    """Entries of the Gaussians start..stop of one view that some tile sees, in index order; how many there are."""
    bits = np.empty(1, np.float32)
    as_int = bits.view(np.uint32)
    count = 0
    for n in range(start, stop):
        if rects[n, 2] > 0:
            bits[0] = records[n, 9]
            entries[start + count] = (u64(as_int[0]) << u64(32)) | u64(n)
            count += 1
    return count


@kernel
def tiles_inside(entries, rects, box, areas):
    """How many tiles of ``box`` (first column, first row, end column, end row) each entry's Gaussian reaches."""
    for i in range(len(entries)):
        n = entries[i] & u64(0xFFFFFFFF)
        columns = min(rects[n, 0] + rects[n, 2], box[2]) - max(rects[n, 0], box[0])
        rows = min(rects[n, 1] + rects[n, 3], box[3]) - max(rects[n, 1], box[1])
        areas[i] = max(columns, 0) * max(rows, 0)


@kernel
def spread(start, stop, ordered, rects, box, tiles_x, first_tile, live, cursors, entries, count_only):
    """Append ``ordered`` entries start..stop to the lists of the live tiles of ``box``, at cursors[tile - first_tile].

    With ``count_only`` nothing is written but the cursors, which then count.
    """
    for i in range(start, stop):
        n = ordered[i] & u64(0xFFFFFFFF)
        for ty in range(max(rects[n, 1], box[1]), min(rects[n, 1] + rects[n, 3], box[3])):
            for tx in range(max(rects[n, 0], box[0]), min(rects[n, 0] + rects[n, 2], box[2])):
                tile = ty * tiles_x + tx - first_tile
                if live[tile]:
                    if not count_only:
                        entries[cursors[tile]] = ordered[i]
                    cursors[tile] += 1


@kernel
def _sort_by_depth(entries, spare):
    """Sort one list by its upper 32 bits, stable (lists arrive in index order). ``spare`` is at least as long."""
    count = len(entries)
    if count <= 24:
        for i in range(1, count):
            entry = entries[i]
            j = i
            while j > 0 and entries[j - 1] > entry:
                entries[j] = entries[j - 1]
                j -= 1
            entries[j] = entry
        return
    # Subtracting the nearest depth leaves few significant bits, so fewer 8-bit passes.
    low, high = entries[0] >> u64(32), entries[0] >> u64(32)
    for i in range(count):
        key = entries[i] >> u64(32)
        low, high = min(low, key), max(high, key)
    span = high - low
    buckets = np.empty(256, np.int64)
    source, target = entries, spare
    shift = u64(0)
    passes = 0
    while (span >> shift) > u64(0):
        buckets[:] = 0
        for i in range(count):
            buckets[(((source[i] >> u64(32)) - low) >> shift) & u64(255)] += 1
        total = 0
        for i in range(256):
            size = buckets[i]
            buckets[i] = total
            total += size
        for i in range(count):
            digit = (((source[i] >> u64(32)) - low) >> shift) & u64(255)
            target[buckets[digit]] = source[i]
            buckets[digit] += 1
        source, target = target, source
        shift += u64(8)
        passes += 1
    if passes % 2 == 1:
        for i in range(count):
            entries[i] = spare[i]


@kernel
def sort_lists(start, stop, tile_starts, entries):
    """Sort the lists of tiles start..stop by depth, equal depths in index order."""
    longest = 0
    for tile in range(start, stop):
        longest = max(longest, tile_starts[tile + 1] - tile_starts[tile])
    spare = np.empty(longest, np.uint64)
    for tile in range(start, stop):
        _sort_by_depth(entries[tile_starts[tile] : tile_starts[tile + 1]], spare)
