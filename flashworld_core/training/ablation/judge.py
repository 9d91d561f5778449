"""Sample a variant on held-out prompts and take its figures."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from ...gaussians import Gaussians
from ...rendering.render import render
from ..draws import Draws
from ..flashworld.networks import Networks, input_views
from ..flashworld.sampling import LatentPictures, sample_few_steps, sample_many_steps, sample_multiview
from ..flashworld.student import Views, _cameras
from ..flashworld.toyworld import ToyWorldData
from . import figures
from .fit import fit_scene
from .probe import Probe, labels
from .variants import Mode

NOVEL = 4


@dataclasses.dataclass
class HeldOut:
    """Held-out scenes: their views, true pictures and attributes.

    Attributes:
        scenes: `PreparedScene` of each.
        images: [S, T + NOVEL, H, W, 3] true pictures at input and novel views.
        labels: [S, 4].
    """

    scenes: list
    images: Tensor
    labels: Tensor

    @classmethod
    def of(cls, data: ToyWorldData, kind: str, count: int, first: int = 0) -> HeldOut:
        """Scenes of a kind, from a number on: "multiview", or "ood" for pairs multi-view data never showed."""
        numbers = range(first, first + count)
        scenes = [data.sample(kind, i, NOVEL) for i in numbers]
        truth = torch.stack([labels(data.scene(kind, i)) for i in numbers])
        return cls(scenes, torch.stack([scene.images for scene in scenes]), truth)


@dataclasses.dataclass
class Judge:
    """What all variants of a run are judged with.

    Attributes:
        probe: reads attributes.
        data: of the "test" split.
        scenes, ood_scenes, prompts, samples, fits: how many scenes, scenes of unseen pairs, prompts and samples a
            prompt for diversity, and scenes that are fitted.
        fit_steps: Adam steps of a fit.
        together: scenes sampled at once.
    """

    probe: Probe
    data: ToyWorldData
    scenes: int = 96
    ood_scenes: int = 64
    prompts: int = 8
    samples: int = 6
    fits: int = 8
    fit_steps: int = 200
    together: int = 16

    def __post_init__(self):
        self.held = HeldOut.of(self.data, "multiview", self.scenes)
        self.ood = HeldOut.of(self.data, "ood", self.ood_scenes)

    def figures(
        self, networks: Networks, mode: Mode, steps: int, transformer: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> tuple[dict[str, figures.Figure], Tensor]:  # fmt: skip
        """All figures of a variant, and [S, V, H, W, 3] what it shows of the first scenes."""
        make = _Maker(networks, mode, steps, transformer, decoder, self.together)
        made, scenes = make(self.held.scenes, "judge")
        count = networks.config.views
        truth = self.held.images[:, : made.shape[1]]
        found = {"sharpness": figures.sharpness(made, truth)}
        # Multi-view variants have no other views, and distances compare only at equal numbers of them.
        found["frechet"] = figures.frechet(self.probe, made[:, :count], truth[:, :count])
        found |= {f"accuracy {k}": v for k, v in figures.accuracy(self.probe, made, self.held.labels).items()}
        unseen, _ = make(self.ood.scenes, "judge ood")
        found["accuracy of unseen pairs"] = figures.accuracy(self.probe, unseen, self.ood.labels)["all"]
        found["color of unseen pairs"] = figures.accuracy(self.probe, unseen, self.ood.labels)["color"]
        if scenes is not None:
            cameras = [_cameras(_views_of(scene, networks)) for scene in self.held.scenes]
            half = slice(0, self.scenes // 2)
            found["depth spread"] = figures.depth_spread(scenes[half], cameras[half])
            first, _ = _Maker(networks, mode, 1, transformer, decoder, self.together)(self.held.scenes[half], "judge")
            found["sharpness of the first step"] = figures.sharpness(first, truth[half])
        found["diversity"] = self._diversity(make)
        found["fit error"], found["sharpness of fits"] = self._fits(networks, made[:, :count], scenes)
        return found, made[: min(8, len(made))]

    def truth_figures(self) -> dict[str, figures.Figure]:
        """The same figures of true scenes, other ones than they are compared with: what can be reached."""
        images, of, count = self.held.images, self.held.labels, self.held.scenes[0].views
        others = HeldOut.of(self.data, "multiview", self.scenes, first=self.scenes).images
        found = {"sharpness": figures.sharpness(others, images)}
        found["frechet"] = figures.frechet(self.probe, others[:, :count], images[:, :count])
        found |= {f"accuracy {k}": v for k, v in figures.accuracy(self.probe, images, of).items()}
        unseen = figures.accuracy(self.probe, self.ood.images, self.ood.labels)
        found["accuracy of unseen pairs"], found["color of unseen pairs"] = unseen["all"], unseen["color"]
        return found

    def _diversity(self, make: _Maker) -> figures.Figure:
        """Samples of a prompt at the same cameras, over true scenes with the prompt's words at these cameras."""
        made, real = [], []
        for p in range(self.prompts):
            scene = self.held.scenes[p]
            views, _ = make([scene] * self.samples, f"diversity {p}")
            made.append(views[:, : scene.views])
            real.append(self.data.alike(p, self.samples))
        return figures.diversity(torch.stack(made), torch.stack(real))

    def _fits(
        self, networks: Networks, made: Tensor, scenes: list[Gaussians] | None
    ) -> tuple[figures.Figure, figures.Figure]:
        """Residual of scenes fitted to the input views, and the fits' sharpness at novel views."""
        errors, novel, truth = [], [], []
        for i in range(self.fits):
            held = self.held.scenes[i]
            views = _views_of(held, networks)
            scene, error = fit_scene(made[i], _cameras(views), start_scene(networks, held), self.fit_steps)
            errors.append(error)
            cameras = dataclasses.replace(views, cameras=held.cameras[held.views :])
            novel.append(render(scene, _cameras(cameras)).rgb.detach())
            truth.append(held.images[held.views :])
        return figures.mean_of(torch.tensor(errors)), figures.sharpness(torch.stack(novel), torch.stack(truth))


def start_scene(networks: Networks, scene) -> Gaussians:
    """One Gaussian a pixel of the head's grid: gray, at the true depth's median along its ray, one pixel wide."""
    from ...generators.flashworld.gaussian_decoder import gaussians_from_raw, head_initial_bias

    config = networks.config
    rows, columns = config.head_grid(*scene.images.shape[1:3])
    raw = head_initial_bias(config)[None, :, None, None].repeat(scene.views, 1, rows, columns)
    layout = config.point_layout
    for point in range(config.num_points):
        raw[:, point * config.point_channels + layout["depth"].start] = scene.log_distance.median()
        raw[:, point * config.point_channels + layout["opacity"].start] = 1.0
    parts = gaussians_from_raw(
        raw, scene.cameras[: scene.views], num_points=config.num_points, scale_range=config.scale_range
    )
    return Gaussians(*(part.flatten(0, 3) for part in parts))


class _Maker:
    """Scenes or views of a variant, from prompts alone."""

    def __init__(self, networks: Networks, mode: Mode, steps: int, transformer, decoder, together: int):
        self.networks, self.mode, self.steps, self.together = networks, mode, steps, together
        self.parts = {"transformer": transformer, "decoder": decoder}
        self.pictures: LatentPictures | None = None

    @torch.no_grad()
    def __call__(self, scenes: list, name: str) -> tuple[Tensor, list[Gaussians] | None]:
        """([S, V, H, W, 3] in [0, 1], the Gaussians or None); multi-view modes show the input views alone."""
        images, found = [], []
        for first in range(0, len(scenes), self.together):
            some = scenes[first : first + self.together]
            draws = [Draws(0, name, 0, first + i) for i in range(len(some))]
            views = input_views(
                self.networks, some, draws, with_image=[False] * len(some), with_text=[True] * len(some)
            )  # fmt: skip
            made = self._make(views, draws, some)
            if isinstance(made, Tensor):
                images.append(made)
                continue
            found += made
            for scene, of, held in zip(made, views, some, strict=True):
                every = dataclasses.replace(of, cameras=held.cameras.to(of.cameras))
                images.append(self.networks.road().render(scene, every).clamp(0, 1)[None])
        return torch.cat(images), found or None

    def _make(self, views: list[Views], draws: list[Draws], scenes: list) -> Tensor | list[Gaussians]:
        networks, transformer = self.networks, self.parts["transformer"]
        if self.mode in ("multiview", "few_multiview"):
            if self.mode == "multiview":
                latents = sample_multiview(networks, views, draws, steps=self.steps, transformer=transformer)
            else:
                latents = sample_few_steps(networks, views, draws, transformer=transformer, multiview=True)[1]
            if self.pictures is None:
                self.pictures = LatentPictures(networks, torch.cat([scene.images for scene in scenes]))
            return self.pictures(latents)
        few = len(networks.config.timestep_indices)
        if self.steps > few:
            return sample_many_steps(networks, views, draws, steps=self.steps, **self.parts)
        return sample_few_steps(networks, views, draws, steps=self.steps, **self.parts)[0]


def _views_of(scene, networks: Networks) -> Views:
    height, width = scene.images.shape[1:3]
    text = torch.zeros(1, networks.config.text_length, networks.config.transformer.text_dim)
    return Views(scene.cameras[: scene.views], width, height, text)
