"""Ray-casting a `Scene`: exact depth, Lambert light, shadows, contact darkening; numpy, one view at a time.

Ray directions are scaled so that their camera z is 1: the ray parameter t IS the z-depth. Arrays are
[S, h, w] (samples of a pixel, rows of one band, columns); everything about one solid happens inside the
rectangle its bounding sphere covers, which is what makes it fast.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...cameras import Cameras
from ...errors import FlashWorldError
from . import solids as shapes
from .scene import SKY_RADIUS, Scene
from .textures import Texture, secondary_weight

_RAYS_PER_BAND = 48_000  # Keeps the working arrays inside a core's cache.
_LIGHT_SPREAD = 0.03  # Radians: the samples of a pixel see the light from slightly different sides.
_CONTACT_REACH = 0.45  # Contact darkening reaches this many object heights over the ground.


def render_scene(scene: Scene, cameras: Cameras, supersample: int = 2, *, cull: bool = True) -> tuple[Tensor, Tensor]:
    """See a scene through cameras.

    Args:
        cameras: V cameras inside the dome or the room, above the ground, outside the solids.
        supersample: samples per pixel along each axis; their colors are averaged.
        cull: look for each solid only where it can be seen. False is the slow twin, for tests.

    Returns:
        images: [V, 3, H, W] float32 in [0, 1].
        depth: [V, H, W] float32, z-depth in meters at the pixel's center, never averaged; finite
            everywhere, the sky being a sphere of radius `SKY_RADIUS` about the origin.

    Raises:
        FlashWorldError: supersample below 1.
    """
    if supersample < 1:
        raise FlashWorldError(f"supersample must be at least 1, got {supersample}.")
    width, height, views = cameras.width, cameras.height, len(cameras)
    poses = cameras.camera_to_world.detach().cpu().numpy().astype(np.float32)
    intrinsics = cameras.intrinsics.detach().cpu().numpy().astype(np.float32)
    images = np.empty((views, 3, height, width), np.float32)
    depth = np.empty((views, height, width), np.float32)
    offsets, lights = _samples(scene, supersample)
    rows = max(1, _RAYS_PER_BAND // (len(offsets) * width))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for view in range(views):
            for top in range(0, height, rows):
                bottom = min(top + rows, height)
                band = _Band(scene, poses[view], intrinsics[view], width, top, bottom, offsets, lights, cull)
                images[view, :, top:bottom] = band.shade()
                depth[view, top:bottom] = band.t[-1]
    return torch.from_numpy(images), torch.from_numpy(depth)


def _samples(scene: Scene, supersample: int) -> tuple[np.ndarray, np.ndarray]:
    """Sub-pixel offsets [S + extra, 2] in [0, 1), the pixel's center last, and light directions [S, 3].

    An odd grid has a sample at the center; an even one gets one more ray, for depth alone.
    """
    grid = (np.arange(supersample, dtype=np.float32) + 0.5) / supersample
    offsets = np.stack(np.meshgrid(grid, grid, indexing="xy"), -1).reshape(-1, 2)
    light = np.asarray(scene.light, np.float32)
    side = np.cross(light, [0, 1, 0])
    side /= np.linalg.norm(side)
    up = np.cross(side, light)
    spread = 2 * _LIGHT_SPREAD * (offsets[:, ::-1] - 0.5)
    lights = light + spread[:, :1] * side + spread[:, 1:] * up
    lights /= np.linalg.norm(lights, axis=1, keepdims=True)
    if supersample % 2:
        order = np.argsort(np.abs(offsets - 0.5).sum(1), kind="stable")[::-1]
        return offsets[order], lights[order].astype(np.float32)
    return np.concatenate([offsets, np.full((1, 2), 0.5, np.float32)]), lights.astype(np.float32)


def _lerp(out: np.ndarray, first, second, weight) -> None:
    """out[c] = first[c] + (second[c] - first[c]) * weight for three channels."""
    for channel in range(3):
        out[channel] = np.float32(first[channel]) + (np.float32(second[channel]) - np.float32(first[channel])) * weight


class _Band:
    """Some rows of one view: cast at construction, colored by `shade`."""

    def __init__(self, scene, pose, k, width, top, bottom, offsets, lights, cull):
        self.scene, self.pose, self.k, self.cull = scene, pose, k, cull
        self.top, self.rows, self.width = top, bottom - top, width
        self.colored = len(lights)  # Samples that make the picture; a further one only measures depth.
        self.lights = lights.T.reshape(3, -1, 1, 1)
        x = np.arange(width, dtype=np.float32) + offsets[:, :1]
        y = np.arange(top, bottom, dtype=np.float32) + offsets[:, 1:]
        x = ((x - k[0, 2]) / k[0, 0])[:, None, :]
        y = ((y - k[1, 2]) / k[1, 1])[:, :, None]
        rotation = pose[:3, :3]
        self.o = pose[:3, 3]
        self.d = [rotation[a, 0] * x + (rotation[a, 1] * y + rotation[a, 2]) for a in range(3)]
        self.t, self.face = self._cast_background()
        self.owner = np.full(self.t.shape, -1, np.int8)
        for index, solid in enumerate(scene.solids):
            crop = self._crop((solid.x, -0.5 * solid.height, solid.z), solid.bounding_radius)
            if crop is None:
                continue
            t = shapes.intersect(solid, *self.o, *(d[crop] for d in self.d))
            nearer = t < self.t[crop]
            np.copyto(self.t[crop], t, where=nearer)
            np.copyto(self.owner[crop], np.int8(index), where=nearer)
        self.p = [self.o[a] + self.t[: self.colored] * self.d[a][: self.colored] for a in range(3)]

    def _cast_background(self):
        """t of what surrounds the solids, and which part it is: -1 sky, else the axis of the room's face or ground."""
        (ox, oy, oz), (dx, dy, dz) = self.o, self.d
        if self.scene.room is not None:
            t, face = None, None
            for axis in range(3):
                low, high = np.float32(self.scene.room.low[axis]), np.float32(self.scene.room.high[axis])
                leave = (np.where(self.d[axis] > 0, high, low) - self.o[axis]) / self.d[axis]
                leave = np.where(self.d[axis] == 0, np.float32(np.inf), leave)
                if t is None:
                    t, face = leave, np.zeros(leave.shape, np.int8)
                else:
                    face[leave < t] = axis
                    t = np.minimum(t, leave)
            return t, face
        a = dx * dx + dy * dy + dz * dz
        b = ox * dx + oy * dy + oz * dz
        c = np.float32(float(self.o @ self.o) - SKY_RADIUS**2)
        sky = (np.sqrt(b * b - a * c) - b) / a
        ground = np.where(dy > 0, -oy / dy, np.float32(np.inf))
        return np.minimum(ground, sky), np.where(ground < sky, np.int8(1), np.int8(-1))

    def _crop(self, *spheres):
        """Index of the rectangle holding (center, radius, center, radius, ...), or None if it misses the band."""
        if not self.cull:
            return (slice(None), slice(None), slice(None))
        bounds = []
        for center, radius in zip(spheres[::2], spheres[1::2], strict=True):
            x, y, z = self.pose[:3, :3].T @ (np.asarray(center, np.float32) - self.o)
            bound = []
            for along, (f, c) in ((x, (self.k[0, 0], self.k[0, 2])), (y, (self.k[1, 1], self.k[1, 2]))):
                # Tangents from the eye to the sphere's circle in this plane.
                middle, half = np.arctan2(along, z), np.arcsin(min(1.0, radius / np.hypot(along, z)))
                for angle, far in ((middle - half, -np.inf), (middle + half, np.inf)):
                    bound.append(c + f * np.tan(angle) if abs(angle) < 1.5 and z > radius else far)
            bounds.append(bound)
        left, right, up, down = np.array(bounds).T
        c0, c1 = max(0.0, left.min() - 1), min(float(self.width), right.max() + 1)
        r0, r1 = max(0.0, up.min() - 1 - self.top), min(float(self.rows), down.max() + 1 - self.top)
        if c0 >= c1 or r0 >= r1:
            return None
        return (slice(None), slice(int(r0), int(np.ceil(r1))), slice(int(c0), int(np.ceil(c1))))

    def shade(self) -> np.ndarray:
        """[3, rows, width] colors in [0, 1]."""
        color = np.empty((3, self.colored, self.rows, self.width), np.float32)
        lit, contact = self._floor_light()
        if self.scene.room is not None:
            self._shade_room(color, lit, contact)
        else:
            self._shade_outdoors(color, lit, contact)
        for index in range(len(self.scene.solids)):
            self._shade_solid(color, index)
        return np.clip(color.mean(1), 0, 1)

    def _floor_light(self):
        """Share of direct light, and contact darkening, for what lies behind and below the solids."""
        lit = np.ones((self.colored, self.rows, self.width), np.float32)
        contact = np.ones_like(lit)
        light = np.asarray(self.scene.light)
        for solid in self.scene.solids:
            center, radius = np.array([solid.x, -0.5 * solid.height, solid.z]), solid.bounding_radius
            # The shadow is held by the sphere about the solid and the one about its shadow on the ground.
            rise = abs(light[1]) - 2 * _LIGHT_SPREAD
            fallen = center + light * (0.5 * solid.height / light[1])
            crop = self._crop(center, radius, fallen, radius / rise + solid.height * _LIGHT_SPREAD * 2)
            if crop is not None:
                t = shapes.intersect(solid, *(p[crop] for p in self.p), *self.lights)
                lit[crop][np.isfinite(t)] = 0
            reach = _CONTACT_REACH * solid.height
            crop = self._crop((solid.x, 0.0, solid.z), solid.footprint_radius + reach)
            if crop is not None:
                away = shapes.footprint_distance(solid, self.p[0][crop], self.p[2][crop])
                near = np.maximum(1 - away / np.float32(reach), 0)
                contact[crop] *= 1 - np.float32(0.5) * near * near
        return lit, contact

    def _lambert(self, cosine, lit, up):
        """Display-space factor: the square root stands for the display's gamma."""
        ambient = np.float32(self.scene.ambient) * (np.float32(0.88) + np.float32(0.12) * up)
        return np.sqrt(ambient + np.float32(self.scene.diffuse) * np.maximum(cosine, 0) * lit)

    def _textured(self, texture: Texture, u, v, factor, fade=None, ramp=None):
        weight = secondary_weight(texture, u, v, ramp)
        color = np.empty((3, *factor.shape), np.float32)
        _lerp(color, texture.primary, texture.secondary, weight if fade is None else 0.5 + (weight - 0.5) * fade)
        color *= factor
        return color

    def _shade_outdoors(self, color, lit, contact):
        px, py, pz = self.p
        sky, ground = self.scene.sky, self.scene.ground
        on_ground = self.face[: self.colored] > 0
        rows = np.flatnonzero(on_ground.any(axis=(0, 2)))
        above = np.flatnonzero(~on_ground.all(axis=(0, 2)))
        if len(above):
            crop = (slice(None), slice(above[0], above[-1] + 1), slice(None))
            x, y, z = (p[crop] / np.float32(SKY_RADIUS) for p in (px, py, pz))
            rise = np.sqrt(np.clip(-y, 0, 1))
            _lerp(color[(slice(None), *crop)], sky.horizon, sky.zenith, rise)
            if sky.clouds:
                phase = np.float32(6.283 * sky.phase)
                wave = np.sin(5 * x + 3 * z + phase) + np.sin(9 * y - 4 * x + 2 * phase) + np.sin(7 * z + 6 * y - phase)
                cover = np.float32(sky.clouds) * np.clip(wave * np.float32(0.5), 0, 1) * np.minimum(rise * 2, 1)
                color[(slice(None), *crop)] += (np.float32(0.97) - color[(slice(None), *crop)]) * cover
        if len(rows):
            crop = (slice(None), slice(rows[0], rows[-1] + 1), slice(None))
            x, z = px[crop], pz[crop]
            f = np.float32(ground.frequency)
            away = np.sqrt(x * x + z * z)
            # Patterns fade out before they grow finer than a pixel, by place and not by eye: views agree.
            fade = np.clip((np.float32(7.5) - away) * np.float32(1 / 5), 0, 1)
            cosine = -self.lights[1]
            factor = self._lambert(cosine, lit[crop], np.float32(1)) * contact[crop]
            painted = self._textured(ground, x * f, z * f, factor, fade)
            haze = np.float32(0.8) * np.clip((away - 3) * np.float32(1 / (SKY_RADIUS - 3)), 0, 1)
            haze *= on_ground[crop]
            for channel in range(3):
                painted[channel] += (np.float32(sky.horizon[channel]) - painted[channel]) * haze
            np.copyto(color[(slice(None), *crop)], painted, where=on_ground[crop])

    def _shade_room(self, color, lit, contact):
        room, ground, face = self.scene.room, self.scene.ground, self.face[: self.colored]
        corner = np.ones(lit.shape, np.float32)
        for axis in range(3):
            middle = np.float32(0.5 * (room.low[axis] + room.high[axis]))
            half = np.float32(0.5 * (room.high[axis] - room.low[axis]))
            near = np.maximum(1 - (half - np.abs(self.p[axis] - middle)) / np.float32(0.7), 0)
            corner *= 1 - np.float32(0.22) * near * near
        corner *= np.float32(1 / 0.78)  # Every point lies on one face already.
        lights = np.broadcast_to(self.lights, (3, *lit.shape))
        parts = (
            ((face == 1) & (self.p[1] > -0.5), "floor"),
            ((face == 1) & (self.p[1] <= -0.5), "ceiling"),
            (face == 0, "side"),
            (face == 2, "back"),
        )
        for mask, part in parts:
            if not mask.any():
                continue
            x, y, z = (p[mask] for p in self.p)
            lx, ly, lz = lights[0][mask], lights[1][mask], lights[2][mask]
            if part == "floor":
                factor = self._lambert(-ly, lit[mask], np.float32(1)) * contact[mask]
                f = np.float32(ground.frequency)
                painted = self._textured(ground, x * f, z * f, factor * corner[mask])
            elif part == "ceiling":
                factor = np.float32(np.sqrt(self.scene.ambient * 1.25)) * corner[mask]
                painted = np.asarray(room.ceiling, np.float32)[:, None] * factor
            else:
                along, cosine = (z, -np.sign(x) * lx) if part == "side" else (x, -np.sign(z) * lz)
                # Light bounced off the floor keeps walls away from the light from going flat.
                factor = self._lambert(np.float32(0.25) + np.float32(0.75) * cosine, lit[mask], np.float32(0.5))
                ramp = y / np.float32(room.low[1])
                f = np.float32(room.walls.frequency)
                painted = self._textured(room.walls, along * f, y * f, factor * corner[mask], ramp=ramp)
            color[:, mask] = painted

    def _shade_solid(self, color, index):
        solid = self.scene.solids[index]
        center, radius = np.array([solid.x, -0.5 * solid.height, solid.z]), solid.bounding_radius
        crop = self._crop(center, radius)
        if crop is None:
            return
        mask = self.owner[: self.colored][crop] == index
        if not mask.any():
            return
        px, py, pz = (p[crop][mask] for p in self.p)
        lx, ly, lz = (np.broadcast_to(light, mask.shape)[mask] for light in self.lights)
        nx, ny, nz, u, v = shapes.surface(solid, px, py, pz)
        lit = np.ones(px.shape, np.float32)
        light = np.asarray(self.scene.light)
        for other in self.scene.solids:
            between = np.array([other.x, -0.5 * other.height, other.z]) - center
            along = between @ light
            # Slack for the light's spread: at most _LIGHT_SPREAD * sqrt(2) radians either way.
            apart = np.linalg.norm(between - along * light) - 0.05 * np.linalg.norm(between)
            if other is solid or (self.cull and apart > radius + other.bounding_radius):
                continue
            lit[np.isfinite(shapes.intersect(other, px, py, pz, lx, ly, lz))] = 0
        low = np.maximum(1 + py / np.float32(0.5 * solid.height), 0)
        factor = self._lambert(nx * lx + ny * ly + nz * lz, lit, -ny) * (1 - np.float32(0.25) * low * low)
        ramp = np.clip(-py / np.float32(solid.height), 0, 1)
        color[(slice(None), *crop)][:, mask] = self._textured(solid.texture, u, v, factor, ramp=ramp)
