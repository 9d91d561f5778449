"""Spherical-harmonic color in Triton: the basis of `flashworld_core.sh` and its gradient, one band at a time."""

from __future__ import annotations

import triton
import triton.language as tl

from .... import sh

C0 = tl.constexpr(sh.C0)
C1 = tl.constexpr(sh._C1)
C2 = tl.constexpr(sh._C2)
C2_ZZ = tl.constexpr(sh._C2_ZZ)
C2_XX = tl.constexpr(0.5 * sh._C2)
C3_3 = tl.constexpr(sh._C3_3)
C3_2 = tl.constexpr(sh._C3_2)
C3_2H = tl.constexpr(0.5 * sh._C3_2)
C3_1 = tl.constexpr(sh._C3_1)
C3_0 = tl.constexpr(sh._C3_0)


@triton.jit
def band1(x, y, z):
    """Basis functions 1..3 at unit directions."""
    return -C1 * y, C1 * z, -C1 * x


@triton.jit
def band2(x, y, z):
    """Basis functions 4..8 at unit directions."""
    return C2 * x * y, -C2 * y * z, C2_ZZ * (3.0 * z * z - 1.0), -C2 * x * z, C2_XX * (x * x - y * y)


@triton.jit
def band3(x, y, z):
    """Basis functions 9..15 at unit directions."""
    xx, yy = x * x, y * y
    w = 1.0 - 5.0 * z * z
    return (
        -C3_3 * y * (3.0 * xx - yy),
        C3_2 * x * y * z,
        C3_1 * y * w,
        C3_0 * z * (5.0 * z * z - 3.0),
        C3_1 * x * w,
        C3_2H * z * (xx - yy),
        -C3_3 * x * (xx - 3.0 * yy),
    )


@triton.jit
def band2_gradient(x, y, z, g4, g5, g6, g7, g8):
    """Gradient with respect to the direction, given gradients of basis functions 4..8."""
    return (
        C2 * (y * g4 - z * g7) + 2.0 * C2_XX * x * g8,
        C2 * (x * g4 - z * g5) - 2.0 * C2_XX * y * g8,
        -C2 * (y * g5 + x * g7) + 6.0 * C2_ZZ * z * g6,
    )


@triton.jit
def band3_gradient(x, y, z, g9, g10, g11, g12, g13, g14, g15):
    """Gradient with respect to the direction, given gradients of basis functions 9..15."""
    w, d = 1.0 - 5.0 * z * z, x * x - y * y
    dx = (
        -6.0 * C3_3 * x * y * g9
        + C3_2 * y * z * g10
        + C3_1 * w * g13
        + 2.0 * C3_2H * z * x * g14
        - 3.0 * C3_3 * d * g15
    )
    dy = (
        -3.0 * C3_3 * d * g9
        + C3_2 * x * z * g10
        + C3_1 * w * g11
        - 2.0 * C3_2H * z * y * g14
        + 6.0 * C3_3 * x * y * g15
    )
    dz = (
        C3_2 * x * y * g10 - 10.0 * C3_1 * z * (y * g11 + x * g13) + C3_0 * (15.0 * z * z - 3.0) * g12 + C3_2H * d * g14
    )
    return dx, dy, dz


@triton.jit
def evaluate_channel(coefficients, x, y, z, mask, DEGREE: tl.constexpr):
    """0.5 + basis . coefficients of one channel, not clamped. ``coefficients`` points at k = 0; k is 3 floats apart."""
    value = 0.5 + C0 * tl.load(coefficients, mask=mask, other=0.0)
    if DEGREE >= 1:
        b1, b2, b3 = band1(x, y, z)
        value += b1 * tl.load(coefficients + 3, mask=mask, other=0.0)
        value += b2 * tl.load(coefficients + 6, mask=mask, other=0.0)
        value += b3 * tl.load(coefficients + 9, mask=mask, other=0.0)
    if DEGREE >= 2:
        b4, b5, b6, b7, b8 = band2(x, y, z)
        value += b4 * tl.load(coefficients + 12, mask=mask, other=0.0)
        value += b5 * tl.load(coefficients + 15, mask=mask, other=0.0)
        value += b6 * tl.load(coefficients + 18, mask=mask, other=0.0)
        value += b7 * tl.load(coefficients + 21, mask=mask, other=0.0)
        value += b8 * tl.load(coefficients + 24, mask=mask, other=0.0)
    if DEGREE >= 3:
        b9, b10, b11, b12, b13, b14, b15 = band3(x, y, z)
        value += b9 * tl.load(coefficients + 27, mask=mask, other=0.0)
        value += b10 * tl.load(coefficients + 30, mask=mask, other=0.0)
        value += b11 * tl.load(coefficients + 33, mask=mask, other=0.0)
        value += b12 * tl.load(coefficients + 36, mask=mask, other=0.0)
        value += b13 * tl.load(coefficients + 39, mask=mask, other=0.0)
        value += b14 * tl.load(coefficients + 42, mask=mask, other=0.0)
        value += b15 * tl.load(coefficients + 45, mask=mask, other=0.0)
    return value
