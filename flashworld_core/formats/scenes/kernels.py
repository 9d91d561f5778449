"""Compiled twins of the formats' costly loops; each says which plain function it must agree with.

They work on one piece of a file, in whatever thread has it; `rows.compiled` gives them out where that is worth it.
"""

from __future__ import annotations

import math

import numpy as np

from ...compiled import kernel

f32, i32, u32 = np.float32, np.int32, np.uint32
_HALF, _SQRT2 = f32(0.5), f32(math.sqrt(2.0))


@kernel
def spz_encode_harmonics(sh, first_shift, rest_shift, out):
    """`spz_layout.encode_harmonics`: sh [n, K - 1, 3] to out [n, K - 1, 3] uint8; how many were cut."""
    lost = 0
    limit = f32(1 + 1 / 256)
    for i in range(sh.shape[0]):
        for k in range(sh.shape[1]):
            shift = first_shift if k < 3 else rest_shift
            half = (1 << shift) >> 1
            for c in range(3):
                value = sh[i, k, c]
                scaled = min(max(value, f32(-100.0)), f32(100.0)) * f32(128.0)
                code = i32(scaled + _HALF) if scaled >= f32(0.0) else i32(scaled - _HALF)
                code = ((code + 128 + half) >> shift) << shift
                if abs(value) > limit:
                    lost += 1
                out[i, k, c] = min(max(code, 0), 255)
    return lost


@kernel
def spz_decode_harmonics(data, out):
    """`spz_layout.decode` of "sh": data [n, stored K - 1, 3] uint8 to the first of out [n, K - 1, 3]."""
    for i in range(out.shape[0]):
        for k in range(out.shape[1]):
            for c in range(3):
                out[i, k, c] = (f32(data[i, k, c]) - f32(128.0)) * f32(1 / 128)


@kernel
def spz_encode_rotations(quats, out):
    """`spz_layout.encode_rotations`, version 3: unit quats [n, 4] wxyz to out [n] uint32."""
    for i in range(quats.shape[0]):
        best, largest = 0, abs(quats[i, 1])
        for j in range(1, 4):
            size = abs(quats[i, (j + 1) & 3])
            if size > largest:
                best, largest = j, size
        negative = quats[i, (best + 1) & 3] < f32(0.0)
        word = u32(best)
        for j in range(4):
            if j != best:
                value = quats[i, (j + 1) & 3]
                size = min(i32(f32(511.0) * _SQRT2 * abs(value) + _HALF), 511)
                sign = 512 if (value < f32(0.0)) != negative and value != f32(0.0) else 0
                word = (word << u32(10)) | u32(size | sign)
        out[i] = word


@kernel
def spz_decode_rotations(words, out):
    """`spz_layout.decode_rotations`, version 3: words [n] uint32 to out [n, 4] wxyz."""
    step = f32(1.0) / (f32(511.0) * _SQRT2)
    for i in range(words.shape[0]):
        word = words[i]
        best = i32(word >> u32(30))
        squares = f32(0.0)
        for j in range(3, -1, -1):
            if j != best:
                value = f32(word & u32(511)) * step
                value = -value if word & u32(512) else value
                word >>= u32(10)
                out[i, (j + 1) & 3] = value
                squares += value * value
        out[i, (best + 1) & 3] = math.sqrt(max(f32(0.0), f32(1.0) - squares))
        if squares > f32(1.0):
            for j in range(4):
                out[i, j] /= math.sqrt(squares)


@kernel
def ply_pack_words(values, low, inverse, shifts, tops, out):
    """Three numbers of each row as codes between their chunk's bounds: `compressed_ply.pack_rows`' inner loop.

    values [n, 3]; low and inverse (codes per unit) [chunks, 3]; shifts, tops [3] uint32; out [n] uint32, or-ed into.
    """
    for i in range(values.shape[0]):
        chunk, word = i >> 8, u32(0)
        for j in range(3):
            code = (values[i, j] - low[chunk, j]) * inverse[chunk, j] + _HALF
            word |= min(u32(max(code, f32(0.0))), tops[j]) << shifts[j]
        out[i] |= word


@kernel
def ply_unpack_words(words, low, step, shifts, tops, out):
    """The way back: out [n, 3] = low + step * code."""
    for i in range(words.shape[0]):
        chunk = i >> 8
        for j in range(3):
            out[i, j] = low[chunk, j] + step[chunk, j] * f32((words[i] >> shifts[j]) & tops[j])


@kernel
def ply_pack_rotations(quats, out):
    """Unit quats [n, 4] wxyz to out [n] uint32: `quaternions.smallest_three` in 10 bits each."""
    for i in range(quats.shape[0]):
        best, largest = 0, abs(quats[i, 0])
        for j in range(1, 4):
            if abs(quats[i, j]) > largest:
                best, largest = j, abs(quats[i, j])
        sign = f32(-1.0) if quats[i, best] < f32(0.0) else f32(1.0)
        word = u32(best)
        for j in range(4):
            if j != best:
                code = (sign * quats[i, j] / _SQRT2 + _HALF) * f32(1023.0) + _HALF
                word = (word << u32(10)) | u32(min(max(code, f32(0.0)), f32(1023.0)))
        out[i] = word


@kernel
def ply_unpack_rotations(words, out):
    """The way back: `quaternions.from_smallest_three`."""
    for i in range(words.shape[0]):
        word = words[i]
        best = i32(word >> u32(30))
        squares = f32(0.0)
        for j in range(3, -1, -1):
            if j != best:
                value = (f32(word & u32(1023)) * f32(1 / 1023) - _HALF) * _SQRT2
                word >>= u32(10)
                out[i, j] = value
                squares += value * value
        out[i, best] = math.sqrt(max(f32(0.0), f32(1.0) - squares))
        if squares > f32(1.0):
            for j in range(4):
                out[i, j] /= math.sqrt(squares)


@kernel
def ply_pack_harmonics(sh, out):
    """sh [n, K - 1, 3] to bytes out [n, 3 (K - 1)], all of red first; how many were cut."""
    lost, k = 0, sh.shape[1]
    for i in range(sh.shape[0]):
        for c in range(3):
            for j in range(k):
                value = sh[i, j, c]
                if abs(value) > f32(4.0):
                    lost += 1
                out[i, c * k + j] = np.uint8(min(max(value * f32(32.0) + f32(128.0), f32(0.0)), f32(255.0)))
    return lost


@kernel
def ply_unpack_harmonics(data, table, out):
    """data [n, 3 (K - 1)] uint8 through a table [256] to out [n, K - 1, 3]."""
    k = out.shape[1]
    for i in range(data.shape[0]):
        for c in range(3):
            for j in range(k):
                out[i, j, c] = table[data[i, c * k + j]]
