"""Triton kernel: composite the sorted list of each tile into the images, front to back."""

from __future__ import annotations

import triton
import triton.language as tl

from .layout import LEAST_ALPHA, LEAST_TRANSMITTANCE, MOST_ALPHA, RECORD_FLOATS, load4_unmasked


@triton.jit
def tile_pixels(tile, width, height, tiles_x, tiles_y, TILE: tl.constexpr):
    """View, column, row and whether inside the image of each pixel of a tile [TILE * TILE]."""
    pixel = tl.arange(0, TILE * TILE)
    tiles = tiles_x * tiles_y
    column = tile % tiles_x * TILE + pixel % TILE
    row = tile % tiles // tiles_x * TILE + pixel // TILE
    return tile // tiles, column, row, (column < width) & (row < height)


@triton.jit
def list_alphas(ids, records, begin, end, x, y, CHUNK: tl.constexpr):
    """Alpha of CHUNK list entries at each pixel, uncut and cut, their offsets, and their records' second half."""
    entry = begin + tl.arange(0, CHUNK)
    # Past the end of the list, its last Gaussian again, made invisible: no load needs a mask.
    record = records + tl.load(ids + tl.minimum(entry, end - 1)).to(tl.int64) * RECORD_FLOATS
    mx, my, power_a, power_b = load4_unmasked(record, CHUNK)
    power_c, opacity, _, _ = load4_unmasked(record + 4, CHUNK)
    opacity = tl.where(entry < end, opacity, 0.0)
    dx, dy = x[None, :] - mx[:, None], y[None, :] - my[:, None]
    power = (power_a[:, None] * dx + power_b[:, None] * dy) * dx + power_c[:, None] * dy * dy
    raw = opacity[:, None] * tl.exp2(power)
    alpha = tl.where((raw >= LEAST_ALPHA) & (power <= 0.0), tl.minimum(raw, MOST_ALPHA), 0.0)
    return record, dx, dy, raw, alpha


@triton.jit(do_not_specialize=["width", "height", "tiles_x", "tiles_y"])
def composite(
    ranges, ids, records, backgrounds, rgb, depth, alpha, width, height, tiles_x, tiles_y,
    TILE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Composite one tile; it ends where its list does or where all of its pixels have stopped.

    Args:
        ranges: [V * tiles, 2] int32, where each tile's list begins and ends.
        ids: [E] int32, view * N + Gaussian, sorted.
        records: [V * N, RECORD].
        backgrounds: [V, 3].
        rgb, depth, alpha: [V, H, W, 3], [V, H, W], [V, H, W] out.
    """
    tile = tl.program_id(0)
    view, column, row, inside = tile_pixels(tile, width, height, tiles_x, tiles_y, TILE)
    x, y = column.to(tl.float32) + 0.5, row.to(tl.float32) + 0.5
    begin, end = tl.load(ranges + 2 * tile), tl.load(ranges + 2 * tile + 1)
    running = inside.to(tl.float32)  # transmittance, with the Gaussian that stops a pixel included
    red = tl.zeros_like(running)
    green, blue, far, covered = red, red, red, red
    live = 1
    while (begin < end) & (live > 0):
        record, _, _, _, alphas = list_alphas(ids, records, begin, end, x, y, CHUNK)
        left = 1.0 - alphas
        after = running[None, :] * tl.cumprod(left, 0)
        root = tl.math.rsqrt(left)  # 1 / left as its square: one instruction, where a division is many
        weight = tl.where(after > LEAST_TRANSMITTANCE, after * alphas * root * root, 0.0)
        r, g, b, z = load4_unmasked(record + 8, CHUNK)
        red += tl.sum(weight * r[:, None], 0)
        green += tl.sum(weight * g[:, None], 0)
        blue += tl.sum(weight * b[:, None], 0)
        far += tl.sum(weight * z[:, None], 0)
        covered += tl.sum(weight, 0)
        running = tl.min(after, 0)  # the last one: it never grows along the list
        live = (tl.max(running, 0) > LEAST_TRANSMITTANCE).to(tl.int32)
        begin += CHUNK
    place = (view.to(tl.int64) * height + row) * width + column
    left = 1.0 - covered
    tl.store(rgb + 3 * place, red + left * tl.load(backgrounds + 3 * view), mask=inside)
    tl.store(rgb + 3 * place + 1, green + left * tl.load(backgrounds + 3 * view + 1), mask=inside)
    tl.store(rgb + 3 * place + 2, blue + left * tl.load(backgrounds + 3 * view + 2), mask=inside)
    tl.store(depth + place, far, mask=inside)
    tl.store(alpha + place, covered, mask=inside)
