"""Points on the outer surface of an object."""

from __future__ import annotations

import numpy as np

from .draw import ProceduralObject, Solid, shaded


def surface_points(shape: ProceduralObject, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spread points over an object's surface; what lies inside another of its solids is left out.

    Args:
        count: points drawn, in proportion to the solids' sizes; fewer are returned where solids overlap.

    Returns:
        Positions, unit outward normals and shaded colors, [n, 3] each.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    sizes = np.array([(s.half[0] * s.half[1] + s.half[1] * s.half[2] + s.half[0] * s.half[2]) for s in shape.solids])
    shares = np.maximum(1, (count * sizes / sizes.sum()).astype(int))
    found = []
    for i, (solid, share) in enumerate(zip(shape.solids, shares, strict=True)):
        local, normals = _on_solid(solid, int(share), rng)
        points = solid.center + (local * solid.half) @ solid.rotation.T
        normals = normals @ solid.rotation.T
        outside = np.ones(len(points), bool)
        for j, other in enumerate(shape.solids):
            if j != i:
                outside &= ~_inside(other, points)
        found.append((points[outside], normals[outside], shaded(solid.color, normals[outside])))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def _on_solid(solid: Solid, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points on the unit sphere or cube that becomes the solid, and normals in the solid's own axes."""
    if solid.kind == "ellipsoid":
        local = rng.normal(size=(count, 3))
        local /= np.linalg.norm(local, axis=1, keepdims=True)
        normals = local / solid.half
        return local, normals / np.linalg.norm(normals, axis=1, keepdims=True)
    x, y, z = solid.half
    areas = np.array([y * z, x * z, x * y])
    axis = rng.choice(3, count, p=areas / areas.sum())
    local, normals, rows = rng.uniform(-1, 1, (count, 3)), np.zeros((count, 3)), np.arange(count)
    local[rows, axis] = normals[rows, axis] = rng.choice([-1.0, 1.0], count)
    return local, normals


def _inside(solid: Solid, points: np.ndarray) -> np.ndarray:
    local = (points - solid.center) @ solid.rotation / solid.half
    return (local**2).sum(1) < 1 if solid.kind == "ellipsoid" else (np.abs(local) < 1).all(1)
