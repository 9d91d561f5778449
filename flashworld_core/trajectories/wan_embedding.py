"""Camera paths as Wan's camera-controlled models take them: a Pluecker ray per pixel and frame.

A ray is 6 numbers: o x d and d, where o is the camera's centre and d the unit direction through the pixel's centre,
both in the axes of the first camera (OpenCV). Wan's VAE folds 4 frames into one, except for the first frame, which
stands alone: the embedding repeats the first frame 4 times and folds every 4 frames into the channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..cameras import Cameras
from ..errors import FlashWorldError
from .keyframes import resample
from .poses import invert_pose

FOLD = 4  # frames per latent frame
MAX_BYTES = 16 << 30


def wan_length(views: int) -> int:
    """The next length Wan can make: 4k + 1 frames, at least ``views``."""
    return -(-(views - 1) // FOLD) * FOLD + 1


def wan_shape(cameras: Cameras) -> tuple[int, int, int, int, int]:
    """What `wan_camera_embedding` of these cameras measures."""
    return (1, 6 * FOLD, (wan_length(len(cameras)) + FOLD - 1) // FOLD, cameras.height, cameras.width)


def wan_camera_embedding(cameras: Cameras) -> Tensor:
    """The rays of a path. A length that is not 4k + 1 is resampled to the next such (`wan_length`), pacing kept.

    Args:
        cameras: V views. Their intrinsics are used as they are, with any principal point.

    Returns:
        [1, 24, (F + 3) / 4, H, W] float32 on the CPU, F = `wan_length` (V); channel 4 * i + j is number i of the ray
        in the j-th of 4 frames.

    Raises:
        FlashWorldError: no views, or more than `MAX_BYTES`.
    """
    if len(cameras) == 0:
        raise FlashWorldError("wan_camera_embedding: the camera path is empty.")
    shape = wan_shape(cameras)
    size = 4 * torch.Size(shape).numel()
    if size > MAX_BYTES:
        raise FlashWorldError(
            f"wan_camera_embedding: {len(cameras)} views of {cameras.width}x{cameras.height} take {size >> 30} GiB, "
            f"more than {MAX_BYTES >> 30}; use fewer frames or a smaller size."
        )
    frames = wan_length(len(cameras))
    if frames != len(cameras):
        cameras = resample(cameras, frames, timing="even")
    c2w = cameras.camera_to_world.double().cpu()
    relative = (invert_pose(c2w[0]) @ c2w).float()
    intrinsics = cameras.intrinsics.float().cpu()
    u = torch.arange(cameras.width) + 0.5
    v = torch.arange(cameras.height)[:, None] + 0.5

    out = torch.empty(shape)
    slots = out.view(6, FOLD, *shape[2:])
    for frame in range(frames):
        fx, fy, cx, cy = intrinsics[frame, [0, 1, 0, 1], [0, 1, 2, 2]]
        rays = torch.stack(torch.broadcast_tensors((u - cx) / fx, (v - cy) / fy, torch.ones(())))
        rays = rays / rays.norm(dim=0)
        rays = torch.einsum("ij,jhw->ihw", relative[frame, :3, :3], rays)
        centre = relative[frame, :3, 3, None, None].expand_as(rays)
        plucker = torch.cat([torch.linalg.cross(centre, rays, dim=0), rays])
        place = frame + FOLD - 1
        slots[:, place % FOLD, place // FOLD] = plucker
    slots[:, : FOLD - 1, 0] = slots[:, FOLD - 1 :, 0]
    return out
