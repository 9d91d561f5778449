"""TRELLIS's asset frame, and cameras that look at an object.

Assets lie in the cube [-0.5, 0.5]^3 with z up. The world is ours (y down): (x, y, z) there is (x, -z, y) here, the turn
its own exporter makes. Lengths stay: an object is at most 1 wide, about the world's origin.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...cameras import Cameras
from ...gaussians import Gaussians
from ...geometry import intrinsics_from_vertical_fov, look_at
from ...ops.transform import transform

ASSET_TO_WORLD = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
DISTANCE, ELEVATION_DEGREES, FOV_DEGREES = 1.9, 25.0, 40.0  # of views of an object, from its front (-z in our world)


def to_world(scene: Gaussians) -> Gaussians:
    """Turn Gaussians from the asset frame into the world."""
    return transform(scene, rotation=ASSET_TO_WORLD)


def points_to_asset(points: Tensor) -> Tensor:
    """[..., 3] world to asset frame."""
    return points @ ASSET_TO_WORLD.to(points)


def object_cameras(
    views: int, width: int, height: int, *, first_degrees: float = 0.0, elevation_degrees: float = ELEVATION_DEGREES
) -> Cameras:
    """Cameras evenly around the origin, the first in front of the object and the second to its right.

    Args:
        first_degrees: turn of all of them.
        elevation_degrees: height above the horizon.
    """
    turns = math.radians(first_degrees) + 2 * math.pi * torch.arange(views, dtype=torch.float64) / max(views, 1)
    up = math.radians(elevation_degrees)
    flat = DISTANCE * math.cos(up)
    positions = torch.stack(
        [flat * turns.sin(), torch.full_like(turns, -DISTANCE * math.sin(up)), -flat * turns.cos()], 1
    )
    poses = look_at(positions, torch.zeros(3)).float()
    intrinsics = intrinsics_from_vertical_fov(FOV_DEGREES, width, height).float().expand(views, 3, 3)
    return Cameras(poses, intrinsics.clone(), width, height)
