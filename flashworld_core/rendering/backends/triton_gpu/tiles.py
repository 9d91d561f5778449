"""Tile lists: which tiles a Gaussian's ellipse reaches, exactly, and one list per tile, front to back.

Alpha reaches 1/255 inside an ellipse only. In each row of tiles the ellipse covers one run of columns; a Gaussian is
listed in the tiles of these runs. Lists are made in depth order, then sorted by tile, stably: each sort has short keys.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .layout import LOG2_E, RECORD_FLOATS, load4

# Covers float32 rounding of the exact ellipse: a Gaussian may be listed in a tile it just misses, never the opposite.
EXTENT_SCALE = tl.constexpr(1.0001)
EXTENT_PAD = tl.constexpr(0.01)  # pixels
LOG_255 = tl.constexpr(5.541263545158426)


@triton.jit
def tile_rows(my, ey, height, TILE: tl.constexpr):
    """First row of tiles the ellipse reaches, and the one after the last (not above the first where none)."""
    reach = ey * EXTENT_SCALE + EXTENT_PAD
    # Pixel i has its center at i + 0.5.
    low = tl.ceil(tl.minimum(tl.maximum(my - reach - 0.5, 0.0), height * 1.0)).to(tl.int32)
    high = tl.floor(tl.maximum(tl.minimum(my + reach - 0.5, height - 1.0), -1.0)).to(tl.int32)
    first = low // TILE
    return first, tl.where(high >= low, high // TILE + 1, first)


@triton.jit
def tile_columns(row, mx, my, slope, half_width, ey, width, TILE: tl.constexpr):
    """First column of tiles the ellipse reaches within a row of tiles, and the number of columns.

    At a distance dy from its center the ellipse spans slope * dy -+ half_width * sqrt(1 - (dy / ey)^2). Its right edge
    is a concave function with the maximum at dy = slope * half_width^2 * ..., so that over a band of dy the extreme
    lies at that place if the band has it, else at the nearer end of the band; its left edge mirrors it.
    """
    reach = ey * EXTENT_SCALE + EXTENT_PAD
    top = (row * TILE).to(tl.float32) + 0.5 - my
    bottom = tl.minimum(top + (TILE - 1), reach)
    top = tl.maximum(top, -reach)
    # Where the right edge is farthest: d/d(dy) of slope dy + half_width sqrt(1 - (dy / ey)^2) = 0.
    lean = slope * reach
    peak = reach * lean / tl.sqrt(lean * lean + half_width * half_width + 1e-30)
    right_at = tl.minimum(tl.maximum(peak, top), bottom)
    left_at = tl.minimum(tl.maximum(-peak, top), bottom)
    right_u, left_u = right_at / reach, left_at / reach
    right = half_width * tl.sqrt(tl.maximum(1.0 - right_u * right_u, 0.0))
    left = half_width * tl.sqrt(tl.maximum(1.0 - left_u * left_u, 0.0))
    right_shift, left_shift = slope * right_at, slope * left_at
    right = mx + right_shift + (right + tl.abs(right_shift)) * (EXTENT_SCALE - 1.0) + right + EXTENT_PAD
    left = mx + left_shift - (left + tl.abs(left_shift)) * (EXTENT_SCALE - 1.0) - left - EXTENT_PAD
    low = tl.ceil(tl.minimum(tl.maximum(left - 0.5, 0.0), width * 1.0)).to(tl.int32)
    high = tl.floor(tl.maximum(tl.minimum(right - 0.5, width - 1.0), -1.0)).to(tl.int32)
    first = low // TILE
    return first, tl.where(high >= low, high // TILE + 1 - first, 0)


@triton.jit
def row_shape(power_a, power_b, opacity):
    """Slope of the ellipse's middle line and half its width through the center, from a record's exponents."""
    a = power_a * (-2.0 / LOG2_E)
    b = power_b * (-1.0 / LOG2_E)
    limit = 2.0 * tl.maximum(tl.log(opacity) + LOG_255, 0.0)
    return -b / a, tl.sqrt(limit / a)


@triton.jit
def count_tiles(visible, mx, my, power_a, power_b, opacity, ey, width, height, TILE: tl.constexpr):
    """Number of tiles each Gaussian is listed in, 0 where not visible."""
    first, last = tile_rows(my, ey, height, TILE)
    rows = tl.where(visible, last - first, 0)
    slope, half_width = row_shape(power_a, power_b, opacity)
    count = tl.zeros_like(rows)
    for i in range(0, tl.max(rows, 0)):
        _, columns = tile_columns(first + i, mx, my, slope, half_width, ey, width, TILE)
        count += tl.where(i < rows, columns, 0)
    return count


@triton.jit(do_not_specialize=["total", "gaussians", "width", "height", "tiles_x", "tiles_y", "views_per_slice"])
def list_tiles(
    owners, order, starts, records, keys, ids,
    total, gaussians, width, height, tiles_x, tiles_y, views_per_slice,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write key and Gaussian of every list entry; entries are in (view, depth, tile) order.

    Args:
        owners: [E] int32, view * N + rank by depth.
        order: [V, N] int64, Gaussian of each rank.
        starts: [V, N] int64, first entry of each rank.
        records: [V, N, RECORD].
        keys: [E] out: (view within its slice) * tiles + tile; one above the largest where there is no such tile.
        ids: [E] int32 out: view * N + Gaussian.
    """
    entry = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = entry < total
    rank = tl.load(owners + entry, mask=real, other=0).to(tl.int64)
    view = rank // gaussians
    gaussian = view * gaussians + tl.load(order + rank, mask=real, other=0)
    left = (entry - tl.load(starts + rank, mask=real, other=0)).to(tl.int32)
    record = records + gaussian * RECORD_FLOATS
    mx, my, power_a, power_b = load4(record, real, BLOCK)
    _, opacity, _, ey = load4(record + 4, real, BLOCK)
    first, last = tile_rows(my, ey, height, TILE)
    rows = tl.where(real, last - first, 0)
    slope, half_width = row_shape(power_a, power_b, opacity)
    tiles = tiles_x * tiles_y
    base = (view % views_per_slice).to(tl.int32) * tiles
    # The compiler may round here unlike in `count_tiles`: an entry beyond the runs found here gets the key that sorts
    # behind all tiles. Such a tile is within the padding, where alpha cannot reach 1/255.
    key = tl.zeros_like(rows) + views_per_slice * tiles
    for i in range(0, tl.max(rows, 0)):
        column, columns = tile_columns(first + i, mx, my, slope, half_width, ey, width, TILE)
        columns = tl.where(i < rows, columns, 0)
        here = (left >= 0) & (left < columns)
        key = tl.where(here, base + (first + i) * tiles_x + column + left, key)
        left = tl.where(left >= 0, left - columns, left)
    tl.store(keys + entry, key.to(keys.dtype.element_ty), mask=real)
    tl.store(ids + entry, gaussian.to(tl.int32), mask=real)
