"""Camera paths through a scene, as a user would draw them, and novel views near a path.

Scale: FlashWorld divides translations by the largest distance from view 0 (T_norm). A path is therefore
measured against D, the distance from its middle to the point it looks at: T_norm lies in `REACH` * D. In units of
T_norm that point is then 1.3 to 3.6 away, a view's median depth 1 to 8, the nearest ground 0.5, and no z-depth,
the sky dome's included, exceeds 30.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from ...cameras import Cameras
from ...errors import FlashWorldError
from .scene import Scene
from .seeds import generator

REACH = (0.28, 0.75)
"""Smallest and largest T_norm of a path, as a share of its distance to the scene."""
STRAIGHT_REACH = 0.36
"""T_norm of a path that moves without turning, as a share of its distance to the scene."""
DISTANCE = (2.6, 4.2)
"""Meters from the middle of a path to the point it looks at."""
CLEARANCE = 0.45
"""Meters a camera keeps from solids, walls, ceiling and ground."""
KINDS = ("orbit", "truck", "dolly", "pedestal", "combo")


def look_at(positions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[N, 4, 4] camera-to-world (OpenCV axes) at positions [N, 3], facing targets [N, 3], without roll."""
    forward = targets - positions
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(np.array([0.0, 1.0, 0.0]), forward)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    poses = np.tile(np.eye(4), (len(positions), 1, 1))
    poses[:, :3, 0], poses[:, :3, 1], poses[:, :3, 2] = right, np.cross(forward, right), forward
    poses[:, :3, 3] = positions
    return poses


def _rotation(axis: int, angles: np.ndarray) -> np.ndarray:
    """[N, 3, 3] turns about x (0) or y (1)."""
    c, s = np.cos(angles), np.sin(angles)
    out = np.tile(np.eye(3), (len(angles), 1, 1))
    i, j = ((1, 2), (2, 0))[axis]
    out[:, i, i], out[:, j, j], out[:, i, j], out[:, j, i] = c, c, -s, s
    return out


def is_clear(scene: Scene, positions: np.ndarray) -> bool:
    """True where every position [N, 3] keeps `CLEARANCE` from solids, ground and the room's sides."""
    if (positions[:, 1] > -CLEARANCE).any():
        return False
    if scene.room is not None:
        low, high = np.array(scene.room.low), np.array(scene.room.high)
        if (positions < low + CLEARANCE).any() or (positions > high - CLEARANCE).any():
            return False
    return all((solid.distance(positions) >= CLEARANCE).all() for solid in scene.solids)


def _draw_path(rng, kind: str, views: int, distance: float) -> np.ndarray:
    """[V, 4, 4] poses of one attempt."""
    s = np.linspace(0, 1, views) if views > 1 else np.array([0.5])
    ease = rng.uniform(0, 0.8)
    s = ((1 - ease) * s + ease * s * s * (3 - 2 * s)) - 0.5
    if rng.random() < 0.5:
        s = -s
    azimuth, height = math.radians(rng.uniform(-18, 18)), rng.uniform(0.95, 1.6)
    target = np.array([rng.uniform(-0.15, 0.15), -rng.uniform(0.3, 0.55), rng.uniform(-0.1, 0.2)])
    rise = height + target[1]
    radius = math.sqrt(distance**2 - rise**2)
    # Orbit in cylindrical coordinates, then a straight move on top.
    # Poses alone must tell how far the scene is, since normalization hides the unit: either the camera turns to
    # keep its target in the middle, or it does not turn and has moved by exactly `STRAIGHT_REACH` of the distance.
    swing = {"orbit": rng.uniform(0.31, 0.74), "combo": rng.uniform(0.25, 0.6)}.get(kind, 0.0)
    zoom = rng.uniform(-0.12, 0.12) if kind in ("orbit", "combo") else 0.0
    angle = azimuth + 2 * math.asin(swing / 2) * s
    r = radius * (1 + zoom * s)
    positions = target + np.stack([r * np.sin(angle), np.full(views, -rise), -r * np.cos(angle)], 1)
    right = np.array([math.cos(azimuth), 0, math.sin(azimuth)])
    ahead = np.array([-math.sin(azimuth), 0, math.cos(azimuth)])
    up = np.array([0.0, -1.0, 0.0])
    tracking = kind == "combo" or (kind in ("truck", "pedestal") and rng.random() < 0.6)
    move = np.zeros(3)
    if kind == "truck":
        move = right * rng.uniform(0.3, 0.65) + ahead * rng.uniform(-0.1, 0.1)
    elif kind == "dolly":
        move = ahead + up * rng.uniform(-0.1, 0.1) + right * rng.uniform(-0.25, 0.25)
    elif kind == "pedestal":
        move = up * rng.uniform(0.29, 0.4) + right * rng.uniform(-0.1, 0.1)
    elif kind == "combo":
        move = right * rng.uniform(-0.1, 0.1) + ahead * rng.uniform(-0.25, 0.25) + up * rng.uniform(-0.15, 0.15)
    if kind in ("truck", "dolly", "pedestal") and not tracking:
        move *= STRAIGHT_REACH / (np.linalg.norm(move) * (s.max() - s.min() if views > 1 else 1.0))
    offset = s[:, None] * move * distance
    poses = look_at(positions + offset, target + (0 if tracking else 1) * offset)
    pan, tilt = np.radians(rng.uniform(-1.5, 1.5)), np.radians(rng.uniform(-1, 1))
    poses[:, :3, :3] = _rotation(1, pan * s) @ poses[:, :3, :3] @ _rotation(0, tilt * s)
    return poses


def sample_cameras(scene: Scene, views: int, width: int, height: int) -> Cameras:
    """A smooth path of ``views`` cameras that look at the scene from about a meter above the ground.

    Kinds: orbit (up to 22 degrees either way), truck, dolly, pedestal, and combos, with eased speed, small pans
    and tilts; vertical field of view 45 to 65 degrees. Drawn from the "path" stream of the scene's (seed,
    split); attempts that break `REACH` or `CLEARANCE` are drawn again.

    Raises:
        FlashWorldError: views below 1, or no clear path found (does not happen for sampled scenes).
    """
    if views < 1:
        raise FlashWorldError(f"views must be at least 1, got {views}.")
    rng = generator(scene.seed, scene.split, "path")
    kind = KINDS[int(rng.choice(len(KINDS), p=(0.34, 0.2, 0.14, 0.1, 0.22)))]
    fov = math.radians(rng.uniform(45, 65))
    # Stand where about three meters of scene fill the picture's height; further away for upright pictures.
    span = rng.uniform(2.7, 3.4) * max(1.0, min(1.25, 1.2 * height / width))
    distance = float(np.clip(span / (2 * math.tan(fov / 2)), *DISTANCE))
    for _ in range(200):
        poses = _draw_path(rng, kind, views, distance)
        reach = np.linalg.norm(poses[:, :3, 3] - poses[0, :3, 3], axis=1).max() / distance
        if (views == 1 or REACH[0] <= reach <= REACH[1]) and is_clear(scene, poses[:, :3, 3]):
            break
    else:
        raise FlashWorldError(f"There is no clear path in the scene of seed {scene.seed}; use another seed.")
    focal = 0.5 * height / math.tan(fov / 2)
    k = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float32)
    return Cameras(torch.from_numpy(poses).float(), k.expand(views, 3, 3).clone(), width, height)


def _slerp_rotation(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """Rotation matrix part of the way from a to b, by its axis and angle."""
    delta = a.T @ b
    angle = math.acos(float(np.clip((np.trace(delta) - 1) / 2, -1, 1)))
    if angle < 1e-6:
        return a.copy()
    axis = np.array([delta[2, 1] - delta[1, 2], delta[0, 2] - delta[2, 0], delta[1, 0] - delta[0, 1]])
    axis /= 2 * math.sin(angle)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = share * angle
    return a @ (np.eye(3) + math.sin(turn) * cross + (1 - math.cos(turn)) * cross @ cross)


def novel_cameras(scene: Scene, cameras: Cameras, count: int) -> Cameras:
    """``count`` cameras between the poses of a path, moved off it a little: views to judge a scene by.

    Each lies at a uniform place along the path, shifted by up to 6 % of the path's reach along each axis and
    turned by up to 2 degrees. Drawn from the "novel" stream of the scene's (seed, split); intrinsics are those
    of the path's first view. A shift that would break `CLEARANCE` is drawn again, at last left out.

    Raises:
        FlashWorldError: an empty path, or a negative count.
    """
    if not len(cameras) or count < 0:
        raise FlashWorldError(f"Novel views need a path and count >= 0, got {len(cameras)} poses, count {count}.")
    rng = generator(scene.seed, scene.split, "novel")
    path = cameras.camera_to_world.detach().cpu().double().numpy()
    reach = np.linalg.norm(path[:, :3, 3] - path[0, :3, 3], axis=1).max()
    poses = []
    for _ in range(count):
        for attempt in range(20):
            place = rng.uniform(0, len(path) - 1)
            left = min(int(place), max(len(path) - 2, 0))
            right, share = min(left + 1, len(path) - 1), place - left
            pose = np.eye(4)
            pose[:3, 3] = (1 - share) * path[left, :3, 3] + share * path[right, :3, 3]
            pose[:3, :3] = _slerp_rotation(path[left, :3, :3], path[right, :3, :3], share)
            shift = rng.uniform(-0.06, 0.06, 3) * reach
            yaw, pitch = np.radians(rng.uniform(-2, 2, 2))
            if attempt < 19:
                pose[:3, 3] += shift
                pose[:3, :3] = _rotation(1, np.array([yaw]))[0] @ pose[:3, :3] @ _rotation(0, np.array([pitch]))[0]
            if is_clear(scene, pose[None, :3, 3]):
                break
        poses.append(pose)
    to_world = torch.from_numpy(np.array(poses).reshape(-1, 4, 4)).to(cameras.camera_to_world.dtype)
    k = cameras.intrinsics[:1].cpu().expand(count, 3, 3).clone()
    return Cameras(to_world, k, cameras.width, cameras.height)
