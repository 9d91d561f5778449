"""Between the user's world and the normalised frame a scene is generated in."""

from __future__ import annotations

import dataclasses
import hashlib

import torch
from torch import Tensor

from ...cameras import Cameras
from ...gaussians import Gaussians
from .cameras import cameras_to_vectors, normalize_cameras, resample_cameras

# Below this distance between cameras (world units) a path counts as one that only turns.
STATIC_DISTANCE = 1e-8


@dataclasses.dataclass(frozen=True)
class WorldFrame:
    """Where FlashWorld's normalised OpenGL frame lies in the user's (OpenCV) world: p = scale * rotation @ q + t.

    One number scales splats and cameras alike: the largest distance of a camera from the first, plus FlashWorld's
    margin of 0.01, so that the user's own cameras see what the sampler rendered. A path that only turns (all
    cameras in one place) fixes no scale; there one normalised unit is one world unit.

    Attributes:
        rotation: [3, 3] float64 on the CPU.
        translation: [3] float64 on the CPU, position of the first camera in world units.
        scale: world units per normalised unit.
    """

    rotation: Tensor
    translation: Tensor
    scale: float

    def apply(self, gaussians: Gaussians) -> Gaussians:
        """A scene of the normalised frame in the user's world."""
        from ...scene import transform

        return transform(gaussians, rotation=self.rotation, translation=self.translation, scale=self.scale)


def normalize_path(cameras: Cameras, views: int | None = None) -> tuple[Tensor, Cameras, WorldFrame]:
    """A user's path as the networks take it.

    Args:
        cameras: at least one, in the user's world, intrinsics for the size the scene is generated at.
        views: resample to this many (slerp and lerp between neighbours); None takes the cameras as they are.

    Returns:
        [T, 11] float32 normalised camera vectors, the T cameras they stand for, and the frame they live in.
    """
    from .cameras import vectors_to_cameras

    # Double precision: cameras far from the origin would otherwise lose the small distances between them.
    vectors = cameras_to_vectors(cameras.to("cpu", torch.float64))
    if views is not None and views != len(cameras):
        vectors = resample_cameras(vectors, views)
        cameras = vectors_to_cameras(vectors, cameras.width, cameras.height).to(cameras.device, torch.float32)
    normalized, normalization = normalize_cameras(vectors)
    static = normalization.translation_norm <= STATIC_DISTANCE
    first = vectors_to_cameras(vectors[:1], cameras.width, cameras.height).camera_to_world[0]
    flip = first.new_tensor((1.0, -1.0, -1.0))  # half a turn about x: OpenGL axes to OpenCV's
    frame = WorldFrame(first[:3, :3] * flip, first[:3, 3], 1.0 if static else float(normalization.scale))
    return normalized.float(), cameras, frame


def path_hash(cameras: Cameras) -> str:
    """16 hexadecimal digits that tell camera paths apart: poses, intrinsics and image size, in float32."""
    digest = hashlib.sha256(f"{cameras.width}x{cameras.height}".encode())
    for tensor in (cameras.camera_to_world, cameras.intrinsics):
        digest.update(tensor.detach().cpu().to(torch.float32).contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()[:16]
