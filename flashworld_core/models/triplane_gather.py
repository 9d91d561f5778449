"""Numba kernel: bilinear samples of three planes, summed. Importing this module imports numba."""

from __future__ import annotations

import numpy as np

from ..compiled import kernel

f32 = np.float32
_ZERO, _HALF, _ONE = f32(0), f32(0.5), f32(1)


@kernel
def gather(points, table, side, bias, out, start, stop):
    """Write max(0, bias + the three planes' samples) at points ``start`` to ``stop`` into ``out``.

    Args:
        points: [N, 3] float32.
        table: [3 side side, H] float32 samples with a border of zeros, as `TriplaneField` keeps them.
        side: samples along a bordered plane.
        bias: [H] float32.
        out: [N, H] float32.
    """
    size = side - 2
    half, last = f32(size) * _HALF, f32(size + 1)
    width = table.shape[1]
    for n in range(start, stop):
        x = min(max((points[n, 0] + _ONE) * half + _HALF, _ZERO), last)
        y = min(max((points[n, 1] + _ONE) * half + _HALF, _ZERO), last)
        z = min(max((points[n, 2] + _ONE) * half + _HALF, _ZERO), last)
        ix, iy, iz = min(int(x), size), min(int(y), size), min(int(z), size)
        x, y, z = x - f32(ix), y - f32(iy), z - f32(iz)
        a = iy * side + ix
        b = (side + iz) * side + ix
        c = (2 * side + iy) * side + iz
        one_x, one_y, one_z = _ONE - x, _ONE - y, _ONE - z
        a0, a1, a2, a3 = one_y * one_x, one_y * x, y * one_x, y * x
        b0, b1, b2, b3 = one_z * one_x, one_z * x, z * one_x, z * x
        c0, c1, c2, c3 = one_y * one_z, one_y * z, y * one_z, y * z
        for h in range(width):
            value = (
                bias[h]
                + (a0 * table[a, h] + a1 * table[a + 1, h] + a2 * table[a + side, h] + a3 * table[a + side + 1, h])
                + (b0 * table[b, h] + b1 * table[b + 1, h] + b2 * table[b + side, h] + b3 * table[b + side + 1, h])
                + (c0 * table[c, h] + c1 * table[c + 1, h] + c2 * table[c + side, h] + c3 * table[c + side + 1, h])
            )
            out[n, h] = max(value, _ZERO)
