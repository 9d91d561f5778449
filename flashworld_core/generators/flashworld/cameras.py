"""FlashWorld's own cameras: vectors of 11 numbers in an OpenGL frame, scene normalization, rays and raymaps.

A camera vector is (qw, qx, qy, qz, tx, ty, tz, fx/W, fy/H, cx/W, cy/H): camera-to-world rotation and position, then
intrinsics as fractions of the image size. Camera and world axes are OpenGL's: x right, y up, the camera looks along -z.
All functions work in the dtype they are given.
"""

from __future__ import annotations

import dataclasses
import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor

from ...cameras import Cameras
from ...errors import FlashWorldError
from ...gaussians import Gaussians
from ...geometry import matrices_to_quats, quats_to_matrices

# Added to the largest camera distance before dividing by it, so that a camera that only turns stays finite.
NORMALIZATION_MARGIN = 0.01
# OpenGL axes in terms of OpenCV's: y and z change sign. The same for world and camera, hence on both sides of a pose.
_FLIP = (1.0, -1.0, -1.0, 1.0)


def camera_to_world_matrices(cameras: Tensor) -> Tensor:
    """[..., 11] camera vectors -> [..., 4, 4] camera-to-world, OpenGL axes."""
    pose = cameras.new_zeros(*cameras.shape[:-1], 4, 4)
    pose[..., :3, :3] = quats_to_matrices(cameras[..., :4])
    pose[..., :3, 3] = cameras[..., 4:7]
    pose[..., 3, 3] = 1
    return pose


def pack_cameras(camera_to_world: Tensor, intrinsics: Tensor) -> Tensor:
    """[..., 4, 4] OpenGL camera-to-world and [..., 4] (fx/W, fy/H, cx/W, cy/H) -> [..., 11] camera vectors."""
    quats = matrices_to_quats(camera_to_world[..., :3, :3])
    return torch.cat((quats, camera_to_world[..., :3, 3], intrinsics.to(quats.dtype)), -1)


def resample_cameras(cameras: Tensor, count: int) -> Tensor:
    """``count`` camera vectors spaced evenly in index along a path: [N, 11] -> [count, 11].

    Rotations by spherical interpolation between neighbors, the rest linearly. A path of one camera is repeated; a
    single sample is the path's first camera.

    Raises:
        FlashWorldError: no cameras, or a count below 1.
    """
    _check_vectors("resample_cameras", cameras)
    if count < 1:
        raise FlashWorldError(f"At least one camera must be asked for, got {count}.")
    n = len(cameras)
    if n == 1 or count == 1:
        return cameras[:1].repeat(count, 1)
    # In whole numbers, so that samples that fall on a camera fall exactly on it.
    numerator = torch.arange(count, device=cameras.device) * (n - 1)
    left = torch.div(numerator, count - 1, rounding_mode="floor").clamp(max=n - 2)
    f = ((numerator - left * (count - 1)).double() / (count - 1)).to(cameras.dtype)[:, None]
    a, b = cameras[left], cameras[left + 1]
    return torch.cat((_slerp(a[:, :4], b[:, :4], f), torch.lerp(a[:, 4:], b[:, 4:], f)), -1)


def _slerp(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Spherical interpolation of quaternions [M, 4], shorter way round; FlashWorld's epsilons."""
    a, b = _unit(a), _unit(b)
    dot = (a * b).sum(-1, keepdim=True)
    b, dot = torch.where(dot < 0, -b, b), dot.abs()
    angle = torch.acos(dot.clamp(0, 1))
    sine = torch.sin(angle) + 1e-10
    q = a * (torch.sin((1 - f) * angle) / sine) + b * (torch.sin(f * angle) / sine)
    return F.normalize(torch.where(angle < 1e-5, a, q), dim=-1)


def _unit(quats: Tensor) -> Tensor:
    # Quaternions that are unit up to rounding stay bit for bit what they are: between nearly equal poses the angle
    # hangs on the last bit of the dot product.
    length = torch.linalg.vector_norm(quats, dim=-1, keepdim=True)
    return torch.where((length - 1).abs() < 1e-5, quats, quats / length)


@dataclasses.dataclass(frozen=True)
class SceneNormalization:
    """The map from a path's own world to FlashWorld's normalized one: the first camera's frame, cameras within 1 unit.

    Attributes:
        reference_world_to_camera: [4, 4], inverse pose of the path's first camera (OpenGL).
        translation_norm: 0-d, largest distance of a camera from the first, in the path's units.
    """

    reference_world_to_camera: Tensor
    translation_norm: Tensor

    @property
    def scale(self) -> Tensor:
        """0-d: the path's units per normalized unit. The same number scales splats and cameras."""
        return self.translation_norm + NORMALIZATION_MARGIN

    def apply(self, cameras: Tensor) -> Tensor:
        """[N, 11] camera vectors of the path's world -> [N, 11] in the normalized frame."""
        reference = self.reference_world_to_camera.to(cameras)
        pose = _compose(reference, camera_to_world_matrices(cameras))
        pose[..., :3, 3] = pose[..., :3, 3] / self.scale.to(cameras)
        return pack_cameras(pose, cameras[..., 7:])

    def invert(self, cameras: Tensor) -> Tensor:
        """[N, 11] camera vectors of the normalized frame -> [N, 11] in the path's world."""
        pose = camera_to_world_matrices(cameras)
        pose[..., :3, 3] = pose[..., :3, 3] * self.scale.to(cameras)
        pose = _compose(_rigid_inverse(self.reference_world_to_camera.to(cameras)), pose)
        return pack_cameras(pose, cameras[..., 7:])


def normalize_cameras(cameras: Tensor) -> tuple[Tensor, SceneNormalization]:
    """Poses relative to the first camera, distances divided by the largest of them plus a margin.

    Args:
        cameras: [N, 11] camera vectors, already resampled to the model's number of views.

    Returns:
        The [N, 11] normalized vectors, and the map for further cameras of the same path.

    Raises:
        FlashWorldError: no cameras, numbers that are not finite, or a zero quaternion.
    """
    _check_vectors("normalize_cameras", cameras)
    reference = _rigid_inverse(camera_to_world_matrices(cameras[0]))
    relative = _compose(reference, camera_to_world_matrices(cameras))[:, :3, 3]
    normalization = SceneNormalization(reference, torch.linalg.vector_norm(relative, dim=-1).amax())
    return normalization.apply(cameras), normalization


def video_cameras(cameras: Tensor, normalization: SceneNormalization, *, frames_per_view: int = 15) -> Tensor:
    """The smooth path through a scene's views: (N - 1) * frames_per_view + 1 cameras, normalized like the scene.

    Args:
        cameras: [N, 11] un-normalized camera vectors the scene was made with.
        normalization: as returned for them by `normalize_cameras`.
        frames_per_view: frames from one view to the next.
    """
    return normalization.apply(resample_cameras(cameras, (len(cameras) - 1) * frames_per_view + 1))


def camera_rays(cameras: Tensor, height: int, width: int, uv_offset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Rays through the pixel centers of a height x width grid over the image.

    Args:
        cameras: [N, 11] camera vectors.
        uv_offset: optional [N, ..., height, width, 2], shift of the rays in units of the principal point (u right, v
            down).

    Returns:
        Origins [N, 3] and unit directions [N, ..., height, width, 3], in the cameras' world frame.
    """
    fx, fy, cx, cy = (cameras[:, i, None, None] for i in range(7, 11))
    u = (torch.arange(width, device=cameras.device, dtype=cameras.dtype) + 0.5) / (cx * width)  # [N, 1, width]
    v = (torch.arange(height, device=cameras.device, dtype=cameras.dtype)[:, None] + 0.5) / (cy * height)
    rotation = quats_to_matrices(cameras[:, :4])
    if uv_offset is not None:
        extra = [1] * (uv_offset.ndim - 4)  # dimensions between the frame and the grid
        n = len(cameras)
        u = u.reshape(n, *extra, 1, width) + uv_offset[..., 0]
        v = v.reshape(n, *extra, height, 1) + uv_offset[..., 1]
        fx, fy, cx, cy = (item.reshape(n, *extra, 1, 1) for item in (fx, fy, cx, cy))
    x, y = (u - 1) * (cx / fx), (1 - v) * (cy / fy)
    right, up, back = (rotation[:, :, i].reshape(len(cameras), *[1] * (x.ndim - 1), 3) for i in range(3))
    return cameras[:, 4:7], F.normalize(x[..., None] * right + y[..., None] * up - back, dim=-1)


def raymaps(cameras: Tensor, height: int, width: int) -> Tensor:
    """[N, 6, height, width] ray coordinates: unit direction d, then the ray's point nearest to the world's origin.

    The two are perpendicular and the second does not depend on where along the ray the camera stands (reference-point
    Pluecker coordinates).
    """
    origins, d = camera_rays(cameras, height, width)
    o = origins[:, None, None]
    nearest = o - (o * d).sum(-1, keepdim=True) * d
    return torch.cat((d, nearest), -1).movedim(-1, 1)


def cameras_to_vectors(cameras: Cameras) -> Tensor:
    """`Cameras` (OpenCV axes, pixels) -> [V, 11] camera vectors (OpenGL axes, fractions), same world units.

    Both frames share their origin: the OpenGL world is the OpenCV one turned by half a turn around x.
    """
    flip = cameras.camera_to_world.new_tensor(_FLIP)
    pose = cameras.camera_to_world * flip[:, None] * flip
    k = cameras.intrinsics
    w, h = cameras.width, cameras.height
    intrinsics = torch.stack((k[:, 0, 0] / w, k[:, 1, 1] / h, k[:, 0, 2] / w, k[:, 1, 2] / h), -1)
    return pack_cameras(pose, intrinsics)


def vectors_to_cameras(cameras: Tensor, width: int, height: int) -> Cameras:
    """[V, 11] camera vectors -> `Cameras` for images of width x height pixels; inverse of `cameras_to_vectors`."""
    flip = cameras.new_tensor(_FLIP)
    pose = camera_to_world_matrices(cameras) * flip[:, None] * flip
    return Cameras(pose, _pixel_intrinsics(cameras, width, height), width, height)


def rendering_matrices(cameras: Tensor, width: int, height: int) -> tuple[Tensor, Tensor]:
    """What a rasterizer needs to render Gaussians that live in the camera vectors' own (OpenGL) world.

    Args:
        cameras: [V, 11] camera vectors.
        width, height: image size in pixels.

    Returns:
        world_to_camera [V, 4, 4], from the OpenGL world to OpenCV camera axes, and intrinsics [V, 3, 3] in pixels.
    """
    pose = camera_to_world_matrices(cameras) * cameras.new_tensor(_FLIP)  # camera axes only: columns
    return _rigid_inverse(pose), _pixel_intrinsics(cameras, width, height)


def _pixel_intrinsics(cameras: Tensor, width: int, height: int) -> Tensor:
    k = cameras.new_zeros(*cameras.shape[:-1], 3, 3)
    k[..., 0, 0], k[..., 1, 1] = cameras[..., 7] * width, cameras[..., 8] * height
    k[..., 0, 2], k[..., 1, 2] = cameras[..., 9] * width, cameras[..., 10] * height
    k[..., 2, 2] = 1
    return k


def _compose(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product of small matrices, in full precision whatever autocast is in force around it."""
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def _rigid_inverse(pose: Tensor) -> Tensor:
    """Inverse of [..., 4, 4] rigid transforms (any handedness) by transposing the rotation."""
    transposed = pose[..., :3, :3].transpose(-1, -2)
    inverse = torch.zeros_like(pose)
    inverse[..., :3, :3] = transposed
    inverse[..., :3, 3] = -_compose(transposed, pose[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1
    return inverse


def _check_vectors(function: str, cameras: Tensor):
    if cameras.ndim != 2 or cameras.shape[1] != 11 or len(cameras) == 0:
        raise FlashWorldError(f"{function}: camera vectors must be [N, 11] with N >= 1, got {list(cameras.shape)}.")
    if not torch.isfinite(cameras).all():
        raise FlashWorldError(f"{function}: camera vectors must be finite numbers.")
    if (cameras[:, :4] == 0).all(-1).any():
        raise FlashWorldError(f"{function}: a rotation quaternion is zero; it needs at least one component.")


# Below this distance between cameras (world units) a path counts as one that only turns.
STATIC_DISTANCE = 1e-8


@dataclasses.dataclass(frozen=True)
class WorldFrame:
    """Where FlashWorld's normalized OpenGL frame lies in the user's (OpenCV) world: p = scale * rotation @ q + t.

    One number scales splats and cameras alike: the largest distance of a camera from the first, plus FlashWorld's
    margin of 0.01, so that the user's own cameras see what the sampler rendered. A path that only turns (all
    cameras in one place) fixes no scale; there one normalized unit is one world unit.

    Attributes:
        rotation: [3, 3] float64 on the CPU.
        translation: [3] float64 on the CPU, position of the first camera in world units.
        scale: world units per normalized unit.
    """

    rotation: Tensor
    translation: Tensor
    scale: float

    def apply(self, gaussians: Gaussians) -> Gaussians:
        """A scene of the normalized frame in the user's world."""
        from ...ops.transform import transform

        return transform(gaussians, rotation=self.rotation, translation=self.translation, scale=self.scale)


def normalize_path(cameras: Cameras, views: int | None = None) -> tuple[Tensor, Cameras, WorldFrame]:
    """A user's path as the networks take it.

    Args:
        cameras: at least one, in the user's world, intrinsics for the size the scene is generated at.
        views: resample to this many (slerp and lerp between neighbors); None takes the cameras as they are.

    Returns:
        [T, 11] float32 normalized camera vectors, the T cameras they stand for, and the frame they live in.
    """
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
