"""Numba kernels: front-to-back compositing of tiles, and its gradient.

A tile is 16 x 16 pixels. Its state lives in ONE flat float32 buffer at constant uint64 offsets, and the innermost loop
is one row of 16 pixels: that is what lets LLVM turn each row into a few vector instructions (signed offsets, or one
array per quantity, keep it from doing so).
"""

from __future__ import annotations

import math

import numpy as np

from ....compiled import kernel
from ...constants import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN
from .project import GRADIENT, RECORD, TILE

f32, u64 = np.float32, np.uint64
_ZERO, _HALF, _ONE = f32(0), f32(0.5), f32(1)
_ALPHA_MIN, _ALPHA_MAX, _T_MIN = f32(ALPHA_MIN), f32(ALPHA_MAX), f32(TRANSMITTANCE_MIN)
_GATHER = 32  # records fetched at once, so that their cache misses overlap

# exp(t)^4 = exp(-q) with t = -q / 4 in [-1.5, 0]: minimax polynomial, relative error 2e-8 before the squarings. Beyond
# q = 6 any opacity <= 1 is below alpha 1/255, so t is clamped there.
_T_LOW, _QUARTER = f32(-1.5), f32(-0.25)
_E1, _E2, _E3, _E4, _E5, _E6, _E7 = (
    f32(0.9999990463256836),
    f32(0.4999854862689972),
    f32(0.1665896326303482),
    f32(0.04146737605333328),
    f32(0.00804957840591669),
    f32(0.0011578763369470835),
    f32(9.303851402364671e-05),
)

# Offsets into a tile's buffer.
_U16 = u64(16)
_COLUMN = u64(0)  # 0, 1, .. 15
_T = u64(16)  # transmittance; negative once the pixel has stopped
_RED, _GREEN, _BLUE, _DEPTH = u64(16 + 256), u64(16 + 512), u64(16 + 768), u64(16 + 1024)
_FORWARD_SIZE = 16 + 1280
# Backward: incoming gradients take the places of the four sums, then:
_ALPHA_GRADIENT, _REST = u64(16 + 1280), u64(16 + 1536)
_X, _Y = u64(16 + 1792), u64(16 + 2048)  # column and row of each pixel
_BACKWARD_SIZE = 16 + 2304


@kernel
def _exp(t):
    """exp(4 t), t in [-1.5, 0]."""
    p = ((((((_E7 * t + _E6) * t + _E5) * t + _E4) * t + _E3) * t + _E2) * t + _E1) * t + _ONE
    p = p * p
    return p * p


@kernel
def composite(
    start, stop, first_tile, tile_starts, entries, records, backgrounds, size, rgb, depth, alpha, live, resume, finish
):
    """Composite the sorted lists of tiles start..stop (all views in sequence) into the images.

    A tile's list may come in pieces: without ``finish`` the images keep the bare sums, alpha the transmittance
    (negative where the pixel has stopped), and with ``resume`` a tile goes on from there. The bits are those of one
    piece.
    ``tile_starts`` and ``live`` (bool: some pixel of the tile has not stopped) begin at ``first_tile``.
    """
    width, height = size[0], size[1]
    tiles_x, tiles_y = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    buf = np.empty(_FORWARD_SIZE, np.float32)
    for i in range(16):
        buf[i] = i
    local = np.empty((_GATHER, RECORD), np.float32)
    row_live = np.empty(TILE, np.bool_)
    for tile in range(start, stop):
        view = tile // (tiles_x * tiles_y)
        x0, y0 = tile % tiles_x * TILE, tile // tiles_x % tiles_y * TILE
        tile_rows = min(TILE, height - y0)
        left, top = f32(x0) + _HALF, f32(y0) + _HALF
        for i in range(16, 272):
            buf[i] = -_ONE if resume else _ONE  # a pixel outside the image must not keep a resumed tile alive
        for i in range(272, _FORWARD_SIZE):
            buf[i] = _ZERO
        for row in range(TILE):
            row_live[row] = row < tile_rows
        if resume:
            for row in range(tile_rows):
                for column in range(min(TILE, width - x0)):
                    o = row * 16 + column
                    y, x = y0 + row, x0 + column
                    buf[16 + o] = alpha[view, y, x]
                    buf[16 + 256 + o] = rgb[view, y, x, 0]
                    buf[16 + 512 + o] = rgb[view, y, x, 1]
                    buf[16 + 768 + o] = rgb[view, y, x, 2]
                    buf[16 + 1024 + o] = depth[view, y, x]
        begin, end = tile_starts[tile - first_tile], tile_starts[tile - first_tile + 1]
        any_live = live[tile - first_tile]
        while begin < end:
            batch = min(_GATHER, end - begin)
            for i in range(batch):
                index = entries[begin + i] & u64(0xFFFFFFFF)
                for j in range(RECORD):
                    local[i, j] = records[view, index, j]
            for i in range(batch):
                a, b, c, opacity = local[i, 2], local[i, 3], local[i, 4], local[i, 5]
                red, green, blue, z = local[i, 6], local[i, 7], local[i, 8], local[i, 9]
                mx, my, ey = local[i, 0] - left, local[i, 1] - top, local[i, 11]
                half_a, half_c = _HALF * a * _QUARTER, _HALF * c * _QUARTER
                b = b * _QUARTER
                first = max(int(math.ceil(my - ey)), 0)
                last = min(int(math.floor(my + ey)) + 1, TILE)
                for row in range(first, last):
                    if not row_live[row]:
                        continue
                    dy = f32(row) - my
                    b_dy, c_dy = b * dy, half_c * dy * dy
                    o = u64(row) * _U16
                    for i16 in range(_U16):
                        dx = buf[_COLUMN + i16] - mx
                        t = (half_a * dx + b_dy) * dx + c_dy  # -q / 4
                        raw = opacity * _exp(max(t, _T_LOW))
                        al = min(raw, _ALPHA_MAX)
                        al = al if (al >= _ALPHA_MIN) & (t <= _ZERO) else _ZERO
                        now = buf[_T + o + i16]
                        after = now * (_ONE - al)
                        go = after > _T_MIN
                        weight = al * now if go else _ZERO
                        buf[_T + o + i16] = after if go else -abs(now)
                        buf[_RED + o + i16] += weight * red
                        buf[_GREEN + o + i16] += weight * green
                        buf[_BLUE + o + i16] += weight * blue
                        buf[_DEPTH + o + i16] += weight * z
            begin += batch
            any_live = False
            for row in range(tile_rows):
                if row_live[row]:
                    o = u64(row) * _U16
                    best = _ZERO
                    for i16 in range(_U16):
                        best = max(best, buf[_T + o + i16])
                    row_live[row] = best > _ZERO
                    any_live = any_live or row_live[row]
            if not any_live:
                break
        live[tile - first_tile] = any_live
        for row in range(tile_rows):
            for column in range(min(TILE, width - x0)):
                o = row * 16 + column
                y, x = y0 + row, x0 + column
                if not finish:
                    alpha[view, y, x] = buf[16 + o]
                    rgb[view, y, x, 0] = buf[16 + 256 + o]
                    rgb[view, y, x, 1] = buf[16 + 512 + o]
                    rgb[view, y, x, 2] = buf[16 + 768 + o]
                    depth[view, y, x] = buf[16 + 1024 + o]
                    continue
                rest = abs(buf[16 + o])
                rgb[view, y, x, 0] = buf[16 + 256 + o] + rest * backgrounds[view, 0]
                rgb[view, y, x, 1] = buf[16 + 512 + o] + rest * backgrounds[view, 1]
                rgb[view, y, x, 2] = buf[16 + 768 + o] + rest * backgrounds[view, 2]
                depth[view, y, x] = buf[16 + 1024 + o]
                alpha[view, y, x] = _ONE - rest


@kernel
def composite_backward(
    start,
    stop,
    tile_starts,
    entries,
    records,
    rects,
    row_starts,
    size,
    rgb,
    depth,
    alpha,
    g_rgb,
    g_depth,
    g_alpha,
    rows,
):
    """Write one gradient row per (Gaussian, tile) for tiles start..stop.

    Composites front to back once more, in the forward pass's own arithmetic. For Gaussian i of a pixel
    dL/dalpha_i = T_i (color_i . g) - rest_i / (1 - alpha_i), where ``rest`` is what lies behind it: the whole
    pixel's rgb . g minus what has been composited so far.
    """
    width, height = size[0], size[1]
    tiles_x, tiles_y = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    buf = np.empty(_BACKWARD_SIZE, np.float32)
    for i in range(256):
        buf[_X + u64(i)] = i % 16
        buf[_Y + u64(i)] = i // 16
    local = np.empty((_GATHER, RECORD), np.float32)
    row_of = np.empty(_GATHER, np.int64)
    row_live = np.empty(TILE, np.bool_)
    for tile in range(start, stop):
        view = tile // (tiles_x * tiles_y)
        tile_x, tile_y = tile % tiles_x, tile // tiles_x % tiles_y
        x0, y0 = tile_x * TILE, tile_y * TILE
        tile_rows, tile_columns = min(TILE, height - y0), min(TILE, width - x0)
        left, top = f32(x0) + _HALF, f32(y0) + _HALF
        for i in range(16, 272):
            buf[i] = -_ONE  # pixels outside the image count as stopped
        for i in range(272, 16 + 1792):
            buf[i] = _ZERO
        for row in range(TILE):
            row_live[row] = row < tile_rows
        for row in range(tile_rows):
            y = y0 + row
            for column in range(tile_columns):
                x = x0 + column
                o = row * 16 + column
                gr, gg, gb = g_rgb[view, y, x, 0], g_rgb[view, y, x, 1], g_rgb[view, y, x, 2]
                gd, ga = g_depth[view, y, x], g_alpha[view, y, x]
                buf[16 + o] = _ONE
                buf[272 + o], buf[528 + o], buf[784 + o], buf[1040 + o], buf[1296 + o] = gr, gg, gb, gd, ga
                rest = rgb[view, y, x, 0] * gr + rgb[view, y, x, 1] * gg + rgb[view, y, x, 2] * gb
                buf[1552 + o] = rest + depth[view, y, x] * gd + alpha[view, y, x] * ga
        begin, end = tile_starts[tile], tile_starts[tile + 1]
        live = True
        while begin < end:
            batch = min(_GATHER, end - begin)
            for i in range(batch):
                index = entries[begin + i] & u64(0xFFFFFFFF)
                for j in range(RECORD):
                    local[i, j] = records[view, index, j]
                within = (tile_y - rects[view, index, 1]) * rects[view, index, 2] + tile_x - rects[view, index, 0]
                row_of[i] = row_starts[view, index] + within
            begin += batch
            if not live:
                for i in range(batch):
                    for j in range(GRADIENT):
                        rows[row_of[i], j] = _ZERO
                continue
            for i in range(batch):
                a, b, c, opacity = local[i, 2], local[i, 3], local[i, 4], local[i, 5]
                red, green, blue, z = local[i, 6], local[i, 7], local[i, 8], local[i, 9]
                mx, my, ey = local[i, 0] - left, local[i, 1] - top, local[i, 11]
                half_a, half_c = _HALF * a * _QUARTER, _HALF * c * _QUARTER
                quarter_b = b * _QUARTER
                first = max(int(math.ceil(my - ey)), 0)
                last = min(int(math.floor(my + ey)) + 1, TILE)
                s0, s0x, s0xx, s1, s1x, s2 = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
                w0, w1, w2, w3 = _ZERO, _ZERO, _ZERO, _ZERO
                # One flat loop over whole rows: the ten sums stay in vector registers until its end.
                for p in range(u64(first) * _U16, u64(max(last, first)) * _U16):
                    dx, dy = buf[_X + p] - mx, buf[_Y + p] - my
                    t = (half_a * dx + quarter_b * dy) * dx + half_c * dy * dy
                    raw = opacity * _exp(max(t, _T_LOW))
                    al = min(raw, _ALPHA_MAX)
                    al = al if (al >= _ALPHA_MIN) & (t <= _ZERO) else _ZERO
                    now = buf[_T + p]
                    after = now * (_ONE - al)
                    go = after > _T_MIN
                    weight = al * now if go else _ZERO
                    buf[_T + p] = after if go else -abs(now)
                    gr, gg, gb, gd = buf[_RED + p], buf[_GREEN + p], buf[_BLUE + p], buf[_DEPTH + p]
                    value = red * gr + green * gg + blue * gb + z * gd + buf[_ALPHA_GRADIENT + p]
                    rest = buf[_REST + p] - weight * value
                    buf[_REST + p] = rest
                    s = rest * al / (_ONE - al) - weight * value
                    s = s if go & (raw <= _ALPHA_MAX) else _ZERO
                    sx, sy = s * dx, s * dy
                    s0 += s
                    s0x += sx
                    s0xx += sx * dx
                    s1 += sy
                    s1x += sy * dx
                    s2 += sy * dy
                    w0 += weight * gr
                    w1 += weight * gg
                    w2 += weight * gb
                    w3 += weight * gd
                out = rows[row_of[i]]
                out[0], out[1] = -(a * s0x + b * s1), -(b * s0x + c * s1)
                out[2], out[3], out[4] = _HALF * s0xx, s1x, _HALF * s2
                out[5] = -s0 / opacity
                out[6], out[7], out[8], out[9] = w0, w1, w2, w3
            live = False
            for row in range(tile_rows):
                if row_live[row]:
                    o = u64(row) * _U16
                    best = _ZERO
                    for i16 in range(_U16):
                        best = max(best, buf[_T + o + i16])
                    row_live[row] = best > _ZERO
                    live = live or row_live[row]
