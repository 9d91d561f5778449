"""Compositing a view whose tile lists would not fit in memory: bands of tiles, and for each its lists piece by piece.

All Gaussians of the view are sorted by depth once. A band takes them from the front in pieces whose lists fit, and goes
on where the piece before ended; a tile whose pixels have all stopped takes no more, and a band without others is done.
Pixels see the same numbers in the same order as when every list is made at once: the images are the same to the bit.
"""

from __future__ import annotations

import numpy as np
import torch

from .composite import composite
from .project import TILE
from .threads import run_ranges
from .tiles import depth_entries, sort_lists, spread, tiles_inside

_BAND_TILES = 16384
_FIRST_PIECE = 1 << 21  # entries: what is in front often hides the rest
_PIECE_GAUSSIANS = 1 << 19  # at most, so that no tile's list takes long


def composite_in_pieces(records, rects, backgrounds, size, images, limit: int, should_stop=None) -> None:
    """Composite one view into ``images``.

    Args:
        records: [1, N, RECORD] of `project.project`.
        rects: [N, 4] of the same.
        backgrounds: [1, 3].
        size: (width, height).
        images: rgb [1, H, W, 3], depth [1, H, W], alpha [1, H, W]; overwritten.
        limit: entries that may be held at once, 8 bytes each.
        should_stop: as `rasterize.rasterize`.
    """
    width, height = size
    tiles_x, tiles_y = -(-width // TILE), -(-height // TILE)
    ordered = _sorted_by_depth(records[0], rects, should_stop)
    rows = max(1, min(_BAND_TILES, limit) // tiles_x)
    for top in range(0, tiles_y, rows):
        band = _Band(records, rects, backgrounds, size, images, top, min(top + rows, tiles_y), should_stop)
        band.composite(ordered, limit)


def _sorted_by_depth(records, rects, should_stop) -> np.ndarray:
    """Entries of the Gaussians in sight, nearest first, equal depths in index order."""
    entries = np.empty(len(rects), np.uint64)
    entries = entries[: depth_entries(0, len(rects), rects, records, entries)]
    run_ranges(lambda a, b: sort_lists(a, b, np.array([0, len(entries)]), entries), 1, 1, should_stop)
    return entries


class _Band:
    """Some rows of tiles of the view."""

    def __init__(self, records, rects, backgrounds, size, images, top: int, bottom: int, should_stop):
        self._records, self._rects, self._backgrounds = records, rects, backgrounds
        self._size, self._images, self._should_stop = size, images, should_stop
        self._columns = -(-size[0] // TILE)
        self._first, self._tiles = top * self._columns, (bottom - top) * self._columns
        self._live = np.ones(self._tiles, np.bool_)
        self._top, self._bottom = top, bottom
        self._resume = False

    def composite(self, ordered: np.ndarray, limit: int) -> None:
        begin, room = 0, min(_FIRST_PIECE, limit)
        while begin < len(ordered) and (box := self._live_box()) is not None:
            areas = np.empty(min(len(ordered) - begin, _PIECE_GAUSSIANS), np.int64)
            tiles_inside(ordered[begin : begin + len(areas)], self._rects, box, areas)
            count = max(1, int(np.searchsorted(np.cumsum(areas), room, side="right")))
            piece = ordered[begin : begin + count][areas[:count] > 0]
            if len(piece):
                self._run(piece, box)
            begin, room = begin + count, min(2 * room, limit)
        self._composite(np.zeros(self._tiles + 1, np.int64), np.empty(0, np.uint64), finish=True)

    def _live_box(self) -> tuple[int, int, int, int] | None:
        """The box of the tiles that still take light: first column, first row, end column, end row."""
        live = self._live.reshape(-1, self._columns)
        rows, columns = np.flatnonzero(live.any(1)), np.flatnonzero(live.any(0))
        if not len(rows):
            return None
        return int(columns[0]), self._top + int(rows[0]), int(columns[-1]) + 1, self._top + int(rows[-1]) + 1

    def _run(self, piece: np.ndarray, box) -> None:
        """Make the lists of one piece and composite them."""
        parts = min(4 * torch.get_num_threads(), len(piece))
        step = -(-len(piece) // parts)
        counts = np.zeros((parts, self._tiles), np.int64)
        nothing = np.empty(0, np.uint64)

        def spread_part(start, stop, cursors, entries, count_only):
            for part in range(start, stop):
                spread(
                    *(part * step, min(len(piece), (part + 1) * step), piece, self._rects, box, self._columns),
                    *(self._first, self._live, cursors[part], entries, count_only),
                )

        run_ranges(lambda a, b: spread_part(a, b, counts, nothing, True), parts, 1, self._should_stop)
        by_tile = counts.T.reshape(-1)
        ends = np.cumsum(by_tile)
        cursors = np.ascontiguousarray((ends - by_tile).reshape(self._tiles, parts).T)
        starts = np.append(cursors[0], ends[-1])
        entries = np.empty(int(ends[-1]), np.uint64)
        run_ranges(lambda a, b: spread_part(a, b, cursors, entries, False), parts, 1, self._should_stop)
        self._composite(starts, entries, finish=False)

    def _composite(self, starts: np.ndarray, entries: np.ndarray, finish: bool) -> None:
        first, resume = self._first, self._resume

        def composite_tiles(start, stop):
            composite(
                *(first + start, first + stop, first, starts, entries, self._records, self._backgrounds, self._size),
                *(*self._images, self._live, resume, finish),
            )

        run_ranges(composite_tiles, self._tiles, 1 if len(entries) > 1 << 22 else 8, self._should_stop)
        self._resume = True
