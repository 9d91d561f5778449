"""Numba kernels: 3D Gaussians to screen-space records, and gradients of the records back to the Gaussians.

A record is `RECORD` float32: mean x, y; inverse covariance a, b, c; opacity; red, green, blue; camera z; half extents
x, y of the ellipse inside which alpha can reach 1/255. A view is `CAMERA` float32: world-to-camera rows
(3 x 4), fx, fy, cx, cy, camera center (3).

Device functions stay in the file of the kernels that call them: numba's cache notices a change only in the kernel's
own file.
"""

from __future__ import annotations

import math

import numpy as np

from ....compiled import kernel
from ...constants import ALPHA_MIN, JACOBIAN_MARGIN

RECORD = 12
CAMERA = 19
TILE = 16
GRADIENT = 10  # d record: mean x, y; a, b, c; opacity; red, green, blue; z

f32 = np.float32
_ZERO, _HALF, _ONE, _TWO = f32(0), f32(0.5), f32(1), f32(2)
_MARGIN = f32(JACOBIAN_MARGIN)
_ALPHA_MIN = f32(ALPHA_MIN)
_255 = f32(255)
_TINY = f32(1e-12)
_EXTENT_SCALE, _EXTENT_PAD = f32(1.0001), f32(0.01)  # covers float32 rounding of the exact extent
_MAX_PIXEL = f32(1e6)

_C0 = f32(0.28209479177387814)
_C1 = f32(0.4886025119029199)
_C2A, _C2B, _C2C, _C2D = (
    f32(1.0925484305920792),
    f32(0.9461746957575601),
    f32(0.31539156525252005),
    f32(0.5462742152960396),
)
_C3A, _C3B, _C3C, _C3D, _C3E = (
    f32(0.5900435899266435),
    f32(2.890611442640554),
    f32(0.4570457994644658),
    f32(0.3731763325901154),
    f32(1.445305721320277),
)
_3, _4, _5, _6, _10, _15 = f32(3), f32(4), f32(5), f32(6), f32(10), f32(15)


@kernel
def _sh_basis(x, y, z, degree, out):
    out[0] = _C0
    if degree >= 1:
        out[1], out[2], out[3] = -_C1 * y, _C1 * z, -_C1 * x
    if degree >= 2:
        out[4], out[5], out[7] = _C2A * x * y, -_C2A * y * z, -_C2A * x * z
        out[6] = _C2B * z * z - _C2C
        out[8] = _C2D * (x * x - y * y)
    if degree >= 3:
        out[9] = -_C3A * y * (_3 * x * x - y * y)
        out[10] = _C3B * x * y * z
        out[11] = _C3C * y * (_ONE - _5 * z * z)
        out[12] = _C3D * z * (_5 * z * z - _3)
        out[13] = _C3C * x * (_ONE - _5 * z * z)
        out[14] = _C3E * z * (x * x - y * y)
        out[15] = -_C3A * x * (x * x - _3 * y * y)


@kernel
def _sh_basis_backward(x, y, z, degree, g):
    """Gradient with respect to the direction, given gradients ``g`` of the basis values."""
    dx, dy, dz = _ZERO, _ZERO, _ZERO
    if degree >= 1:
        dx, dy, dz = -_C1 * g[3], -_C1 * g[1], _C1 * g[2]
    if degree >= 2:
        dx += _C2A * (y * g[4] - z * g[7]) + _TWO * _C2D * x * g[8]
        dy += _C2A * (x * g[4] - z * g[5]) - _TWO * _C2D * y * g[8]
        dz += -_C2A * (y * g[5] + x * g[7]) + _TWO * _C2B * z * g[6]
    if degree >= 3:
        w = _ONE - _5 * z * z
        dx += -_6 * _C3A * x * y * g[9] + _C3B * y * z * g[10] + _C3C * w * g[13]
        dx += _TWO * _C3E * z * x * g[14] - _3 * _C3A * (x * x - y * y) * g[15]
        dy += -_3 * _C3A * (x * x - y * y) * g[9] + _C3B * x * z * g[10] + _C3C * w * g[11]
        dy += -_TWO * _C3E * z * y * g[14] + _6 * _C3A * x * y * g[15]
        dz += _C3B * x * y * g[10] - _10 * _C3C * z * (y * g[11] + x * g[13])
        dz += _C3D * (_15 * z * z - _3) * g[12] + _C3E * (x * x - y * y) * g[14]
    return dx, dy, dz


@kernel
def _rotation(w, x, y, z):
    """1 / length and the nine entries of the rotation of a quaternion of any length."""
    inverse = _ONE / max(math.sqrt(w * w + x * x + y * y + z * z), _TINY)
    w, x, y, z = w * inverse, x * inverse, y * inverse, z * inverse
    return (
        inverse,
        _ONE - _TWO * (y * y + z * z),
        _TWO * (x * y - w * z),
        _TWO * (x * z + w * y),
        _TWO * (x * y + w * z),
        _ONE - _TWO * (x * x + z * z),
        _TWO * (y * z - w * x),
        _TWO * (x * z - w * y),
        _TWO * (y * z + w * x),
        _ONE - _TWO * (x * x + y * y),
    )


@kernel
def project(
    start, stop, means, quats, scales, opacities, sh, degree, camera, size, planes, eps2d, records, rects, counts, limit
):
    """Records and tile rectangles of Gaussians start..stop in one view, and how many of them each tile receives.

    size = (width, height), planes = (near, far). rects [N, 4] int16: first tile column, row, columns, rows (columns 0
    means culled; the record is then undefined). counts [tiles] is added to.

    Returns:
        The number of (Gaussian, tile) pairs; counts is right only if they are at most ``limit``.
    """
    total = 0
    width, height = f32(size[0]), f32(size[1])
    tiles_x, tiles_y = (size[0] + TILE - 1) // TILE, (size[1] + TILE - 1) // TILE
    w00, w01, w02, t0, w10, w11, w12, t1, w20, w21, w22, t2, fx, fy, cx, cy, ox, oy, oz = (
        camera[0], camera[1], camera[2], camera[3], camera[4], camera[5], camera[6], camera[7], camera[8], camera[9],
        camera[10], camera[11], camera[12], camera[13], camera[14], camera[15], camera[16], camera[17], camera[18],
    )  # fmt: skip
    x_low, x_high = -(cx + _MARGIN * width) / fx, (width - cx + _MARGIN * width) / fx
    y_low, y_high = -(cy + _MARGIN * height) / fy, (height - cy + _MARGIN * height) / fy
    bases = (degree + 1) * (degree + 1)
    basis = np.empty(16, np.float32)
    for n in range(start, stop):
        rects[n, 2] = 0
        opacity = opacities[n]
        px, py, pz = means[n, 0], means[n, 1], means[n, 2]
        z = w20 * px + w21 * py + w22 * pz + t2
        if not (z > planes[0] and z < planes[1] and opacity >= _ALPHA_MIN):
            continue
        x = w00 * px + w01 * py + w02 * pz + t0
        y = w10 * px + w11 * py + w12 * pz + t1
        inverse_z = _ONE / z
        xz, yz = x * inverse_z, y * inverse_z
        mx, my = fx * xz + cx, fy * yz + cy
        ux, uy = min(max(xz, x_low), x_high), min(max(yz, y_low), y_high)
        # P = J W, root = P R S, covariance = root root^T + eps2d I
        jx, jy = fx * inverse_z, fy * inverse_z
        p00, p01, p02 = jx * (w00 - ux * w20), jx * (w01 - ux * w21), jx * (w02 - ux * w22)
        p10, p11, p12 = jy * (w10 - uy * w20), jy * (w11 - uy * w21), jy * (w12 - uy * w22)
        _, r00, r01, r02, r10, r11, r12, r20, r21, r22 = _rotation(quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3])
        s0, s1, s2 = scales[n, 0], scales[n, 1], scales[n, 2]
        a00 = (p00 * r00 + p01 * r10 + p02 * r20) * s0
        a01 = (p00 * r01 + p01 * r11 + p02 * r21) * s1
        a02 = (p00 * r02 + p01 * r12 + p02 * r22) * s2
        a10 = (p10 * r00 + p11 * r10 + p12 * r20) * s0
        a11 = (p10 * r01 + p11 * r11 + p12 * r21) * s1
        a12 = (p10 * r02 + p11 * r12 + p12 * r22) * s2
        xx = a00 * a00 + a01 * a01 + a02 * a02
        yy = a10 * a10 + a11 * a11 + a12 * a12
        xy = a00 * a10 + a01 * a11 + a02 * a12
        # |row0 x row1|^2 is the determinant without eps2d; unlike xx yy - xy^2 it cannot come out negative.
        c0, c1, c2 = a01 * a12 - a02 * a11, a02 * a10 - a00 * a12, a00 * a11 - a01 * a10
        inverse_det = _ONE / (c0 * c0 + c1 * c1 + c2 * c2 + eps2d * (xx + yy) + eps2d * eps2d)
        xx += eps2d
        yy += eps2d
        # alpha >= 1/255 needs q <= log(255 opacity): an ellipse of half extents sqrt(2 q Sigma_ii).
        reach = _TWO * max(math.log(opacity * _255), _ZERO)
        ex = min(math.sqrt(reach * xx) * _EXTENT_SCALE + _EXTENT_PAD, _MAX_PIXEL)
        ey = min(math.sqrt(reach * yy) * _EXTENT_SCALE + _EXTENT_PAD, _MAX_PIXEL)
        # Pixel i has its center at i + 0.5.
        first_x, last_x = max(mx - ex - _HALF, _ZERO), min(mx + ex - _HALF, width - _ONE)
        first_y, last_y = max(my - ey - _HALF, _ZERO), min(my + ey - _HALF, height - _ONE)
        if not (first_x <= last_x and first_y <= last_y):
            continue
        tx0, ty0 = int(math.ceil(first_x)) // TILE, int(math.ceil(first_y)) // TILE
        tx1, ty1 = min(int(last_x) // TILE + 1, tiles_x), min(int(last_y) // TILE + 1, tiles_y)
        if tx0 >= tx1 or ty0 >= ty1:
            continue
        rects[n, 0], rects[n, 1], rects[n, 2], rects[n, 3] = tx0, ty0, tx1 - tx0, ty1 - ty0
        total += (tx1 - tx0) * (ty1 - ty0)
        if total <= limit:
            for ty in range(ty0, ty1):
                for tx in range(tx0, tx1):
                    counts[ty * tiles_x + tx] += 1

        dx, dy, dz = px - ox, py - oy, pz - oz
        inverse = _ONE / max(math.sqrt(dx * dx + dy * dy + dz * dz), _TINY)
        _sh_basis(dx * inverse, dy * inverse, dz * inverse, degree, basis)
        red, green, blue = _HALF, _HALF, _HALF
        for k in range(bases):
            red += basis[k] * sh[n, k, 0]
            green += basis[k] * sh[n, k, 1]
            blue += basis[k] * sh[n, k, 2]
        record = records[n]
        record[0], record[1] = mx, my
        record[2], record[3], record[4] = yy * inverse_det, -xy * inverse_det, xx * inverse_det
        record[5] = opacity
        record[6], record[7], record[8] = max(red, _ZERO), max(green, _ZERO), max(blue, _ZERO)
        record[9], record[10], record[11] = z, ex, ey
    return total


@kernel
def project_backward(
    start, stop, means, quats, scales, opacities, sh, degree, cameras, size, records, rects, row_starts, rows,
    d_means, d_quats, d_scales, d_opacities, d_sh,
):  # fmt: skip
    """Gradients of Gaussians start..stop, summed over views and tiles in a fixed order.

    rows [entries, GRADIENT] holds one row per (view, Gaussian, tile); those of Gaussian n in view v begin at
    row_starts[v, n]. The outputs are overwritten.
    """
    width, height = f32(size[0]), f32(size[1])
    bases = (degree + 1) * (degree + 1)
    basis = np.empty(16, np.float32)
    d_basis = np.empty(16, np.float32)
    g = np.empty(GRADIENT, np.float32)
    for n in range(start, stop):
        px, py, pz = means[n, 0], means[n, 1], means[n, 2]
        s0, s1, s2 = scales[n, 0], scales[n, 1], scales[n, 2]
        inverse_q, r00, r01, r02, r10, r11, r12, r20, r21, r22 = _rotation(
            quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3]
        )
        gpx, gpy, gpz = _ZERO, _ZERO, _ZERO
        gs0, gs1, gs2, g_opacity = _ZERO, _ZERO, _ZERO, _ZERO
        q00, q01, q02 = _ZERO, _ZERO, _ZERO  # d rotation
        q10, q11, q12 = _ZERO, _ZERO, _ZERO
        q20, q21, q22 = _ZERO, _ZERO, _ZERO
        for k in range(d_sh.shape[1]):
            d_sh[n, k, 0] = d_sh[n, k, 1] = d_sh[n, k, 2] = _ZERO
        for v in range(len(cameras)):
            tiles = rects[v, n, 2] * rects[v, n, 3]
            if tiles == 0:
                continue
            row = row_starts[v, n]
            for i in range(GRADIENT):
                g[i] = rows[row, i]
            for tile in range(1, tiles):
                for i in range(GRADIENT):
                    g[i] += rows[row + tile, i]

            cam = cameras[v]
            w00, w01, w02, t0 = cam[0], cam[1], cam[2], cam[3]
            w10, w11, w12, t1 = cam[4], cam[5], cam[6], cam[7]
            w20, w21, w22, t2 = cam[8], cam[9], cam[10], cam[11]
            fx, fy, cx, cy = cam[12], cam[13], cam[14], cam[15]
            x = w00 * px + w01 * py + w02 * pz + t0
            y = w10 * px + w11 * py + w12 * pz + t1
            z = w20 * px + w21 * py + w22 * pz + t2
            inverse_z = _ONE / z
            xz, yz = x * inverse_z, y * inverse_z
            ux = min(max(xz, -(cx + _MARGIN * width) / fx), (width - cx + _MARGIN * width) / fx)
            uy = min(max(yz, -(cy + _MARGIN * height) / fy), (height - cy + _MARGIN * height) / fy)
            jx, jy = fx * inverse_z, fy * inverse_z
            p00, p01, p02 = jx * (w00 - ux * w20), jx * (w01 - ux * w21), jx * (w02 - ux * w22)
            p10, p11, p12 = jy * (w10 - uy * w20), jy * (w11 - uy * w21), jy * (w12 - uy * w22)
            m00, m01, m02 = (
                p00 * r00 + p01 * r10 + p02 * r20,
                p00 * r01 + p01 * r11 + p02 * r21,
                p00 * r02 + p01 * r12 + p02 * r22,
            )
            m10, m11, m12 = (
                p10 * r00 + p11 * r10 + p12 * r20,
                p10 * r01 + p11 * r11 + p12 * r21,
                p10 * r02 + p11 * r12 + p12 * r22,
            )
            a00, a01, a02, a10, a11, a12 = m00 * s0, m01 * s1, m02 * s2, m10 * s0, m11 * s1, m12 * s2

            # d covariance = -C G C, with G the symmetric gradient of the inverse C.
            a, b, c = records[v, n, 2], records[v, n, 3], records[v, n, 4]
            ga, gb, gc = g[2], _HALF * g[3], g[4]
            h00, h01, h10, h11 = ga * a + gb * b, ga * b + gb * c, gb * a + gc * b, gb * b + gc * c  # G C
            k00, k01, k11 = -(a * h00 + b * h10), -(a * h01 + b * h11), -(b * h01 + c * h11)
            # d root = 2 (d covariance) root; root = M S; M = P R
            b00, b01, b02 = (
                _TWO * (k00 * a00 + k01 * a10),
                _TWO * (k00 * a01 + k01 * a11),
                _TWO * (k00 * a02 + k01 * a12),
            )
            b10, b11, b12 = (
                _TWO * (k01 * a00 + k11 * a10),
                _TWO * (k01 * a01 + k11 * a11),
                _TWO * (k01 * a02 + k11 * a12),
            )
            gs0 += b00 * m00 + b10 * m10
            gs1 += b01 * m01 + b11 * m11
            gs2 += b02 * m02 + b12 * m12
            b00, b01, b02, b10, b11, b12 = b00 * s0, b01 * s1, b02 * s2, b10 * s0, b11 * s1, b12 * s2
            q00 += p00 * b00 + p10 * b10
            q01 += p00 * b01 + p10 * b11
            q02 += p00 * b02 + p10 * b12
            q10 += p01 * b00 + p11 * b10
            q11 += p01 * b01 + p11 * b11
            q12 += p01 * b02 + p11 * b12
            q20 += p02 * b00 + p12 * b10
            q21 += p02 * b01 + p12 * b11
            q22 += p02 * b02 + p12 * b12
            # d P = d M R^T; P row 0 = jx (W0 - ux W2), row 1 = jy (W1 - uy W2)
            d00, d01, d02 = (
                b00 * r00 + b01 * r01 + b02 * r02,
                b00 * r10 + b01 * r11 + b02 * r12,
                b00 * r20 + b01 * r21 + b02 * r22,
            )
            d10, d11, d12 = (
                b10 * r00 + b11 * r01 + b12 * r02,
                b10 * r10 + b11 * r11 + b12 * r12,
                b10 * r20 + b11 * r21 + b12 * r22,
            )
            gux = -jx * (d00 * w20 + d01 * w21 + d02 * w22)
            guy = -jy * (d10 * w20 + d11 * w21 + d12 * w22)
            gz = g[9] - inverse_z * (d00 * p00 + d01 * p01 + d02 * p02 + d10 * p10 + d11 * p11 + d12 * p12)
            gxz, gyz = fx * g[0], fy * g[1]
            if ux == xz:
                gxz += gux
            if uy == yz:
                gyz += guy
            gx, gy = gxz * inverse_z, gyz * inverse_z
            gz -= (gxz * xz + gyz * yz) * inverse_z
            gpx += w00 * gx + w10 * gy + w20 * gz
            gpy += w01 * gx + w11 * gy + w21 * gz
            gpz += w02 * gx + w12 * gy + w22 * gz
            g_opacity += g[5]

            # A color clamped to 0 passes no gradient.
            gr = g[6] if records[v, n, 6] > _ZERO else _ZERO
            gg = g[7] if records[v, n, 7] > _ZERO else _ZERO
            gbl = g[8] if records[v, n, 8] > _ZERO else _ZERO
            dx, dy, dz = px - cam[16], py - cam[17], pz - cam[18]
            inverse = _ONE / max(math.sqrt(dx * dx + dy * dy + dz * dz), _TINY)
            dx, dy, dz = dx * inverse, dy * inverse, dz * inverse
            _sh_basis(dx, dy, dz, degree, basis)
            for k in range(bases):
                d_basis[k] = gr * sh[n, k, 0] + gg * sh[n, k, 1] + gbl * sh[n, k, 2]
                d_sh[n, k, 0] += gr * basis[k]
                d_sh[n, k, 1] += gg * basis[k]
                d_sh[n, k, 2] += gbl * basis[k]
            if degree > 0:
                ddx, ddy, ddz = _sh_basis_backward(dx, dy, dz, degree, d_basis)
                radial = ddx * dx + ddy * dy + ddz * dz
                gpx += (ddx - radial * dx) * inverse
                gpy += (ddy - radial * dy) * inverse
                gpz += (ddz - radial * dz) * inverse

        d_means[n, 0], d_means[n, 1], d_means[n, 2] = gpx, gpy, gpz
        d_scales[n, 0], d_scales[n, 1], d_scales[n, 2] = gs0, gs1, gs2
        d_opacities[n] = g_opacity
        w, qx, qy, qz = (
            quats[n, 0] * inverse_q,
            quats[n, 1] * inverse_q,
            quats[n, 2] * inverse_q,
            quats[n, 3] * inverse_q,
        )
        gw = _TWO * (qx * (q21 - q12) + qy * (q02 - q20) + qz * (q10 - q01))
        gqx = _TWO * (qy * (q01 + q10) + qz * (q02 + q20) + w * (q21 - q12)) - _4 * qx * (q11 + q22)
        gqy = _TWO * (qx * (q01 + q10) + qz * (q12 + q21) + w * (q02 - q20)) - _4 * qy * (q00 + q22)
        gqz = _TWO * (qx * (q02 + q20) + qy * (q12 + q21) + w * (q10 - q01)) - _4 * qz * (q00 + q11)
        along = gw * w + gqx * qx + gqy * qy + gqz * qz
        d_quats[n, 0] = (gw - along * w) * inverse_q
        d_quats[n, 1] = (gqx - along * qx) * inverse_q
        d_quats[n, 2] = (gqy - along * qy) * inverse_q
        d_quats[n, 3] = (gqz - along * qz) * inverse_q
