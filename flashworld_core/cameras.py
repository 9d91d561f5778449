"""`Cameras`: the record that carries a camera path through the pack."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from .errors import FlashWorldError


@dataclasses.dataclass(frozen=True)
class Cameras:
    """A camera path: V pinhole cameras sharing one image size.

    Axes are OpenCV's, for camera and world alike: x right, y down, z forward. World units are the
    scene's own. Pixel (0, 0) covers [0, 1) x [0, 1): its center is at (0.5, 0.5).

    Attributes:
        camera_to_world: [V, 4, 4] float, rigid transforms (rotation, translation in world units).
        intrinsics: [V, 3, 3] float, pinhole matrices [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels.
        width: image width in pixels.
        height: image height in pixels.

    Raises:
        FlashWorldError: wrong shapes, non-finite values, or a size or focal length that is not positive.
    """

    camera_to_world: Tensor
    intrinsics: Tensor
    width: int
    height: int

    def __post_init__(self):
        c2w, k = self.camera_to_world, self.intrinsics
        if c2w.ndim != 3 or c2w.shape[1:] != (4, 4):
            raise FlashWorldError(f"camera_to_world must be [V, 4, 4], got {list(c2w.shape)}.")
        if k.ndim != 3 or k.shape[1:] != (3, 3) or len(k) != len(c2w):
            raise FlashWorldError(f"intrinsics must be [{len(c2w)}, 3, 3], one per pose, got {list(k.shape)}.")
        if self.width < 1 or self.height < 1:
            raise FlashWorldError(f"image size must be positive, got {self.width}x{self.height}.")
        if c2w.device.type != "meta":
            if not (torch.isfinite(c2w).all() and torch.isfinite(k).all()):
                raise FlashWorldError("poses and intrinsics must be finite numbers.")
            if len(k) and not (k[:, 0, 0].min() > 0 and k[:, 1, 1].min() > 0):
                raise FlashWorldError("focal lengths must be positive.")

    def __len__(self) -> int:
        return self.camera_to_world.shape[0]

    def __getitem__(self, index) -> Cameras:
        """The cameras at an int, slice or index list, always as a `Cameras`."""
        if isinstance(index, int):
            index = [index]
        return dataclasses.replace(self, camera_to_world=self.camera_to_world[index], intrinsics=self.intrinsics[index])

    @property
    def device(self) -> torch.device:
        return self.camera_to_world.device

    @property
    def world_to_camera(self) -> Tensor:
        """[V, 4, 4] inverse of `camera_to_world`, by transposing the rotation."""
        rotation_t = self.camera_to_world[:, :3, :3].transpose(1, 2)
        out = torch.zeros_like(self.camera_to_world)
        out[:, :3, :3] = rotation_t
        out[:, :3, 3] = -(rotation_t @ self.camera_to_world[:, :3, 3:])[..., 0]
        out[:, 3, 3] = 1
        return out

    @property
    def positions(self) -> Tensor:
        """[V, 3] camera centers in world units."""
        return self.camera_to_world[:, :3, 3]

    def to(self, device=None, dtype=None) -> Cameras:
        return dataclasses.replace(
            self, camera_to_world=self.camera_to_world.to(device, dtype), intrinsics=self.intrinsics.to(device, dtype)
        )

    def resized(self, width: int, height: int) -> Cameras:
        """The same views on another pixel grid: intrinsics scale with the image, poses stay."""
        scale = self.intrinsics.new_tensor([width / self.width, height / self.height, 1.0])
        return dataclasses.replace(self, intrinsics=self.intrinsics * scale[:, None], width=width, height=height)

    def fitted(self, width: int, height: int) -> Cameras:
        """Fit the cameras to images of another shape: scale to cover, then center-crop.

        Pixels keep their shape and the picture's middle stays the middle, as when a photograph is cropped.
        """
        scale = max(width / self.width, height / self.height)
        intrinsics = self.intrinsics.double().clone()
        intrinsics[:, :2] *= scale
        intrinsics[:, 0, 2] += (width - scale * self.width) / 2
        intrinsics[:, 1, 2] += (height - scale * self.height) / 2
        return dataclasses.replace(self, intrinsics=intrinsics.to(self.intrinsics.dtype), width=width, height=height)
