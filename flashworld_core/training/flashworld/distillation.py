"""Stage 2: cross-mode distillation. One student update and one critic update, each for one sample."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from ...evaluation.metrics import psnr_db
from ...flow.sample import renoise, x0_from_velocity
from ...flow.schedule import shifted_schedule
from ..config import Distillation
from ..draws import Draws
from ..objectives import gan
from ..objectives.consistency import cross_mode_loss
from ..objectives.dmd import distribution_matching_gradient, distribution_matching_loss, guided
from ..objectives.prepared_scenes import PreparedScene
from ..objectives.rendering import image_gradient_loss, squared_rendering_loss
from ..objectives.velocity import noise_levels, velocity_loss
from ..trainer import Player
from .networks import Data, Networks, input_views, novel_views
from .rollout import Rollout, roll_out
from .student import Views, assemble, autocast
from .tasks import Assignment, assign, turns


class CrossModeDistillation:
    """The stage the trainer runs: the student, and the critic (fake score and head).

    Args:
        networks: the student and what it is used with.
        teacher: a frozen transformer, of which the multi-view mode is used.
        data: prepared scenes of the kinds "multiview" and "ood".
        config: weights, shares, noise.
        student, critic: the players; the critic's module is a `critic.Critic`.
    """

    name = "distill"

    def __init__(
        self, networks: Networks, teacher: nn.Module, data: Data, config: Distillation, student: Player, critic: Player
    ):
        self.networks, self.teacher, self.data, self.config = networks, teacher, data, config
        self.players = {"student": student, "critic": critic}
        teacher.requires_grad_(False).eval()
        networks.encoder.requires_grad_(False)
        model = networks.config
        schedule = shifted_schedule(model.shift).select(model.timestep_indices)
        self.sigmas = tuple(float(s) for s in schedule.sigmas)

    def turns(self, iteration: int) -> tuple[str, ...]:
        if iteration < self.config.warm_critic:
            return ("critic",)
        return turns(iteration, self.config.critic_updates)

    def state(self) -> dict:
        return {}

    def restore(self, state: dict) -> None:
        pass

    def assignment(self, draws: Draws) -> Assignment:
        """What the update of these draws does; the same for all its samples and on every process."""
        config = self.config
        data = dataclasses.asdict(config.data)
        if config.student_input == "data":
            data["ood"] = 0.0  # there is no truth to put noise on
        return assign(
            draws, tasks=dataclasses.asdict(config.tasks), data=data,
            conditioning=dataclasses.asdict(config.conditioning), steps=len(self.sigmas),
        )  # fmt: skip

    def loss(self, player: str, draws: Draws, sample: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of one sample for the student or for the critic."""
        assignment = self.assignment(draws)
        networks = self.networks
        scene = self.data.sample(assignment.kind, sample, self._novel_count(assignment))
        views = input_views(
            networks, scene, draws, with_image=assignment.with_image, with_text=assignment.with_text
        )  # fmt: skip
        if player == "student":
            return self._student_loss(assignment, scene, views, draws)
        return self._critic_loss(assignment, scene, views, draws)

    # --- the student --------------------------------------------------------------------------------------

    def _student_loss(
        self, assignment: Assignment, scene: PreparedScene, views: Views, draws: Draws
    ) -> tuple[Tensor, dict[str, float]]:
        config, critic = self.config, self.players["critic"].module
        made = self._roll_out(assignment, scene, views, draws, gradient=True)
        critic.requires_grad_(False)
        try:
            gradient = self.distribution_gradient(made, draws)
            loss = config.distribution_weight * distribution_matching_loss(made.latents, gradient)
            report = {f"dmd_{assignment.task}": gradient.abs().mean().item()}
            if assignment.kind == "multiview" and config.student_adversarial_weight:
                noisy, level = self._score_input(made.latents, draws, "gan")
                logits = self._critic_pass(noisy, level, made.views, logits=True)[1]
                adversarial = gan.student_loss(logits)
                loss = loss + config.student_adversarial_weight * adversarial
                report["fake_logit"] = logits.mean().item()
        finally:
            critic.requires_grad_(True)
        if assignment.task != "multiview":
            rendered = made.latents
            if assignment.task == "novel_views" and config.consistency_weight:
                rendered = self.networks.road().render_and_encode(made.scene, views)
            if config.consistency_weight:
                consistency = cross_mode_loss(rendered, made.multiview, detach_multiview=config.detach_multiview)
                loss = loss + config.consistency_weight * consistency
                report["consistency"] = consistency.item()
            if config.rendering_weight and assignment.kind == "multiview" and assignment.with_image:
                term, db = self._rendering(made, scene, views)
                loss = loss + config.rendering_weight * term
                report["psnr_db"] = db
        return loss, report

    @torch.no_grad()
    def distribution_gradient(self, made: Rollout, draws: Draws) -> Tensor:
        """The direction teacher and fake score disagree in at the noisy latents (`objectives.dmd`)."""
        config, views = self.config, made.views
        latents = made.latents.detach()
        noisy, level = self._score_input(latents, draws, "dmd")
        denoise = self.networks.denoise
        conditional = denoise(views, self.teacher)(noisy, level, None).velocity
        unconditional = None
        if config.teacher_guidance != 1.0:
            nothing = dataclasses.replace(views, text=self.networks.embed(""), image_latents=None)
            unconditional = denoise(nothing, self.teacher)(noisy, level, None).velocity
        velocity = guided(conditional, unconditional, config.teacher_guidance)
        fake = self._critic_pass(noisy, level, views, logits=False)[0]
        teacher, fake = (x0_from_velocity(noisy, v, level) for v in (velocity, fake))
        return distribution_matching_gradient(latents, teacher, fake, normalize=config.normalize)

    def _rendering(self, made: Rollout, scene: PreparedScene, views: Views) -> tuple[Tensor, float]:
        """Eq. 5 at the input and the novel views of a scene that is given with a picture."""
        cameras = scene.cameras.to(views.cameras)
        every = dataclasses.replace(views, cameras=cameras)
        target = scene.images.to(views.cameras)
        rgb = self.networks.road().render(made.scene, every)
        loss = squared_rendering_loss(rgb, target)
        if self.config.gradient_weight:
            loss = loss + self.config.gradient_weight * image_gradient_loss(rgb, target)
        return loss, psnr_db(rgb.detach(), target).mean().item()

    # --- the critic ---------------------------------------------------------------------------------------

    def _critic_loss(
        self, assignment: Assignment, scene: PreparedScene, views: Views, draws: Draws
    ) -> tuple[Tensor, dict[str, float]]:
        """Eq. 4 on the student's own output, and on multi-view data the adversarial loss with R1."""
        config = self.config
        with torch.no_grad():
            made = self._roll_out(assignment, scene, views, draws, gradient=False)
        z, seen = made.latents, made.views
        level = self._level(draws, "fake", bounded=False)
        eps = draws.normal("fake_noise", tuple(z.shape)).to(z.device)
        adversarial = assignment.kind == "multiview" and config.critic_adversarial_weight > 0
        if not adversarial:
            velocity, _ = self._critic_pass(renoise(z, eps, level), level, seen, logits=False)
            loss = velocity_loss(velocity, z, eps)
            return loss, {f"velocity_{assignment.task}": loss.item()}

        level = self._level(draws, "fake", bounded=True)
        real = self._real_latents(scene, seen, assignment)
        real_noisy = renoise(real, draws.normal("real_noise", tuple(real.shape)).to(z.device), level)
        inputs = [renoise(z, eps, level), real_noisy]
        penalized = config.r1_weight > 0 and draws.update % config.r1_every == 0
        if penalized:
            inputs.append(real_noisy + config.r1_sigma * draws.normal("r1", tuple(real.shape)).to(z.device))
        velocity, logits = self._critic_pass(torch.cat(inputs), level, seen, logits=True)
        score = velocity_loss(velocity[:1], z, eps)
        fake_logits, real_logits = logits[:1], logits[1:2]
        loss = score + config.critic_adversarial_weight * gan.critic_loss(fake_logits, real_logits)
        report = {
            f"velocity_{assignment.task}": score.item(),
            "fake_logit": fake_logits.mean().item(),
            "real_logit": real_logits.mean().item(),
        }
        if penalized:
            r1 = gan.approximate_r1(real_logits, logits[2:3])
            loss = loss + config.critic_adversarial_weight * config.r1_weight * config.r1_every * r1
            report["r1"] = r1.item()
        return loss, report

    def _real_latents(self, scene: PreparedScene, seen: Views, assignment: Assignment) -> Tensor:
        """[1, C, T, h, w] of the true pictures at the cameras that are scored."""
        t = scene.views
        images = scene.images[:t]
        if assignment.task == "novel_views":
            images = scene.images[t : 2 * t].clone()
            if seen.image_latents is not None:
                # `networks.novel_views` put the picture's own camera there.
                own = (scene.cameras[:t].to(seen.cameras) - seen.cameras[seen.image_index]).abs().sum(-1).argmin()
                images[seen.image_index] = scene.images[own]
        return self.networks.encode_images(images.to(seen.cameras.device), None)

    # --- passes -------------------------------------------------------------------------------------------

    def _novel_count(self, assignment: Assignment) -> int:
        return self.networks.config.views if assignment.task == "novel_views" else 0

    def _roll_out(
        self, assignment: Assignment, scene: PreparedScene, views: Views, draws: Draws, *, gradient: bool
    ) -> Rollout:
        networks = self.networks
        novel = novel_views(views, scene) if assignment.task == "novel_views" else None
        denoise = networks.denoise(views)
        if self.config.student_input == "data":
            return self._from_data(assignment, scene, views, novel, draws, gradient=gradient)
        return roll_out(
            denoise, networks.road(), views, novel, sigmas=self.sigmas, task=assignment.task,
            steps_before=assignment.rollout, draws=draws, shape=networks.latent_shape(scene), gradient=gradient,
            detach_latents=self.config.detach_latents,
        )  # fmt: skip

    def _from_data(self, assignment, scene, views, novel, draws, *, gradient: bool) -> Rollout:
        """One step from the truth noised to the step's level instead of a rollout: cheaper, less like inference."""
        networks = self.networks
        z = networks.encode_images(scene.images[: scene.views].to(views.cameras.device), None)
        sigma = self.sigmas[assignment.rollout]

        def denoise(x, level, feedback):
            eps = draws.normal("init", tuple(z.shape)).to(z.device)
            return networks.denoise(views)(renoise(z, eps, sigma), sigma, feedback)

        return roll_out(
            denoise, networks.road(), views, novel, sigmas=(sigma,), task=assignment.task, steps_before=0,
            draws=draws, shape=tuple(z.shape), gradient=gradient, detach_latents=self.config.detach_latents,
        )  # fmt: skip

    def _level(self, draws: Draws, name: str, *, bounded: bool) -> float:
        config = self.config
        low, high = (config.score_low, config.score_high) if bounded else (1e-3, 1.0)
        uniform = draws.uniform(f"{name}_level", (1,))
        return float(noise_levels(uniform, shift=self.networks.config.shift, low=low, high=high))

    def _score_input(self, latents: Tensor, draws: Draws, name: str) -> tuple[Tensor, float]:
        level = self._level(draws, name, bounded=True)
        return renoise(latents, draws.normal(f"{name}_noise", tuple(latents.shape)).to(latents.device), level), level

    def _critic_pass(self, noisy: Tensor, level: float, views: Views, *, logits: bool) -> tuple[Tensor, Tensor | None]:
        """Velocity and logits of B noisy latents seen under the same views."""
        networks = self.networks
        inputs = torch.cat([assemble(networks.config, noisy[i : i + 1], views) for i in range(len(noisy))])
        timestep = torch.full((len(noisy),), 1000.0 * level, device=noisy.device)
        with autocast(noisy.device, networks.dtype):
            velocity, _, found = self.players["critic"].module(
                inputs, timestep, views.text.expand(len(noisy), -1, -1), logits=logits
            )
        return velocity.float(), found
