"""Exact images of objects: rays against ellipsoids and boxes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...cameras import Cameras
from .draw import ProceduralObject, Solid, shaded


def intersect(solid: Solid, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ray parameters [n] of the first hits (inf where there is none) and outward unit normals [n, 3] there."""
    center, half, rotation = (v.astype(directions.dtype) for v in (solid.center, solid.half, solid.rotation))
    o = (origins - center) @ rotation / half
    d = directions @ rotation / half
    if solid.kind == "ellipsoid":
        a, b, c = (d * d).sum(1), (o * d).sum(1), (o * o).sum(1) - 1
        inside = b * b - a * c
        t = np.where(inside > 0, (-b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)
        local = o + np.where(np.isfinite(t), t, 0)[:, None] * d
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            near, far = np.sort(np.stack([(-1 - o) / d, (1 - o) / d]), 0)
        enter = near.max(1)
        t = np.where(enter <= far.min(1), enter, np.inf)
        axis = near.argmax(1)
        local, rows = np.zeros_like(d), np.arange(len(d))
        local[rows, axis] = -np.sign(d[rows, axis])
    t = np.where(t > 1e-6, t, np.inf)
    normals = (local / half) @ rotation.T
    return t, normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def render_object(shape: ProceduralObject, cameras: Cameras, samples: int = 2) -> Tensor:
    """Render an object without background.

    Args:
        cameras: V views.
        samples: rays along each side of a pixel, averaged.

    Returns:
        [V, H, W, 4] float32: straight colors in [0, 1], and coverage.
    """
    height, width = cameras.height, cameras.width
    v, u = np.meshgrid((np.arange(height * samples) + 0.5) / samples, (np.arange(width * samples) + 0.5) / samples,
                       indexing="ij")  # fmt: skip
    images = []
    for pose, k in zip(cameras.camera_to_world.double().numpy(), cameras.intrinsics.double().numpy(), strict=True):
        rays = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones_like(u)], -1).reshape(-1, 3)
        directions = (rays @ pose[:3, :3].T).astype(np.float32)
        origin = pose[:3, 3].astype(np.float32)
        nearest, color = np.full(len(rays), np.inf, np.float32), np.zeros((len(rays), 3), np.float32)
        for solid in shape.solids:
            away, reach = origin - solid.center, solid.half @ solid.half  # only rays that meet its bounding sphere
            along = directions @ away
            length = (directions**2).sum(1)
            rows = np.nonzero(along**2 >= length * (away @ away - reach))[0]
            t, normals = intersect(solid, origin[None], directions[rows])
            closer = t < nearest[rows]
            nearest[rows[closer]] = t[closer]
            color[rows[closer]] = shaded(solid.color, normals[closer])
        alpha = np.isfinite(nearest).astype(np.float32)[:, None]
        pixels = np.concatenate([color * alpha, alpha], 1)
        pixels = pixels.reshape(height, samples, width, samples, 4).mean((1, 3))
        pixels[..., :3] /= np.maximum(pixels[..., 3:], 1e-6)
        images.append(torch.from_numpy(pixels).float())
    return torch.stack(images)
