"""`Mixture`: samples from several sets, each a function of (seed, kind, number) alone.

No state is kept between samples: which clip, which window, which path and every other random number follow from the
seed and the sample's number. So the number of processes and of loading workers changes nothing, and a run that goes on
at number n reads nothing of what came before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..cameras import Cameras
from ..errors import FlashWorldError
from ..text import get_logger
from . import ood_paths, windows
from .clips import BrokenClip, Clip
from .draws import choice, shuffled, stream
from .index import ClipIndex
from .pixels import fitted, fitted_cameras, load_frames, load_views

logger = get_logger(__name__)

SampleKind = Literal["multiview", "ood", "image", "video"]
_WINDOWS = 8  # windows tried in one clip
_CLIPS = 16  # clips tried for one sample
LARGEST_FAILING = 0.01
"""Share of loads that may fail before a run is stopped; at least `FEWEST_FAILING` clips must have."""
FEWEST_FAILING = 10


@dataclasses.dataclass(frozen=True)
class Sample:
    """One sample, in the clip's or path's own world.

    Attributes:
        kind: what it is a sample of.
        prompt: the text; may be empty.
        images: [N, H, W, 3] float32 in [0, 1]: of "multiview" one for each camera, of "video" and "image" its frames,
            of "ood" the one picture there is, or none.
        views: T, the input views; cameras behind them are novel views.
        cameras: T + M, float64; None for images and videos.
        image_index: of "ood", the view the picture is given at.
        metric: the cameras' lengths mean meters; else nothing.
        source, id, frames: where it is from.
    """

    kind: SampleKind
    prompt: str
    images: Tensor
    views: int
    cameras: Cameras | None = None
    image_index: int | None = None
    metric: bool = False
    source: str = ""
    id: str = ""
    frames: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Part:
    """One set of a mixture.

    Attributes:
        index: the set's index.
        kind: the samples it is used for.
        weight: how often it is drawn beside the others of its kind.
        strides: frames between views, one drawn a sample.
        flip: share of multi-view samples that are mirrored; half of them are also played backwards.
    """

    index: ClipIndex
    kind: SampleKind
    weight: float = 1.0
    strides: tuple[int, ...] = (1,)
    flip: float = 0.5


class Mixture:
    """Samples of one size and number of views.

    Args:
        parts: the sets. Of kind "ood", those with cameras give paths, the others pictures and prompts; multi-view sets
            give paths too.
        views: input views of a sample.
        width, height: pixels.
        seed: of the run.
        turn: prepare clips and pictures that stand upright where the model's views lie (or the other way round) with
            width and height exchanged; not for samples that go through the networks together. Else their middle is
            used, which is said once.
        notify: told how many clips are too short.

    Raises:
        FlashWorldError: sets that do not fit their kind, or without a clip that is long enough.
    """

    def __init__(
        self, parts: Sequence[Part], *, views: int, width: int, height: int, seed: int = 0,
        turn: bool = False, notify=logger.warning,
    ):  # fmt: skip
        self.views, self.width, self.height, self.seed = views, width, height, seed
        self.turn, self.notify = turn, notify
        self.loads, self.failures, self.cropped = 0, {}, False
        self.parts: dict[str, list[tuple[Part, Tensor]]] = {}
        self.paths: list[tuple[Part, Tensor]] = []
        for part in parts:
            content = {"ood": ("image", "prompt")}.get(part.kind, (part.kind,))
            found = {"content": self._usable(part, content, notify)}
            found["path"] = found["content"] if part.kind == "multiview" else part.index.numbers(())
            if part.kind == "ood":
                found["path"] = self._usable(part, ("multiview",), notify)
            if not len(found["content"]) and not len(found["path"]):
                held = " and ".join(part.index.facts.get("kinds", ()))
                raise FlashWorldError(
                    f"The set {part.index.name} holds {held} clips, which cannot serve as {part.kind} data; give it "
                    "another kind."
                )
            if len(found["content"]):
                self.parts.setdefault(part.kind, []).append((part, found["content"]))
            if len(found["path"]):
                self.paths.append((part, found["path"]))
        if self.paths and any(part.kind == "ood" for part in parts) and "ood" not in self.parts:
            raise FlashWorldError(
                "The out-of-distribution sets give camera paths only; add one with pictures or prompts (image_text, "
                "listing, shards)."
            )

    def contents(self) -> list[tuple[Part, Tensor]]:
        """Every set with the numbers of the clips that samples are drawn from; sets that give paths alone aside."""
        return [part for parts in self.parts.values() for part in parts]

    def sample(self, kind: SampleKind, number: int, novel_views: int = 0) -> Sample:
        """The sample of a kind and number.

        A clip that cannot be loaded is replaced by the next of its set and counted.

        Raises:
            FlashWorldError: no set of this kind, or too many clips that fail; the message lists them.
        """
        if kind not in self.parts:
            raise FlashWorldError(f"The data have no sets of kind {kind}; they have {', '.join(self.parts)}.")
        rng = stream(self.seed, kind, number, "set")
        part, usable = self.parts[kind][choice(rng, {i: part.weight for i, (part, _) in enumerate(self.parts[kind])})]
        for attempt in range(_CLIPS):
            place = shuffled(number + attempt, len(usable), self.seed, kind, part.index.name)
            clip = part.index.clip(int(usable[place]))
            rng = stream(self.seed, kind, number, clip.id)
            self.loads += 1
            try:
                return self._load(part, clip, rng, kind, novel_views)
            except BrokenClip as error:
                self._count(part, clip, error)
        raise FlashWorldError(
            f"{_CLIPS} clips of {part.index.name} in a row could not be loaded; the last, {clip.id}: "
            f"{self.failures[part.index.name, clip.id]}"
        )

    def _usable(self, part: Part, kinds: Sequence[str], notify) -> Tensor:
        """Numbers of the clips of these kinds that are long enough."""
        numbers = part.index.numbers(kinds)
        if not len(numbers) or not {"multiview", "video"} & set(kinds):
            return numbers
        needed = windows.frames_needed(self.views, part.strides, part.kind == "multiview")
        usable = numbers[part.index.frames[numbers] >= needed]
        if not len(usable):
            raise FlashWorldError(
                f"No clip of {part.index.name} has the {needed} frames that {self.views} views at a stride of "
                f"{min(part.strides)} need; give smaller strides or a model of fewer views."
            )
        if len(usable) < len(numbers):
            notify(
                f"{len(numbers) - len(usable)} of {len(numbers)} clips of {part.index.name} are left out: they have "
                f"fewer than {needed} frames."
            )
        return usable

    def _count(self, part: Part, clip: Clip, error: BrokenClip) -> None:
        if not self.failures.get((part.index.name, clip.id)):
            logger.warning("%s of %s is replaced by the next clip: %s", clip.id, part.index.name, error)
        self.failures[part.index.name, clip.id] = str(error)
        if len(self.failures) >= FEWEST_FAILING and len(self.failures) > LARGEST_FAILING * self.loads:
            failed = list(self.failures.items())[:FEWEST_FAILING]
            listed = "; ".join(f"{name} {id}: {why}" for (name, id), why in failed)
            raise FlashWorldError(
                f"{len(self.failures)} clips of {self.loads} could not be loaded, more than {LARGEST_FAILING:.0%}. "
                f"Index the sets again, or bring their files back: {listed}"
            )

    def _size(self, width: int, height: int) -> tuple[int, int]:
        """The sample's size for a source of a size."""
        if (width - height) * (self.width - self.height) >= 0:
            return self.width, self.height
        if self.turn:
            return self.height, self.width
        if not self.cropped:
            self.cropped = True
            self.notify(
                f"Clips of {width}x{height} are cropped to the shape of {self.width}x{self.height} views; samples that "
                "go through the networks one by one could keep theirs."
            )
        return self.width, self.height

    def _load(self, part: Part, clip: Clip, rng, kind: SampleKind, novel_views: int) -> Sample:
        facts = {"kind": kind, "prompt": clip.prompt, "source": part.index.name, "id": clip.id}
        if kind == "multiview":
            return self._multiview(part, clip, rng, novel_views, facts)
        if kind == "ood":
            return self._ood(part, clip, rng, novel_views, facts)
        frames = [0]
        if kind == "video":
            frames, _ = windows.choose_window(rng, len(clip.frames), self.views, 0, part.strides)
        pictures = load_frames(part.index.root, clip, frames)
        size = self._size(*pictures[0].size)
        images = torch.stack([fitted(picture, *size) for picture in pictures])
        return Sample(images=images, views=len(frames), frames=tuple(frames), **facts)

    def _multiview(self, part: Part, clip: Clip, rng, novel_views: int, facts: dict) -> Sample:
        if not clip.frames:
            raise BrokenClip("its images are missing", "the set was indexed without them; use it for paths (kind ood)")
        inputs, novel = self._window(part, clip, rng, novel_views)
        if rng.random() < 0.5:
            inputs, novel = inputs[::-1], novel[::-1]
        flip = rng.random() < part.flip
        frames = [*inputs, *novel]
        images, cameras = load_views(part.index.root, clip, frames, *self._size(*clip.size))
        poses, k = cameras.camera_to_world, cameras.intrinsics
        if flip:
            images, poses, k = windows.mirrored(images, poses, k)
        cameras = Cameras(poses, k, cameras.width, cameras.height)
        return Sample(
            images=images, views=self.views, cameras=cameras, metric=clip.metric, frames=tuple(frames), **facts
        )

    def _window(self, part: Part, clip: Clip, rng, novel_views: int) -> tuple[list[int], list[int]]:
        positions = clip.poses[:, :3, 3]
        for _ in range(_WINDOWS):
            inputs, novel = windows.choose_window(rng, len(clip.poses), self.views, novel_views, part.strides)
            if not windows.hardly_moves(positions[inputs], positions, clip.depth):
                return inputs, novel
        raise BrokenClip("its camera hardly moves", f"in {_WINDOWS} windows")

    def _ood(self, part: Part, clip: Clip, rng, novel_views: int, facts: dict) -> Sample:
        size, images = (self.width, self.height), torch.zeros(0, self.height, self.width, 3)
        if clip.frames:
            picture = load_frames(part.index.root, clip, [0])[0]
            size = self._size(*picture.size)
            images = fitted(picture, *size)[None]
        path, index, metric = self._path(rng, *size)
        novel = ood_paths.between(rng, path.camera_to_world, novel_views)
        k = torch.cat([path.intrinsics, path.intrinsics[:1].expand(novel_views, 3, 3)]).double()
        cameras = Cameras(torch.cat([path.camera_to_world.double(), novel]), k, *size)
        index = index if len(images) else None
        return Sample(images=images, views=self.views, cameras=cameras, image_index=index, metric=metric, **facts)

    def _path(self, rng, width: int, height: int) -> tuple[Cameras, int, bool]:
        """A path, the view a picture is given at, and whether its lengths are meters."""
        kinds = {kind: weight for kind, weight in ood_paths.KINDS.items() if kind != "clip" or self.paths}
        kind = choice(rng, kinds)
        if kind != "clip":
            path, index = ood_paths.made_up_path(rng, kind, self.views, width, height)
            return path, index, False
        for _ in range(_CLIPS):  # upright pictures get upright clips' paths, where there are any
            part, usable = self.paths[choice(rng, {i: part.weight for i, (part, _) in enumerate(self.paths)})]
            clip = part.index.clip(int(usable[int(rng.integers(len(usable)))]))
            if (clip.size[0] - clip.size[1]) * (width - height) >= 0:
                break
        frames, _ = self._window(part, clip, rng, 0)
        cameras = fitted_cameras(clip, frames, width, height)
        return cameras, int(rng.integers(self.views)), clip.metric
