"""ToyWorld as a data source of training: prepared scenes by number, and what is kept out of them."""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch import Tensor

from ...cameras import Cameras
from ...datasets.toyworld.paths import novel_cameras, sample_cameras
from ...datasets.toyworld.prompt import write_prompt
from ...datasets.toyworld.raycast import render_scene
from ...datasets.toyworld.scene import COLORS, GROUNDS, SKIES, Scene, Sky, sample_scene
from ...datasets.toyworld.solids import KINDS
from ...datasets.toyworld.world import ToySample
from ...errors import FlashWorldError
from ..objectives.prepared_scenes import PreparedScene, prepare

_TRIES = 64
_ALIKE_OFFSET = 1 << 41
_OOD_OFFSET = 1 << 40  # seeds of out-of-distribution scenes start here


def is_held_out(color_word: str, kind: str) -> bool:
    """Whether a color of a solid is one that multi-view data never show on this kind: about a fifth of the pairs."""
    return (list(COLORS).index(color_word) + 2 * KINDS.index(kind)) % 5 == 0


@dataclasses.dataclass(frozen=True)
class ToyWorldData:
    """Prepared scenes of ToyWorld.

    Attributes:
        config: the model's sizes.
        seed: of the run; runs of different seeds see different scenes.
        split: "train" or "test".
        simple: one plain solid on plain ground under a plain sky, for models too small for more.
        hold_out: keep some pairs of color and kind out of multi-view data (`is_held_out`); "ood" scenes have one.
            Otherwise both kinds are drawn alike.
    """

    config: object
    seed: int = 0
    split: str = "train"
    simple: bool = False
    hold_out: bool = False

    def sample(self, kind: str, number: int, novel_views: int) -> PreparedScene:
        """The scene of a number, a pure function of kind and number.

        Args:
            kind: "multiview" or "ood"; of the latter only prompt, cameras and one picture may be used.

        Raises:
            FlashWorldError: another kind.
        """
        return prepare(self.raw(kind, number, novel_views), self.config)

    def raw(self, kind: str, number: int, novel_views: int) -> ToySample:
        """`sample` in meters and pixels."""
        scene = self.scene(kind, number)
        width, height, views = self.config.width, self.config.height, self.config.views
        path = sample_cameras(scene, views, width, height)
        novel = novel_cameras(scene, path, novel_views)
        poses = torch.cat([path.camera_to_world, novel.camera_to_world])
        every = Cameras(poses, torch.cat([path.intrinsics, novel.intrinsics]), width, height)
        images, depth = render_scene(scene, every, 2)
        return ToySample(scene, scene.prompt, path, images[:views], depth[:views], novel, images[views:], depth[views:])

    def alike(self, number: int, count: int) -> Tensor:
        """[K, T, H, W, 3] pictures of other scenes with the words of a plain "multiview" scene, at that scene's views.

        Kind, color, ground and sky are the scene's; place, turn, sizes and light are drawn anew.
        """
        scene = self.scene("multiview", number)
        path = sample_cameras(scene, self.config.views, self.config.width, self.config.height)
        solid, pictures, attempt = scene.solids[0], [], 0
        while len(pictures) < count:
            other = self._draw(_ALIKE_OFFSET + number * _TRIES * 64 + attempt)
            attempt += 1
            if other.solids[0].kind != solid.kind:
                continue
            painted = dataclasses.replace(other.solids[0], texture=solid.texture, color_word=solid.color_word)
            other = dataclasses.replace(
                other, solids=(painted,), ground=scene.ground, ground_word=scene.ground_word, sky=scene.sky
            )
            pictures.append(render_scene(other, path, 2)[0].permute(0, 2, 3, 1))
        return torch.stack(pictures)

    def scene(self, kind: str, number: int) -> Scene:
        """The scene alone."""
        if kind not in ("multiview", "ood"):
            raise FlashWorldError(f"ToyWorld has the kinds multiview and ood, not {kind!r}.")
        first = self.seed * 1_000_000_000 + (_OOD_OFFSET if kind == "ood" else 0)
        if not self.hold_out:
            return self._draw(first + number)
        for attempt in range(_TRIES):
            scene = self._draw(first + number * _TRIES + attempt)
            held = any(is_held_out(solid.color_word, solid.kind) for solid in scene.solids)
            if held == (kind == "ood"):
                return scene
        raise FlashWorldError(f"No {kind} scene near number {number}; use another seed.")

    def _draw(self, seed: int) -> Scene:
        scene = sample_scene(seed, self.split)
        return simplified(scene) if self.simple else scene


def simplified(scene: Scene) -> Scene:
    """The scene with its first solid alone, in one color, on a ground in one color, outdoors under a clear sky."""
    solid = scene.solids[0]
    solid = dataclasses.replace(solid, texture=dataclasses.replace(solid.texture, kind="plain"), size_word="")
    ground_word = scene.ground_word if scene.ground_word in GROUNDS else next(iter(GROUNDS))
    sky = dataclasses.replace(scene.sky or _sky(scene.seed), clouds=0.0)
    plain = dataclasses.replace(
        scene, solids=(solid,), ground=dataclasses.replace(scene.ground, kind="plain"), ground_word=ground_word,
        sky=sky, room=None,
    )  # fmt: skip
    return dataclasses.replace(plain, prompt=write_prompt(plain, 0))


@functools.cache
def _sky(seed: int) -> Sky:
    word = list(SKIES)[seed % len(SKIES)]
    horizon, zenith = SKIES[word]
    return Sky(word, horizon, zenith, 0.0, 0.0)
