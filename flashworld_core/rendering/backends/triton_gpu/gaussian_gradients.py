"""Triton kernels: gradient rows summed per Gaussian and view, and taken back through projection and color.

Every sum runs in a fixed order and nothing is added atomically: the same input gives the same bits on every run.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .color import C0, C1, band1, band2, band2_gradient, band3, band3_gradient
from .layout import CAMERA_FLOATS, LOG2_E, RECORD_FLOATS, ROW_FLOATS, load4, store4
from .project import rotation, view_direction, view_jacobian, view_rays

FEW = 32  # rows one lane sums; a Gaussian with more gets a program of its own
FEW_ROWS = tl.constexpr(FEW)


@triton.jit(do_not_specialize=["count"])
def sum_few_rows(starts, counts, rows, count, BLOCK: tl.constexpr):
    """Sum each Gaussian's rows into its first one, for those with 2..FEW rows. starts, counts: [V * N]."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    number = tl.load(counts + index, mask=index < count, other=0)
    number = tl.where((number > 1) & (number <= FEW_ROWS), number, 0)
    row = rows + tl.load(starts + index, mask=number > 0, other=0) * ROW_FLOATS
    a0, a1, a2, a3 = load4(row, number > 0, BLOCK)
    b0, b1, b2, b3 = load4(row + 4, number > 0, BLOCK)
    c0, c1, c2, c3 = load4(row + 8, number > 0, BLOCK)
    for i in range(1, tl.max(number, 0)):
        mask = i < number
        d0, d1, d2, d3 = load4(row + i * ROW_FLOATS, mask, BLOCK)
        a0, a1, a2, a3 = a0 + d0, a1 + d1, a2 + d2, a3 + d3
        d0, d1, d2, d3 = load4(row + i * ROW_FLOATS + 4, mask, BLOCK)
        b0, b1, b2, b3 = b0 + d0, b1 + d1, b2 + d2, b3 + d3
        d0, d1, d2, d3 = load4(row + i * ROW_FLOATS + 8, mask, BLOCK)
        c0, c1, c2, c3 = c0 + d0, c1 + d1, c2 + d2, c3 + d3
    store4(row, a0, a1, a2, a3, number > 0, BLOCK)
    store4(row + 4, b0, b1, b2, b3, number > 0, BLOCK)
    store4(row + 8, c0, c1, c2, c3, number > 0, BLOCK)


@triton.jit
def sum_many_rows(large, starts, counts, rows, BLOCK: tl.constexpr):
    """Sum one Gaussian's many rows into its first one; ``large`` [programs] int64 are indices into starts, counts."""
    index = tl.load(large + tl.program_id(0))
    first, number = tl.load(starts + index), tl.load(counts + index)
    field = tl.arange(0, 16)
    total = tl.zeros((BLOCK, 16), tl.float32)
    for begin in range(0, number, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        mask = (i < number)[:, None] & (field < ROW_FLOATS)[None, :]
        total += tl.load(rows + (first + i)[:, None] * ROW_FLOATS + field[None, :], mask=mask, other=0.0)
    tl.store(rows + first * ROW_FLOATS + field, tl.sum(total, 0), mask=field < ROW_FLOATS)


@triton.jit(do_not_specialize=["gaussians", "views", "coefficients"])
def color_gradients(
    means, sh, cameras, records, starts, counts, rows, d_sh, d_directions,
    gaussians, views, coefficients, DEGREE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of one channel's coefficients, summed over views; programs are (Gaussians, channel).

    Args:
        starts, counts: [V, N] first row and number of rows of each Gaussian.
        d_sh: [N, coefficients, 3] out, zero before (bands above DEGREE are not written).
        d_directions: [3, N, 3] out: each channel's part of the gradient of the means, by way of the direction.
    """
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.program_id(1)
    real = index < gaussians
    px = tl.load(means + 3 * index, mask=real, other=0.0)
    py = tl.load(means + 3 * index + 1, mask=real, other=0.0)
    pz = tl.load(means + 3 * index + 2, mask=real, other=0.0)
    zero = tl.zeros((BLOCK,), tl.float32)
    coefficient = sh + index * (3 * coefficients) + channel
    gx, gy, gz, t0 = zero, zero, zero, zero
    if DEGREE >= 1:
        t1, t2, t3 = zero, zero, zero
    if DEGREE >= 2:
        t4, t5, t6, t7, t8 = zero, zero, zero, zero, zero
    if DEGREE >= 3:
        t9, t10, t11, t12, t13, t14, t15 = zero, zero, zero, zero, zero, zero, zero
    for view in range(0, views):
        place = index + view * gaussians
        seen = real & (tl.load(counts + place, mask=real, other=0) > 0)
        # A color cut at 0 passes no gradient.
        lit = tl.load(records + place * RECORD_FLOATS + 8 + channel, mask=seen, other=0.0) > 0.0
        row = rows + tl.load(starts + place, mask=seen, other=0) * ROW_FLOATS
        g = tl.load(row + 8 + channel, mask=lit, other=0.0)
        t0 += C0 * g
        if DEGREE >= 1:
            x, y, z, inverse = view_direction(cameras + view * CAMERA_FLOATS, px, py, pz)
            b1, b2, b3 = band1(x, y, z)
            t1, t2, t3 = t1 + b1 * g, t2 + b2 * g, t3 + b3 * g
            ux = -C1 * tl.load(coefficient + 9, mask=lit, other=0.0)
            uy = -C1 * tl.load(coefficient + 3, mask=lit, other=0.0)
            uz = C1 * tl.load(coefficient + 6, mask=lit, other=0.0)
            if DEGREE >= 2:
                b4, b5, b6, b7, b8 = band2(x, y, z)
                t4, t5, t6, t7, t8 = t4 + b4 * g, t5 + b5 * g, t6 + b6 * g, t7 + b7 * g, t8 + b8 * g
                vx, vy, vz = band2_gradient(
                    x, y, z,
                    tl.load(coefficient + 12, mask=lit, other=0.0),
                    tl.load(coefficient + 15, mask=lit, other=0.0),
                    tl.load(coefficient + 18, mask=lit, other=0.0),
                    tl.load(coefficient + 21, mask=lit, other=0.0),
                    tl.load(coefficient + 24, mask=lit, other=0.0),
                )  # fmt: skip
                ux, uy, uz = ux + vx, uy + vy, uz + vz
            if DEGREE >= 3:
                b9, b10, b11, b12, b13, b14, b15 = band3(x, y, z)
                t9, t10, t11, t12 = t9 + b9 * g, t10 + b10 * g, t11 + b11 * g, t12 + b12 * g
                t13, t14, t15 = t13 + b13 * g, t14 + b14 * g, t15 + b15 * g
                vx, vy, vz = band3_gradient(
                    x, y, z,
                    tl.load(coefficient + 27, mask=lit, other=0.0),
                    tl.load(coefficient + 30, mask=lit, other=0.0),
                    tl.load(coefficient + 33, mask=lit, other=0.0),
                    tl.load(coefficient + 36, mask=lit, other=0.0),
                    tl.load(coefficient + 39, mask=lit, other=0.0),
                    tl.load(coefficient + 42, mask=lit, other=0.0),
                    tl.load(coefficient + 45, mask=lit, other=0.0),
                )  # fmt: skip
                ux, uy, uz = ux + vx, uy + vy, uz + vz
            # Through the normalization of the direction.
            radial = ux * x + uy * y + uz * z
            scale = g * inverse
            gx += (ux - radial * x) * scale
            gy += (uy - radial * y) * scale
            gz += (uz - radial * z) * scale
    out = d_sh + index * (3 * coefficients) + channel
    tl.store(out, t0, mask=real)
    if DEGREE >= 1:
        tl.store(out + 3, t1, mask=real)
        tl.store(out + 6, t2, mask=real)
        tl.store(out + 9, t3, mask=real)
    if DEGREE >= 2:
        tl.store(out + 12, t4, mask=real)
        tl.store(out + 15, t5, mask=real)
        tl.store(out + 18, t6, mask=real)
        tl.store(out + 21, t7, mask=real)
        tl.store(out + 24, t8, mask=real)
    if DEGREE >= 3:
        tl.store(out + 27, t9, mask=real)
        tl.store(out + 30, t10, mask=real)
        tl.store(out + 33, t11, mask=real)
        tl.store(out + 36, t12, mask=real)
        tl.store(out + 39, t13, mask=real)
        tl.store(out + 42, t14, mask=real)
        tl.store(out + 45, t15, mask=real)
    direction = d_directions + (channel * gaussians + index) * 3
    tl.store(direction, gx, mask=real)
    tl.store(direction + 1, gy, mask=real)
    tl.store(direction + 2, gz, mask=real)


@triton.jit
def scale_and_rotation_gradients(c0, c1, c2, scale, m00, m01, m02, m11, m12, m22):
    """Of one column c of R and its scale: dL/dscale, and the column of dL/dR, for M = dL/dSigma (symmetric).

    Sigma = R S S R^T, so dL/d(R S) = 2 M R S.
    """
    u0 = m00 * c0 + m01 * c1 + m02 * c2
    u1 = m01 * c0 + m11 * c1 + m12 * c2
    u2 = m02 * c0 + m12 * c1 + m22 * c2
    factor = 2.0 * scale * scale
    return 2.0 * scale * (c0 * u0 + c1 * u1 + c2 * u2), factor * u0, factor * u1, factor * u2


@triton.jit(do_not_specialize=["gaussians", "views", "width", "height"])
def shape_gradients(
    means, quats, scales, opacities, cameras, records, starts, counts, rows, d_directions,
    d_means, d_quats, d_scales, d_opacities, gaussians, views, width, height, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of means, quaternions, scales and opacities, summed over views."""
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = index < gaussians
    qw = tl.load(quats + 4 * index, mask=real, other=0.0)
    qx = tl.load(quats + 4 * index + 1, mask=real, other=0.0)
    qy = tl.load(quats + 4 * index + 2, mask=real, other=0.0)
    qz = tl.load(quats + 4 * index + 3, mask=real, other=0.0)
    s0 = tl.load(scales + 3 * index, mask=real, other=0.0)
    s1 = tl.load(scales + 3 * index + 1, mask=real, other=0.0)
    s2 = tl.load(scales + 3 * index + 2, mask=real, other=0.0)
    inverse_q, r00, r01, r02, r10, r11, r12, r20, r21, r22 = rotation(qw, qx, qy, qz)
    # Sigma = R S S R^T
    v0, v1, v2 = s0 * s0, s1 * s1, s2 * s2
    c00 = r00 * r00 * v0 + r01 * r01 * v1 + r02 * r02 * v2
    c01 = r00 * r10 * v0 + r01 * r11 * v1 + r02 * r12 * v2
    c02 = r00 * r20 * v0 + r01 * r21 * v1 + r02 * r22 * v2
    c11 = r10 * r10 * v0 + r11 * r11 * v1 + r12 * r12 * v2
    c12 = r10 * r20 * v0 + r11 * r21 * v1 + r12 * r22 * v2
    c22 = r20 * r20 * v0 + r21 * r21 * v1 + r22 * r22 * v2
    zero = tl.zeros((BLOCK,), tl.float32)
    gx, gy, gz, g_opacity = zero, zero, zero, zero
    m00, m01, m02, m11, m12, m22 = zero, zero, zero, zero, zero, zero
    for view in range(0, views):
        camera = cameras + view * CAMERA_FLOATS
        place = index + view * gaussians
        seen = real & (tl.load(counts + place, mask=real, other=0) > 0)
        # Read again in every view: held through the loop, they would cost registers that the sums need.
        px = tl.load(means + 3 * index, mask=real, other=0.0, volatile=True)
        py = tl.load(means + 3 * index + 1, mask=real, other=0.0, volatile=True)
        pz = tl.load(means + 3 * index + 2, mask=real, other=0.0, volatile=True)
        rx, ry, z, ux, uy = view_rays(camera, px, py, pz, seen, width, height)
        inverse_z = 1.0 / z
        p00, p01, p02, p10, p11, p12 = view_jacobian(camera, z, ux, uy)
        w20, w21, w22 = tl.load(camera + 8), tl.load(camera + 9), tl.load(camera + 10)
        # Sigma p of both rows of P, and what is needed of them: P Sigma P^T and P Sigma w2.
        u0, u1, u2 = (
            c00 * p00 + c01 * p01 + c02 * p02,
            c01 * p00 + c11 * p01 + c12 * p02,
            c02 * p00 + c12 * p01 + c22 * p02,
        )
        xx, xw = u0 * p00 + u1 * p01 + u2 * p02, u0 * w20 + u1 * w21 + u2 * w22
        xy = u0 * p10 + u1 * p11 + u2 * p12
        u0, u1, u2 = (
            c00 * p10 + c01 * p11 + c02 * p12,
            c01 * p10 + c11 * p11 + c12 * p12,
            c02 * p10 + c12 * p11 + c22 * p12,
        )
        yy, yw = u0 * p10 + u1 * p11 + u2 * p12, u0 * w20 + u1 * w21 + u2 * w22

        row = rows + tl.load(starts + place, mask=seen, other=0) * ROW_FLOATS
        record = records + place.to(tl.int64) * RECORD_FLOATS
        s_0, s_x, s_y, s_xx = load4(row, seen, BLOCK)
        _, _, a, b = load4(record, seen, BLOCK)
        c = tl.load(record + 4, mask=seen, other=0.0) * (-2.0 / LOG2_E)
        a, b = a * (-2.0 / LOG2_E), b * (-1.0 / LOG2_E)
        g_opacity -= s_0
        fx, fy = tl.load(camera + 12), tl.load(camera + 13)
        g_rx = -fx * (a * s_x + b * s_y)
        g_ry = -fy * (b * s_x + c * s_y)
        # K = d covariance = -C G C, with G the symmetric gradient of the inverse C.
        s_xy, s_yy, w_z, _ = load4(row + 4, seen, BLOCK)
        ga, gb, gc = 0.5 * s_xx, 0.5 * s_xy, 0.5 * s_yy
        h00, h01, h10, h11 = ga * a + gb * b, ga * b + gb * c, gb * a + gc * b, gb * b + gc * c
        k00, k01, k11 = -(a * h00 + b * h10), -(a * h01 + b * h11), -(b * h01 + c * h11)
        # d P = 2 K P Sigma. Row 0 of P is fx / z (W0 - ux W2), row 1 is fy / z (W1 - uy W2).
        g_rx -= tl.where(ux == rx, 2.0 * fx * inverse_z * (k00 * xw + k01 * yw), 0.0)
        g_ry -= tl.where(uy == ry, 2.0 * fy * inverse_z * (k01 * xw + k11 * yw), 0.0)
        g_z = w_z - 2.0 * inverse_z * (k00 * xx + 2.0 * k01 * xy + k11 * yy)
        g_z -= (g_rx * rx + g_ry * ry) * inverse_z
        g_rx, g_ry = g_rx * inverse_z, g_ry * inverse_z
        # d Sigma = P^T K P; K P first.
        d0, d1, d2 = k00 * p00 + k01 * p10, k00 * p01 + k01 * p11, k00 * p02 + k01 * p12
        e0, e1, e2 = k01 * p00 + k11 * p10, k01 * p01 + k11 * p11, k01 * p02 + k11 * p12
        m00 += p00 * d0 + p10 * e0
        m01 += p00 * d1 + p10 * e1
        m02 += p00 * d2 + p10 * e2
        m11 += p01 * d1 + p11 * e1
        m12 += p01 * d2 + p11 * e2
        m22 += p02 * d2 + p12 * e2
        gx += tl.load(camera) * g_rx + tl.load(camera + 4) * g_ry + w20 * g_z
        gy += tl.load(camera + 1) * g_rx + tl.load(camera + 5) * g_ry + w21 * g_z
        gz += tl.load(camera + 2) * g_rx + tl.load(camera + 6) * g_ry + w22 * g_z
    for channel in tl.static_range(3):
        direction = d_directions + (channel * gaussians + index) * 3
        gx += tl.load(direction, mask=real, other=0.0)
        gy += tl.load(direction + 1, mask=real, other=0.0)
        gz += tl.load(direction + 2, mask=real, other=0.0)
    tl.store(d_means + 3 * index, gx, mask=real)
    tl.store(d_means + 3 * index + 1, gy, mask=real)
    tl.store(d_means + 3 * index + 2, gz, mask=real)
    opacity = tl.load(opacities + index, mask=real, other=1.0)
    tl.store(d_opacities + index, tl.where(g_opacity == 0.0, 0.0, g_opacity / opacity), mask=real)
    # Scales and rotations again, from memory: holding them through the loop would cost registers.
    qw = tl.load(quats + 4 * index, mask=real, other=0.0)
    qx = tl.load(quats + 4 * index + 1, mask=real, other=0.0)
    qy = tl.load(quats + 4 * index + 2, mask=real, other=0.0)
    qz = tl.load(quats + 4 * index + 3, mask=real, other=0.0)
    s0 = tl.load(scales + 3 * index, mask=real, other=0.0)
    s1 = tl.load(scales + 3 * index + 1, mask=real, other=0.0)
    s2 = tl.load(scales + 3 * index + 2, mask=real, other=0.0)
    inverse_q, r00, r01, r02, r10, r11, r12, r20, r21, r22 = rotation(qw, qx, qy, qz)
    d0, q00, q10, q20 = scale_and_rotation_gradients(r00, r10, r20, s0, m00, m01, m02, m11, m12, m22)
    d1, q01, q11, q21 = scale_and_rotation_gradients(r01, r11, r21, s1, m00, m01, m02, m11, m12, m22)
    d2, q02, q12, q22 = scale_and_rotation_gradients(r02, r12, r22, s2, m00, m01, m02, m11, m12, m22)
    tl.store(d_scales + 3 * index, d0, mask=real)
    tl.store(d_scales + 3 * index + 1, d1, mask=real)
    tl.store(d_scales + 3 * index + 2, d2, mask=real)
    w, x, y, z = qw * inverse_q, qx * inverse_q, qy * inverse_q, qz * inverse_q
    g_w = 2.0 * (x * (q21 - q12) + y * (q02 - q20) + z * (q10 - q01))
    g_x = 2.0 * (y * (q01 + q10) + z * (q02 + q20) + w * (q21 - q12)) - 4.0 * x * (q11 + q22)
    g_y = 2.0 * (x * (q01 + q10) + z * (q12 + q21) + w * (q02 - q20)) - 4.0 * y * (q00 + q22)
    g_z = 2.0 * (x * (q02 + q20) + y * (q12 + q21) + w * (q10 - q01)) - 4.0 * z * (q00 + q11)
    along = g_w * w + g_x * x + g_y * y + g_z * z
    tl.store(d_quats + 4 * index, (g_w - along * w) * inverse_q, mask=real)
    tl.store(d_quats + 4 * index + 1, (g_x - along * x) * inverse_q, mask=real)
    tl.store(d_quats + 4 * index + 2, (g_y - along * y) * inverse_q, mask=real)
    tl.store(d_quats + 4 * index + 3, (g_z - along * z) * inverse_q, mask=real)
