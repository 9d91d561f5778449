"""`ToyWorld`: samples of one size, by seed."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ...cameras import Cameras
from .paths import novel_cameras, sample_cameras
from .raycast import render_scene
from .scene import Scene, sample_scene


@dataclasses.dataclass(frozen=True)
class ToySample:
    """One training example.

    Attributes:
        scene: what was seen.
        prompt: the scene in words.
        cameras: V cameras of the path (world in meters, OpenCV axes).
        images: [V, 3, H, W] float32 in [0, 1].
        depth: [V, H, W] float32 z-depth in meters, finite everywhere.
        novel_cameras, novel_images, novel_depth: the same for N views off the path.
    """

    scene: Scene
    prompt: str
    cameras: Cameras
    images: Tensor
    depth: Tensor
    novel_cameras: Cameras
    novel_images: Tensor
    novel_depth: Tensor


@dataclasses.dataclass(frozen=True)
class ToyWorld:
    """An endless, seeded set of scenes seen by paths of ``views`` cameras at width x height pixels."""

    views: int
    width: int
    height: int
    supersample: int = 2

    def sample(self, seed: int, split: str = "train", novel_views: int = 2) -> ToySample:
        """The sample of a seed; "train" and "test" seeds never meet.

        Raises:
            FlashWorldError: unknown split, seed outside 0 .. 2**63 - 1, or views, size or supersample below 1.
        """
        scene = sample_scene(seed, split)
        path = sample_cameras(scene, self.views, self.width, self.height)
        novel = novel_cameras(scene, path, novel_views)
        poses = torch.cat([path.camera_to_world, novel.camera_to_world])
        every = Cameras(poses, torch.cat([path.intrinsics, novel.intrinsics]), self.width, self.height)
        images, depth = render_scene(scene, every, self.supersample)
        v = self.views
        return ToySample(scene, scene.prompt, path, images[:v], depth[:v], novel, images[v:], depth[v:])
