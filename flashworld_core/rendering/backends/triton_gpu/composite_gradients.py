"""Triton kernel: one gradient row per (Gaussian, tile), from compositing front to back once more."""

from __future__ import annotations

import triton
import triton.language as tl

from .composite import list_alphas, tile_pixels
from .layout import LEAST_TRANSMITTANCE, MOST_ALPHA, ROW_FLOATS, load4_unmasked


@triton.jit(do_not_specialize=["width", "height", "tiles_x", "tiles_y"])
def composite_gradients(
    ranges, ids, entries, records, rgb, depth, alpha, g_rgb, g_depth, g_alpha, rows, width, height, tiles_x, tiles_y,
    TILE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Write the gradient rows of one tile's list, as far as its pixels have not stopped.

    For Gaussian i of a pixel, with T_i the transmittance before it and value_i = (color, depth, 1) . g,
    dL/dalpha_i = T_i value_i - rest_i / (1 - alpha_i): ``rest`` is what lies behind it, the whole pixel's (image . g)
    minus what has been composited so far.

    Args:
        entries: [E] int32, place of each sorted entry before the sort, which is the place of its row.
        rows: [E, ROW] out, zero before.
        others: as in `composite`; g_* are the gradients of the images.
    """
    tile = tl.program_id(0)
    view, column, row, inside = tile_pixels(tile, width, height, tiles_x, tiles_y, TILE)
    x, y = column.to(tl.float32) + 0.5, row.to(tl.float32) + 0.5
    begin, end = tl.load(ranges + 2 * tile), tl.load(ranges + 2 * tile + 1)
    place = (view.to(tl.int64) * height + row) * width + column
    g_red = tl.load(g_rgb + 3 * place, mask=inside, other=0.0)
    g_green = tl.load(g_rgb + 3 * place + 1, mask=inside, other=0.0)
    g_blue = tl.load(g_rgb + 3 * place + 2, mask=inside, other=0.0)
    g_far = tl.load(g_depth + place, mask=inside, other=0.0)
    g_covered = tl.load(g_alpha + place, mask=inside, other=0.0)
    rest = g_red * tl.load(rgb + 3 * place, mask=inside, other=0.0)
    rest += g_green * tl.load(rgb + 3 * place + 1, mask=inside, other=0.0)
    rest += g_blue * tl.load(rgb + 3 * place + 2, mask=inside, other=0.0)
    rest += g_far * tl.load(depth + place, mask=inside, other=0.0)
    rest += g_covered * tl.load(alpha + place, mask=inside, other=0.0)
    running = inside.to(tl.float32)
    live = 1
    while (begin < end) & (live > 0):
        record, dx, dy, raw, alphas = list_alphas(ids, records, begin, end, x, y, CHUNK)
        left = 1.0 - alphas
        after = running[None, :] * tl.cumprod(left, 0)
        composited = after > LEAST_TRANSMITTANCE
        root = tl.math.rsqrt(left)  # 1 / left as its square: one instruction, where a division is many
        odds = alphas * root * root
        weight = tl.where(composited, after * odds, 0.0)
        r, g, b, z = load4_unmasked(record + 8, CHUNK)
        value = r[:, None] * g_red[None, :] + g[:, None] * g_green[None, :] + b[:, None] * g_blue[None, :]
        value = weight * (value + z[:, None] * g_far[None, :] + g_covered[None, :])
        behind = rest[None, :] - tl.cumsum(value, 0)
        rest -= tl.sum(value, 0)
        # alpha dL/dalpha = -dL/dq; an alpha cut at its largest value passes none.
        s = tl.where(composited & (raw <= MOST_ALPHA), behind * odds - value, 0.0)
        running = tl.min(after, 0)
        live = (tl.max(running, 0) > LEAST_TRANSMITTANCE).to(tl.int32)
        entry = begin + tl.arange(0, CHUNK)
        valid = entry < end
        out = rows + tl.load(entries + entry, mask=valid, other=0).to(tl.int64) * ROW_FLOATS
        s_x, s_y = s * dx, s * dy
        # One value at a time: gathering four of a row in one thread takes more shuffles than it saves stores.
        tl.store(out, tl.sum(s, 1), mask=valid)
        tl.store(out + 1, tl.sum(s_x, 1), mask=valid)
        tl.store(out + 2, tl.sum(s_y, 1), mask=valid)
        tl.store(out + 3, tl.sum(s_x * dx, 1), mask=valid)
        tl.store(out + 4, tl.sum(s_x * dy, 1), mask=valid)
        tl.store(out + 5, tl.sum(s_y * dy, 1), mask=valid)
        tl.store(out + 6, tl.sum(weight * g_far[None, :], 1), mask=valid)
        tl.store(out + 8, tl.sum(weight * g_red[None, :], 1), mask=valid)
        tl.store(out + 9, tl.sum(weight * g_green[None, :], 1), mask=valid)
        tl.store(out + 10, tl.sum(weight * g_blue[None, :], 1), mask=valid)
        begin += CHUNK
