"""Stage 1: dual-mode pre-training, both objectives from one pass (FlashWorld, Eq. 4 and 5)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from ...evaluation.metrics import psnr_db
from ...flow.sample import renoise
from ...flow.schedule import shifted_schedule
from ...gaussians import Gaussians
from ..config import Pretraining
from ..draws import Draws
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

    def loss(self, player: str, draws: Draws, sample: int) -> tuple[Tensor, dict[str, float]]:
        """Eq. 4 + w Eq. 5 of one sample."""
        config, networks = self.config, self.networks
        kind = draws.choice("kind", self.kinds)
        scene = self.data.sample(kind, sample, config.novel_views if kind == "multiview" else 0)
        images = scene.images.to(networks.device)
        shape = networks.latent_shape(scene)
        noise = draws.normal("image_posterior", (shape[2], shape[1], *shape[3:])).to(networks.device)
        z = networks.encode_images(images[: scene.views], noise)
        given = draws.choice("conditioning", dataclasses.asdict(config.conditioning))
        views = input_views(
            networks, scene, draws, with_image=given.startswith("image"), with_text=given.endswith("text"),
            image_latents=z,
        )  # fmt: skip
        level, eps = self.draw_level(draws), draws.normal("noise", shape).to(networks.device)
        denoise, road = networks.denoise(views), networks.road()
        feedback = self._first_pass(z, level, views, draws) if kind == "multiview" else None
        made = denoise(renoise(z, eps, level), level, feedback)
        loss_mv = velocity_loss(made.velocity, z, eps)
        report = {f"velocity_{'image' if given.startswith('image') else 'text'}": loss_mv.item()}
        if kind != "multiview":
            return loss_mv, report

        decoded = made.latents.detach() if config.detach_latents else made.latents
        parts = road.gaussians(made.features, decoded, views)
        loss_3d, more = self._rendering(parts, scene, images, views, draws)
        return loss_mv + config.rendering_weight * loss_3d, report | more

    @torch.no_grad()
    def _first_pass(self, z: Tensor, level: float, views: Views, draws: Draws) -> tuple[Tensor, Tensor] | None:
        """Features and latents of the renders of a pass at the student's next noisier level; for a share of samples."""
        noisier = [float(s) for s in self.levels if float(s) > level]
        if not noisier or float(draws.uniform("feedback")) >= self.config.feedback:
            return None
        networks, sigma = self.networks, min(noisier)
        eps = draws.normal("first_noise", tuple(z.shape)).to(z.device)
        made = networks.denoise(views)(renoise(z, eps, sigma), sigma, None)
        road = networks.road()
        scene = scene_of(road.gaussians(made.features, made.latents, views))
        return made.features, road.render_and_encode(scene, views)

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
