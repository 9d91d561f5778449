"""Triton kernel: Gaussians to records, sort depths and tile counts, every view in one launch."""

from __future__ import annotations

import triton
import triton.language as tl

from .color import evaluate_channel
from .layout import CAMERA_FLOATS, CLAMP_MARGIN, LEAST_ALPHA, LOG2_E, RECORD_FLOATS, store4
from .tiles import LOG_255, count_tiles

TINY = tl.constexpr(1e-12)
FARTHEST = tl.constexpr(1e6)  # pixels; keeps the extents of huge ellipses in the range of the integers


@triton.jit
def rotation(w, x, y, z):
    """1 / length and the nine entries of the rotation matrix of quaternions of any length; zero gives the identity."""
    inverse = 1.0 / tl.maximum(tl.sqrt(w * w + x * x + y * y + z * z), TINY)
    w, x, y, z = w * inverse, x * inverse, y * inverse, z * inverse
    return (
        inverse,
        1.0 - 2.0 * (y * y + z * z),
        2.0 * (x * y - w * z),
        2.0 * (x * z + w * y),
        2.0 * (x * y + w * z),
        1.0 - 2.0 * (x * x + z * z),
        2.0 * (y * z - w * x),
        2.0 * (x * z - w * y),
        2.0 * (y * z + w * x),
        1.0 - 2.0 * (x * x + y * y),
    )


@triton.jit
def view_rays(camera, px, py, pz, seen, width, height):
    """Camera x/z and y/z, camera z, and both ratios clamped as the Jacobian wants them.

    Where not ``seen``, z is 1: 0 / 0 must not reach sums over views by way of a factor 0.
    """
    x = tl.load(camera) * px + tl.load(camera + 1) * py + tl.load(camera + 2) * pz + tl.load(camera + 3)
    y = tl.load(camera + 4) * px + tl.load(camera + 5) * py + tl.load(camera + 6) * pz + tl.load(camera + 7)
    z = tl.load(camera + 8) * px + tl.load(camera + 9) * py + tl.load(camera + 10) * pz + tl.load(camera + 11)
    z = tl.where(seen, z, 1.0)
    fx, fy = tl.load(camera + 12), tl.load(camera + 13)
    cx, cy = tl.load(camera + 14), tl.load(camera + 15)
    rx, ry = x / z, y / z
    mx, my = CLAMP_MARGIN * width, CLAMP_MARGIN * height
    ux = tl.minimum(tl.maximum(rx, -(cx + mx) / fx), (width - cx + mx) / fx)
    uy = tl.minimum(tl.maximum(ry, -(cy + my) / fy), (height - cy + my) / fy)
    return rx, ry, z, ux, uy


@triton.jit
def view_jacobian(camera, z, ux, uy):
    """P = J W, the derivative of the pixel position by the world position, as two rows of three."""
    jx, jy = tl.load(camera + 12) / z, tl.load(camera + 13) / z
    w20, w21, w22 = tl.load(camera + 8), tl.load(camera + 9), tl.load(camera + 10)
    return (
        jx * (tl.load(camera) - ux * w20),
        jx * (tl.load(camera + 1) - ux * w21),
        jx * (tl.load(camera + 2) - ux * w22),
        jy * (tl.load(camera + 4) - uy * w20),
        jy * (tl.load(camera + 5) - uy * w21),
        jy * (tl.load(camera + 6) - uy * w22),
    )


@triton.jit
def view_direction(camera, px, py, pz):
    """Unit direction from the camera center, and 1 / distance."""
    dx, dy, dz = px - tl.load(camera + 16), py - tl.load(camera + 17), pz - tl.load(camera + 18)
    inverse = 1.0 / tl.maximum(tl.sqrt(dx * dx + dy * dy + dz * dz), TINY)
    return dx * inverse, dy * inverse, dz * inverse, inverse


@triton.jit(do_not_specialize=["gaussians", "views", "width", "height", "coefficients", "near", "far", "eps2d"])
def project(
    means, quats, scales, opacities, sh, cameras, records, depths, counts,
    gaussians, views, width, height, coefficients, near, far, eps2d,
    DEGREE: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Project BLOCK Gaussians into every view.

    Args:
        means, quats, scales, opacities, sh: [N, 3], [N, 4], [N, 3], [N], [N, coefficients, 3], contiguous float32.
        cameras: [V, CAMERA].
        records: [V, N, RECORD] out; undefined where not visible.
        depths: [V, N] out: camera z, infinite where not visible.
        counts: [V, N] int32 out: tiles the Gaussian is listed in, 0 where not visible.
    """
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = index < gaussians
    opacity = tl.load(opacities + index, mask=real, other=0.0)
    bright = opacity >= LEAST_ALPHA
    px = tl.load(means + 3 * index, mask=real, other=0.0)
    py = tl.load(means + 3 * index + 1, mask=real, other=0.0)
    pz = tl.load(means + 3 * index + 2, mask=real, other=0.0)
    _, r00, r01, r02, r10, r11, r12, r20, r21, r22 = rotation(
        tl.load(quats + 4 * index, mask=real, other=0.0),
        tl.load(quats + 4 * index + 1, mask=real, other=0.0),
        tl.load(quats + 4 * index + 2, mask=real, other=0.0),
        tl.load(quats + 4 * index + 3, mask=real, other=0.0),
    )
    s0 = tl.load(scales + 3 * index, mask=real, other=0.0)
    s1 = tl.load(scales + 3 * index + 1, mask=real, other=0.0)
    s2 = tl.load(scales + 3 * index + 2, mask=real, other=0.0)
    r00, r01, r02 = r00 * s0, r01 * s1, r02 * s2
    r10, r11, r12 = r10 * s0, r11 * s1, r12 * s2
    r20, r21, r22 = r20 * s0, r21 * s1, r22 * s2
    limit = 2.0 * tl.maximum(tl.log(tl.maximum(opacity, LEAST_ALPHA)) + LOG_255, 0.0)
    for view in range(0, views):
        camera = cameras + view * CAMERA_FLOATS
        z = tl.load(camera + 8) * px + tl.load(camera + 9) * py + tl.load(camera + 10) * pz + tl.load(camera + 11)
        visible = bright & (z > near) & (z < far)
        rx, ry, z, ux, uy = view_rays(camera, px, py, pz, visible, width, height)
        mx = tl.load(camera + 12) * rx + tl.load(camera + 14)
        my = tl.load(camera + 13) * ry + tl.load(camera + 15)
        # root = P R S; covariance = root root^T + eps2d I.
        p00, p01, p02, p10, p11, p12 = view_jacobian(camera, z, ux, uy)
        a00 = p00 * r00 + p01 * r10 + p02 * r20
        a01 = p00 * r01 + p01 * r11 + p02 * r21
        a02 = p00 * r02 + p01 * r12 + p02 * r22
        a10 = p10 * r00 + p11 * r10 + p12 * r20
        a11 = p10 * r01 + p11 * r11 + p12 * r21
        a12 = p10 * r02 + p11 * r12 + p12 * r22
        xx = a00 * a00 + a01 * a01 + a02 * a02
        yy = a10 * a10 + a11 * a11 + a12 * a12
        xy = a00 * a10 + a01 * a11 + a02 * a12
        # |row 0 x row 1|^2 is the determinant without eps2d; unlike xx yy - xy^2 it cannot come out negative.
        c0, c1, c2 = a01 * a12 - a02 * a11, a02 * a10 - a00 * a12, a00 * a11 - a01 * a10
        scale = LOG2_E / (c0 * c0 + c1 * c1 + c2 * c2 + eps2d * (xx + yy) + eps2d * eps2d)
        xx += eps2d
        yy += eps2d
        power_a, power_b, power_c = -0.5 * yy * scale, xy * scale, -0.5 * xx * scale
        ex = tl.minimum(tl.sqrt(limit * xx), FARTHEST)
        ey = tl.minimum(tl.sqrt(limit * yy), FARTHEST)
        count = count_tiles(visible, mx, my, power_a, power_b, opacity, ey, width, height, TILE)
        visible = visible & (count > 0)
        row = index + view * gaussians
        tl.store(depths + row, tl.where(visible, z, float("inf")), mask=real)
        tl.store(counts + row, count, mask=real)
        record = records + row * RECORD_FLOATS
        store4(record, mx, my, power_a, power_b, visible, BLOCK)
        store4(record + 4, power_c, opacity, ex, ey, visible, BLOCK)
        dx, dy, dz, _ = view_direction(camera, px, py, pz)
        coefficient = sh + index * (3 * coefficients)
        red = evaluate_channel(coefficient, dx, dy, dz, visible, DEGREE)
        green = evaluate_channel(coefficient + 1, dx, dy, dz, visible, DEGREE)
        blue = evaluate_channel(coefficient + 2, dx, dy, dz, visible, DEGREE)
        store4(record + 8, tl.maximum(red, 0.0), tl.maximum(green, 0.0), tl.maximum(blue, 0.0), z, visible, BLOCK)
