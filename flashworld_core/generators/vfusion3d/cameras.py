"""VFusion3D's frame: z up, camera axes as in OpenGL, the source camera at (1, 0, 0) looking at the origin.

In our world an object stands at the origin and shows its front to a viewer in front of it (at -z, looking along +z).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...cameras import Cameras
from ...geometry import pose

FOCAL = 0.75  # over the image's side (384 / 512)
ORBIT_RADIUS, ORBIT_VIEWS, ORBIT_SIZE = 1.5, 160, 384
# Columns are the axes of VFusion3D's world in ours: its x points at the viewer, its y to the right, its z up.
TO_WORLD = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (-1.0, 0.0, 0.0))


def to_world() -> Tensor:
    """[3, 3] float64 rotation from VFusion3D's axes to ours."""
    return torch.tensor(TO_WORLD, dtype=torch.float64)


def look_at_origin(positions: Tensor) -> Tensor:
    """[V, 3, 4] camera-to-world with the axes right, up, back, of cameras at [V, 3] that look at the origin; z up."""
    back = torch.nn.functional.normalize(positions, dim=-1)
    up = positions.new_tensor([0.0, 0.0, 1.0]).expand_as(back)
    right = torch.nn.functional.normalize(torch.linalg.cross(up, back, dim=-1), dim=-1)
    up = torch.linalg.cross(back, right, dim=-1)
    return torch.stack([right, up, back, positions], dim=-1)


def source_camera() -> Tensor:
    """[1, 16] the camera every image is taken to be seen from: 3x4 camera-to-world row by row, then fx, fy, cx, cy over
    the image's size."""
    c2w = look_at_origin(torch.tensor([[1.0, 0.0, 0.0]]))
    return torch.cat([c2w.flatten(1), torch.tensor([[FOCAL, FOCAL, 0.5, 0.5]])], dim=1)


def our_cameras(camera_to_world: Tensor, size: int, focal: float = FOCAL) -> Cameras:
    """Cameras of ours from VFusion3D's [V, 3, 4], for square images.

    Args:
        camera_to_world: the axes right, up, back, in its world.
        size: pixels.
        focal: over the image's side.
    """
    c2w, turn = camera_to_world.double(), to_world()
    axes = c2w[:, :, :3] * c2w.new_tensor([1.0, -1.0, -1.0])  # right, down, forward
    k = torch.tensor([[focal * size, 0, size / 2], [0, focal * size, size / 2], [0, 0, 1]])
    return Cameras(pose(turn @ axes, c2w[:, :, 3] @ turn.T).float(), k.expand(len(c2w), 3, 3).clone(), size, size)


def orbit(views: int = ORBIT_VIEWS, size: int = ORBIT_SIZE, elevation_degrees: float = 0.0) -> Cameras:
    """A turn around the object that begins at its front, as VFusion3D shows its results."""
    angles = torch.arange(views, dtype=torch.float64) * (2 * math.pi / views)
    tilt = math.radians(elevation_degrees)
    flat = math.cos(tilt)
    positions = torch.stack([flat * angles.cos(), flat * angles.sin(), torch.full_like(angles, math.sin(tilt))], dim=-1)
    return our_cameras(look_at_origin(ORBIT_RADIUS * positions), size)
