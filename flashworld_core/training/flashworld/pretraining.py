"""Stage 1: dual-mode pre-training, both objectives from one pass (FlashWorld, Eq. 4 and 5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...evaluation.metrics import psnr_db
from ...flow.sample import renoise
from ...flow.schedule import shifted_schedule
from ...gaussians import Gaussians
from ..config import Pretraining
from ..draws import Draws, normal
from ..objectives.rendering import (
    color_loss,
    distance_loss,
    image_gradient_loss,
    in_sight,
    rendering_loss,
    squared_rendering_loss,
)
from ..objectives.velocity import noise_levels, velocity_loss
from ..trainer import Player
from .networks import Data, Networks, input_views
from .student import Views, _cameras, scene_of


class DualModePretraining:
    """The stage the trainer runs: one player, the student.

    Args:
        networks: the student and what it is used with.
        data: prepared scenes.
        config: weights and shares.
        player: the student's optimizer and average.
        kinds: weights of the kinds of data; images and videos have Eq. 4 alone and no cameras.
    """

    name = "pretrain"

    def __init__(
        self, networks: Networks, data: Data, config: Pretraining, player: Player, kinds: dict[str, float] | None = None
    ):
        self.networks, self.data, self.config = networks, data, config
        self.players = {"student": player}
        self.kinds = kinds or {"multiview": 1.0}
        model = networks.config
        self.levels = shifted_schedule(model.shift).select(model.timestep_indices).sigmas

    def turns(self, iteration: int) -> tuple[str, ...]:
        return ("student",)

    def state(self) -> dict:
        return {}

    def restore(self, state: dict) -> None:
        pass

    def draw_level(self, draws: Draws) -> float:
        """The sample's noise level: the shifted density, with shares at 1 and at the student's own levels."""
        if float(draws.uniform("own_level")) < self.config.student_levels:
            return float(self.levels[draws.integer("which_level", len(self.levels))])
        uniform = draws.uniform("level", (1,))
        shift = self.networks.config.shift
        return float(noise_levels(uniform, shift=shift, full_noise=self.config.full_noise, low=1e-3))

    def _kind(self, draws: Draws) -> tuple[str, bool]:
        """The kind of data of an update, and whether it has Eq. 5."""
        kind = draws.of(None).choice("kind", self.kinds)
        return kind, kind == "multiview" and float(draws.of(None).uniform("rendered")) < self.config.rendering_share

    def wanted(self, player: str, draws: Draws) -> tuple[str, int, int]:
        """The key of the sample of some draws: its kind, number and novel views."""
        kind, rendered = self._kind(draws)
        return kind, draws.sample, self.config.novel_views if rendered else 0

    def losses(self, player: str, draws: Sequence[Draws]) -> tuple[Tensor, list[dict[str, float]]]:
        """Eq. 4 + w Eq. 5 of each sample, [B], and what to report of each; ``draws[i].sample`` is its number."""
        config, networks = self.config, self.networks
        _, rendered = self._kind(draws[0])
        scenes = [self.data.sample(*self.wanted(player, own)) for own in draws]
        images = [scene.images.to(networks.device) for scene in scenes]
        t, shape = scenes[0].views, networks.latent_shape(scenes[0])
        noise = normal(draws, "image_posterior", (shape[2], shape[1], *shape[3:])).to(networks.device)
        z = networks.encode_images(torch.stack([pictures[:t] for pictures in images]), noise)
        given = [own.choice("conditioning", dataclasses.asdict(config.conditioning)) for own in draws]
        views = input_views(
            networks, scenes, draws, with_image=[g.startswith("image") for g in given],
            with_text=[g.endswith("text") for g in given], image_latents=z,
        )  # fmt: skip
        levels = torch.tensor([self.draw_level(own) for own in draws], device=z.device)
        eps = normal(draws, "noise", shape[1:]).to(networks.device)
        feedback = self._first_pass(z, levels, views, draws) if rendered else None
        made = networks.denoise(views)(renoise(z, eps, levels), levels, feedback)
        losses = [velocity_loss(made.velocity[i], z[i], eps[i]) for i in range(len(draws))]
        reports = [
            {f"velocity_{'image' if g.startswith('image') else 'text'}": loss.item()}
            for g, loss in zip(given, losses, strict=True)
        ]
        if not rendered:
            return torch.stack(losses), reports

        decoded = made.latents.detach() if config.detach_latents else made.latents
        for i, parts in enumerate(networks.road().gaussians(made.features, decoded, views)):
            loss_3d, more = self._rendering(parts, scenes[i], images[i], views[i], draws[i])
            losses[i] = losses[i] + config.rendering_weight * loss_3d
            reports[i] |= more
        return torch.stack(losses), reports

    @torch.no_grad()
    def _first_pass(
        self, z: Tensor, levels: Tensor, views: Sequence[Views], draws: Sequence[Draws]
    ) -> tuple[Tensor, Tensor] | None:
        """Features and latents of the renders of a pass at the student's next noisier level, in a share of updates.

        A sample above all of the student's other levels gets zeros, as the student's first step does. It goes through
        the pass all the same: processes that share a network must call it alike.
        """
        if float(draws[0].of(None).uniform("feedback")) >= self.config.feedback:
            return None
        noisier = [[float(s) for s in self.levels if float(s) > level] for level in levels.tolist()]
        sigma = torch.tensor([min(found, default=1.0) for found in noisier], device=z.device)
        eps = normal(draws, "first_noise", tuple(z.shape[1:])).to(z.device)
        networks = self.networks
        made, road = networks.denoise(views)(renoise(z, eps, sigma), sigma, None), networks.road()
        scenes = [scene_of(parts) for parts in road.gaussians(made.features, made.latents, views)]
        wanted = torch.tensor([bool(found) for found in noisier], device=z.device).view(-1, 1, 1, 1, 1)
        return made.features * wanted, road.render_and_encode(scenes, views) * wanted

    def _rendering(
        self, parts: tuple[Tensor, ...], scene, images: Tensor, views: Views, draws: Draws
    ) -> tuple[Tensor, dict[str, float]]:
        """Eq. 5 at some input views and the novel views, and the recipe's further terms."""
        config, t = self.config, scene.views
        cameras = scene.cameras.to(images.device)
        chosen = draws.subset("input_views", t, min(config.input_views, t))
        if views.image_latents is not None and views.image_index not in chosen:
            chosen = sorted([*chosen[1:], views.image_index])
        chosen += list(range(t, len(cameras)))
        background = draws.uniform("background", (len(chosen), 3)) if config.random_background else "white"
        road, target = self.networks.road(), images[chosen]
        rgb = road.render(scene_of(parts), dataclasses.replace(views, cameras=cameras[chosen]), background)
        measure = squared_rendering_loss if config.rendering == "mse" else rendering_loss
        loss = measure(rgb, target)
        if config.gradient_weight:
            loss = loss + config.gradient_weight * image_gradient_loss(rgb, target)
        if config.distance_weight:
            distance = scene.log_distance.to(images.device)
            loss = loss + config.distance_weight * distance_loss(parts[0], cameras[:t, 4:7], distance)
        if config.color_weight:
            loss = loss + config.color_weight * color_loss(parts[4], images[:t])
        if views.image_latents is not None and (config.own_view_weight or config.redundancy_weight):
            loss = loss + self._picture_terms(parts, scene, images, views)
        db = psnr_db(rgb.detach(), target)
        report = {"novel_psnr_db": db[-(len(cameras) - t) :].mean().item() if len(cameras) > t else db.mean().item()}
        if views.image_latents is not None:
            report["input_psnr_db"] = db[chosen.index(views.image_index)].item()
            report["novel_psnr_db_image"] = report.pop("novel_psnr_db")
        return loss, report

    def _picture_terms(self, parts: tuple[Tensor, ...], scene, images: Tensor, views: Views) -> Tensor:
        """The picture's frame drawn by its own Gaussians, and what others place where the picture already sees."""
        config, k = self.config, views.image_index
        camera = _cameras(views)[k]
        own = Gaussians(*(part[k].flatten(0, 2) for part in parts))
        rgb = self.networks.road().render(own, dataclasses.replace(views, cameras=views.cameras[k : k + 1]))
        target = images[k : k + 1]
        loss = config.own_view_weight * (
            rendering_loss(rgb, target) + config.gradient_weight * image_gradient_loss(rgb, target)
        )
        if config.redundancy_weight:
            seen = in_sight(parts[0], camera, scene.log_distance[k].to(images.device))
            seen[k] = False
            loss = loss + config.redundancy_weight * (parts[3] * seen).mean()
        return loss


def trained_modules(networks: Networks, config: Pretraining) -> nn.ModuleList:
    """The modules stage 1 trains; the text encoder only where the recipe says so."""
    student = networks.student
    modules = [student.transformer, student.recon_decoder]
    if config.train_text and student.text_encoder is not None:
        modules.append(student.text_encoder)
    return nn.ModuleList(modules)
