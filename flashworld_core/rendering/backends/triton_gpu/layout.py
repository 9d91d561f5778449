"""Rows the Triton kernels hand to each other, and how four values of a row are moved at once.

A record is one Gaussian in one view, `RECORD` float32 in three groups of four:
mean x, y, then -a log2(e) / 2, -b log2(e) | -c log2(e) / 2, opacity, half extents x, y | red, green, blue, camera z.
(a, b, c) is the inverse of the projected covariance, so that alpha = opacity * 2 ** ((A dx + B dy) dx + C dy dy); the
half extents are those of the ellipse inside which alpha can reach 1/255, in pixels.

A gradient row is one Gaussian in one tile of one view, `ROW` float32 in three groups of four, sums over the tile's
pixels with s = dL/dq (q the exponent) and w the compositing weight:
s, s dx, s dy, s dx dx | s dx dy, s dy dy, w g_depth, 0 | w g_red, w g_green, w g_blue, 0.

A view is `CAMERA` float32: world-to-camera rows (3 x 4), fx, fy, cx, cy, camera center (3).
"""

from __future__ import annotations

import triton
import triton.language as tl

from ...constants import ALPHA_MAX, ALPHA_MIN, JACOBIAN_MARGIN, TRANSMITTANCE_MIN

RECORD = 12
ROW = 12
CAMERA = 19

RECORD_FLOATS = tl.constexpr(RECORD)
ROW_FLOATS = tl.constexpr(ROW)
CAMERA_FLOATS = tl.constexpr(CAMERA)
LOG2_E = tl.constexpr(1.4426950408889634)

# Kernels may read module values only as compile-time constants.
LEAST_ALPHA = tl.constexpr(ALPHA_MIN)
MOST_ALPHA = tl.constexpr(ALPHA_MAX)
LEAST_TRANSMITTANCE = tl.constexpr(TRANSMITTANCE_MIN)
CLAMP_MARGIN = tl.constexpr(JACOBIAN_MARGIN)


@triton.jit
def load4(pointers, mask, COUNT: tl.constexpr):
    """Four consecutive float32 at each of COUNT pointers, as four tensors [COUNT]; one 16-byte load each."""
    values = tl.load(pointers[:, None] + tl.arange(0, 4)[None, :], mask=mask[:, None], other=0.0)
    even, odd = tl.split(tl.reshape(values, (COUNT, 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit
def load4_unmasked(pointers, COUNT: tl.constexpr):
    """As `load4`, every pointer valid."""
    values = tl.load(pointers[:, None] + tl.arange(0, 4)[None, :])
    even, odd = tl.split(tl.reshape(values, (COUNT, 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit
def store4(pointers, first, second, third, fourth, mask, COUNT: tl.constexpr):
    """Write four tensors [COUNT] to consecutive places at each of COUNT pointers; one 16-byte store each."""
    values = tl.reshape(tl.join(tl.join(first, third), tl.join(second, fourth)), (COUNT, 4))
    tl.store(pointers[:, None] + tl.arange(0, 4)[None, :], values, mask=mask[:, None])
