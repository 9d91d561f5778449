"""The four solids standing on the ground: ray intersection, normals and texture coordinates, in closed form.

World axes are OpenCV's: y points down, the ground is y = 0, so a solid of height h fills -h <= y <= 0.
Functions broadcast: origins may be numbers and directions arrays (rays of one camera) or the other way
round (shadow rays to one light).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .textures import Texture

KINDS = ("sphere", "box", "cylinder", "cone")
_EPSILON = np.float32(1e-4)  # Meters: rays that start on a surface do not hit it again.


@dataclasses.dataclass(frozen=True)
class Solid:
    """One object of the scene.

    Attributes:
        kind: one of `KINDS`.
        x, z: meters, where the middle of its footprint stands.
        yaw: radians about the vertical axis, from x towards z (turns a box's faces and every texture).
        width, height, depth: meters along its own x, y, z. A sphere has all three equal; cylinder and cone
            have depth = width = diameter.
        texture: its surface.
        size_word, color_word: the words the prompt uses for it ("" where the size needs none).
    """

    kind: str
    x: float
    z: float
    yaw: float
    width: float
    height: float
    depth: float
    texture: Texture
    size_word: str
    color_word: str

    @property
    def footprint_radius(self) -> float:
        """Meters: radius of the upright cylinder about the solid."""
        return 0.5 * float(np.hypot(self.width, self.depth)) if self.kind == "box" else 0.5 * self.width

    @property
    def bounding_radius(self) -> float:
        """Meters: radius of a sphere about (x, -height / 2, z) that holds the solid."""
        return 0.5 * self.height if self.kind == "sphere" else float(np.hypot(self.footprint_radius, 0.5 * self.height))

    def distance(self, points: np.ndarray) -> np.ndarray:
        """[N] meters from points [N, 3] to its upright bounding cylinder (0 inside)."""
        sideways = np.hypot(points[:, 0] - self.x, points[:, 2] - self.z) - self.footprint_radius
        above = -points[:, 1] - self.height
        return np.hypot(np.maximum(sideways, 0), np.maximum(above, 0))


def _local(solid: Solid, ox, oz, dx, dz):
    """Origins and directions in the solid's own horizontal axes."""
    c, s = np.float32(np.cos(solid.yaw)), np.float32(np.sin(solid.yaw))
    ox, oz = ox - np.float32(solid.x), oz - np.float32(solid.z)
    return c * ox + s * oz, c * oz - s * ox, c * dx + s * dz, c * dz - s * dx


def _slab(o, d, low: float, high: float):
    """Where a line enters and leaves low <= coordinate <= high."""
    inverse = 1 / d
    a, b = (np.float32(low) - o) * inverse, (np.float32(high) - o) * inverse
    return np.minimum(a, b), np.maximum(a, b)


def intersect(solid: Solid, ox, oy, oz, dx, dy, dz) -> np.ndarray:
    """Ray parameter t of the first point o + t d on the solid, inf where there is none with t > 0.

    Rays start outside the solid and above the ground. Float32 throughout; directions need no unit length.
    Call under ``np.errstate(divide="ignore", invalid="ignore", over="ignore")``.
    """
    if solid.kind == "box":
        lx, lz, ex, ez = _local(solid, ox, oz, dx, dz)
        enter, leave = _slab(oy, dy, -solid.height, 0.0)
        for o, d, half in ((lx, ex, 0.5 * solid.width), (lz, ez, 0.5 * solid.depth)):
            a, b = _slab(o, d, -half, half)
            enter, leave = np.maximum(enter, a), np.minimum(leave, b)
        return np.where((enter <= leave) & (enter > _EPSILON), enter, np.float32(np.inf))
    ox, oz = ox - np.float32(solid.x), oz - np.float32(solid.z)
    radius = np.float32(0.5 * solid.width)
    if solid.kind == "sphere":
        oy = oy + radius
        a = dx * dx + dy * dy + dz * dz
        b = ox * dx + oy * dy + oz * dz
        c = ox * ox + oy * oy + oz * oz - radius * radius
        t = (-b - np.sqrt(b * b - a * c)) / a  # NaN where the ray misses, and NaN > epsilon is False.
        return np.where(t > _EPSILON, t, np.float32(np.inf))
    if solid.kind == "cylinder":
        a = dx * dx + dz * dz
        b = ox * dx + oz * dz
        root = np.sqrt(b * b - a * (ox * ox + oz * oz - radius * radius))
        enter, leave = _slab(oy, dy, -solid.height, 0.0)
        enter, leave = np.maximum(enter, (-b - root) / a), np.minimum(leave, (-b + root) / a)
        return np.where((enter <= leave) & (enter > _EPSILON), enter, np.float32(np.inf))
    # Cone x^2 + z^2 = (slope * y)^2 with y measured down from the apex, 0 <= y <= height.
    slope = radius / np.float32(solid.height)
    oy = oy + np.float32(solid.height)
    sy, ey = slope * oy, slope * dy
    a = dx * dx + dz * dz - ey * ey
    b = ox * dx + oz * dz - sy * ey
    root = np.sqrt(b * b - a * (ox * ox + oz * oz - sy * sy))
    first = np.full(np.shape(root), np.inf, np.float32)
    for t in ((-b - root) / a, (-b + root) / a):
        y = oy + t * dy
        first = np.where((y >= 0) & (y <= np.float32(solid.height)) & (t > _EPSILON) & (t < first), t, first)
    return first


def surface(solid: Solid, px, py, pz):
    """Normals and pattern coordinates at points on the solid.

    Returns:
        (nx, ny, nz, u, v): unit outward normals in world axes; u, v in texture cycles. Flat faces count
        frequency cycles per meter; around a round side u makes a whole number of cycles, so it has no seam.
    """
    frequency = np.float32(solid.texture.frequency)
    c, s = np.float32(np.cos(solid.yaw)), np.float32(np.sin(solid.yaw))
    rx, rz = px - np.float32(solid.x), pz - np.float32(solid.z)
    lx, lz = c * rx + s * rz, c * rz - s * rx
    height = -py
    if solid.kind == "box":
        ax = np.abs(lx) / np.float32(0.5 * solid.width)
        az = np.abs(lz) / np.float32(0.5 * solid.depth)
        ay = height / np.float32(0.5 * solid.height) - 1  # Only the top can be seen, never the bottom.
        on_x, on_top = (ax >= az) & (ax >= ay), (ay > ax) & (ay > az)
        mx = np.where(on_x, np.sign(lx), 0)
        mz = np.where(on_x | on_top, 0, np.sign(lz))
        ny = np.where(on_top, np.float32(-1), np.float32(0))
        u = np.where(on_x, lz, lx) * frequency
        v = np.where(on_top, lz, height) * frequency
        return c * mx - s * mz, ny, s * mx + c * mz, u, v
    radius = np.float32(0.5 * solid.width)
    cycles = max(2, round(float(frequency) * np.pi * solid.width))
    u = np.arctan2(lz, lx) * np.float32(cycles / (2 * np.pi))
    v = height * frequency
    if solid.kind == "sphere":
        return rx / radius, (py + radius) / radius, rz / radius, u, v
    length = np.maximum(np.sqrt(rx * rx + rz * rz), np.float32(1e-6))
    nx, nz = rx / length, rz / length
    if solid.kind == "cylinder":
        top = height - np.float32(solid.height) > length - radius
        u, v = np.where(top, lx * frequency, u), np.where(top, lz * frequency, v)
        return np.where(top, 0, nx), np.where(top, np.float32(-1), np.float32(0)), np.where(top, 0, nz), u, v
    norm = np.float32(np.hypot(solid.height, radius))
    rise, out = radius / norm, np.float32(solid.height) / norm
    return nx * out, np.full_like(nx, -rise), nz * out, u, v


def footprint_distance(solid: Solid, px, pz):
    """Meters along the ground from (px, pz) to where the solid touches it, 0 below the solid."""
    if solid.kind == "box":
        lx, lz, _, _ = _local(solid, px, pz, np.float32(0), np.float32(0))
        lx = np.maximum(np.abs(lx) - np.float32(0.5 * solid.width), 0)
        lz = np.maximum(np.abs(lz) - np.float32(0.5 * solid.depth), 0)
        return np.sqrt(lx * lx + lz * lz)
    rx, rz = px - np.float32(solid.x), pz - np.float32(solid.z)
    touching = 0.2 if solid.kind == "sphere" else 1.0  # A sphere hides the ground well beyond its one point.
    return np.maximum(np.sqrt(rx * rx + rz * rz) - np.float32(touching * 0.5 * solid.width), 0)
