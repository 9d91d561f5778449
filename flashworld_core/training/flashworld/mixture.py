"""Data sets as a data source of training: samples of a `datasets.mixture.Mixture` in FlashWorld's normalized frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ...datasets.draws import stream
from ...datasets.index import ClipIndex
from ...datasets.mixture import Mixture, Part, Sample
from ...errors import FlashWorldError
from ...generators.flashworld import cameras as fw_cameras
from ...generators.flashworld.config import FlashWorldConfig
from ..objectives.prepared_scenes import PreparedScene
from .toyworld import ToyWorldData


class MixtureData:
    """Prepared scenes of several sets by kind and number: what the stages call, and a map-style dataset for loaders.

    ``data[kind, number, novel_views]`` is ``data.sample(kind, number, novel_views)``, so that a ``DataLoader`` with
    ``batch_size=None`` and a list of such keys as its sampler loads ahead in as many processes as one likes.

    Args:
        config: the model's sizes.
        sources: of the recipe (`training.config.Source`); ``root`` is the folder of an index, empty for ToyWorld.
        seed: of the run.
        turn: let upright clips keep their shape, see `Mixture`; only where samples go through the networks one by one
            and the model's sizes allow it.
        toyworld: options of ToyWorld sources (split, simple, hold_out).

    Raises:
        FlashWorldError: a source without an index, or one that does not fit its kind or the model.
    """

    def __init__(
        self, config: FlashWorldConfig, sources: Sequence, *, seed: int = 0, turn: bool = False,
        toyworld: dict | None = None,
    ):  # fmt: skip
        if not sources:
            raise FlashWorldError("The recipe names no data; add a source to its list data.")
        self.config, self.seed = config, seed
        rows, columns = config.size_multiple
        toy = [source for source in sources if source.name == "toyworld"]
        parts = [_part(source) for source in sources if source.name != "toyworld"]
        self.toyworld = ToyWorldData(config, seed, **(toyworld or {})) if toy else None
        size = {"views": config.views, "width": config.width, "height": config.height}
        turn = turn and config.width % rows == 0 and config.height % columns == 0
        self.mixture = Mixture(parts, **size, seed=seed, turn=turn) if parts else None
        # ToyWorld beside sets on disk: its share among all sources of the kind.
        self.toy_share = {}
        for kind in {source.kind for source in sources}:
            weights = {True: 0.0, False: 0.0}
            for source in sources:
                if source.kind == kind:
                    weights[source.name == "toyworld"] += source.weight
            self.toy_share[kind] = weights[True] / (sum(weights.values()) or 1.0)

    def sample(self, kind: str, number: int, novel_views: int) -> PreparedScene:
        """The scene of a kind and number, a function of these and the seed.

        Raises:
            FlashWorldError: no source of this kind, or too many clips that cannot be loaded.
        """
        share = self.toy_share.get(kind)
        if share is None:
            raise FlashWorldError(f"The recipe has no data of kind {kind}; it has {', '.join(sorted(self.toy_share))}.")
        if share == 1.0 or (share > 0 and stream(self.seed, kind, number, "toyworld").random() < share):
            return self.toyworld.sample(kind, number, novel_views)
        return prepare(self.mixture.sample(kind, number, novel_views), self.config)

    def prompts(self) -> Iterator[str]:
        """All prompts of the sets on disk, one after another."""
        for part, numbers in self.mixture.contents() if self.mixture else ():
            for number in numbers.tolist():
                yield part.index.clip(number).prompt

    def __getitem__(self, key: tuple[str, int, int]) -> PreparedScene:
        return self.sample(*key)

    @property
    def has_distance(self) -> bool:
        """Whether every scene has ``log_distance``, which some terms of a recipe need."""
        return self.mixture is None


def _part(source) -> Part:
    if not source.root:
        raise FlashWorldError(f"The source {source.name} of the recipe has no root; give the folder of its index.")
    index = ClipIndex(source.root)
    if index.name != source.name:
        raise FlashWorldError(f"The index in {source.root} is one of {index.name}, not of {source.name}.")
    return Part(index, source.kind, source.weight, tuple(source.strides))


def prepare(sample: Sample, config: FlashWorldConfig) -> PreparedScene:
    """Bring a sample into the generator's frame: the first input view's axes, lengths over the input views' reach.

    Lengths that mean nothing are divided by that reach first, so that the normalization's margin, which has a unit,
    weighs the same for every clip.
    """
    height, width = sample.images.shape[1:3]
    latent_hw = config.latent_size(height, width)
    if sample.cameras is None:
        vectors = _identity(sample.views)
        raymaps = torch.zeros(sample.views, 6, *latent_hw)
        return PreparedScene(sample.prompt, sample.images, vectors, raymaps, None, sample.views, posed=False)
    vectors = fw_cameras.cameras_to_vectors(sample.cameras)
    if not sample.metric:
        reach = (vectors[: sample.views, 4:7] - vectors[0, 4:7]).norm(dim=1).max()
        if reach > 0:
            vectors[:, 4:7] = vectors[:, 4:7] / reach
    normalized, normalization = fw_cameras.normalize_cameras(vectors[: sample.views])
    every = torch.cat([normalized, normalization.apply(vectors[sample.views :])]).float()
    scene = PreparedScene(
        prompt=sample.prompt,
        images=sample.images,
        cameras=every,
        raymaps=fw_cameras.raymaps(every[: sample.views], *latent_hw),
        log_distance=None,
        views=sample.views,
    )
    if sample.kind != "ood":
        return scene
    # Views without truth: the one picture stands in all of them, and only its own is ever looked at.
    images = sample.images if len(sample.images) else torch.zeros(1, height, width, 3)
    return dataclasses.replace(
        scene, images=images.expand(len(every), height, width, 3), image_index=sample.image_index,
        has_image=bool(len(sample.images)),
    )  # fmt: skip


def _identity(views: int) -> Tensor:
    """Camera vectors of one camera that looks ahead, for clips without cameras; their raymaps are 0."""
    vector = torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 1, 1, 0.5, 0.5])
    return vector.repeat(views, 1)
