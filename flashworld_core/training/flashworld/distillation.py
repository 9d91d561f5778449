"""Stage 2: cross-mode distillation. One student update and one critic update, each for one sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...errors import FlashWorldError
from ...evaluation.metrics import psnr_db
from ...flow.sample import renoise, x0_from_velocity
from ...flow.schedule import shifted_schedule
from ...gaussians import Gaussians
from ..config import Distillation
from ..draws import Draws, normal
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
        if config.rollout_every < 1 or config.critic_updates % config.rollout_every:
            raise FlashWorldError(
                f"distill.rollout_every ({config.rollout_every}) must divide critic_updates ({config.critic_updates})."
            )
        self._kept: dict[tuple[int, int], tuple] = {}  # of the rollouts that critic updates share

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

    def wanted(self, player: str, draws: Draws) -> tuple[str, int, int] | None:
        """The key of the sample of some draws: kind, number, novel views; None where an earlier update's is used."""
        if player == "critic" and draws.update % self.config.rollout_every:
            return None
        assignment = self.assignment(draws)
        return assignment.kind, draws.sample, self._novel_count(assignment)

    def losses(self, player: str, draws: Sequence[Draws]) -> tuple[Tensor, list[dict[str, float]]]:
        """The loss of each sample, [B], for the student or for the critic; ``draws[i].sample`` is its number."""
        if player == "critic":
            return self._critic_losses(draws, *self._critic_rollouts(draws))
        assignment = self.assignment(draws[0])
        scenes, views = self._scenes(assignment, draws)
        return self._student_losses(assignment, scenes, views, draws)

    def _scenes(self, assignment: Assignment, draws: Sequence[Draws]) -> tuple[list[PreparedScene], list[Views]]:
        """The samples' scenes and the conditioning of their input views."""
        count = len(draws)
        novel = self._novel_count(assignment)
        scenes = [self.data.sample(assignment.kind, own.sample, novel) for own in draws]
        views = input_views(
            self.networks, scenes, draws, with_image=[assignment.with_image] * count,
            with_text=[assignment.with_text] * count,
        )  # fmt: skip
        return scenes, views

    # --- the student --------------------------------------------------------------------------------------

    def _student_losses(
        self, assignment: Assignment, scenes: Sequence[PreparedScene], views: Sequence[Views], draws: Sequence[Draws]
    ) -> tuple[Tensor, list[dict[str, float]]]:
        config, samples = self.config, range(len(draws))
        made = self._roll_out(assignment, scenes, views, draws, gradient=True)
        gradient = self.distribution_gradient(made, draws)
        losses = [
            config.distribution_weight * distribution_matching_loss(made.latents[i : i + 1], gradient[i : i + 1])
            for i in samples
        ]
        reports = [{f"dmd_{assignment.task}": gradient[i].abs().mean().item()} for i in samples]
        if assignment.kind == "multiview" and config.student_adversarial_weight:
            noisy, levels = self._score_input(made.latents, draws, "gan")
            logits = self._critic_pass(noisy, levels, made.views, logits=True)[1]
            for i in samples:
                losses[i] = losses[i] + config.student_adversarial_weight * gan.student_loss(logits[i])
                reports[i]["fake_logit"] = logits[i].mean().item()
        if assignment.task != "multiview":
            rendered = made.latents
            if assignment.task == "novel_views" and config.consistency_weight:
                rendered = self.networks.road().render_and_encode(made.scenes, views)
            for i in samples:
                if config.consistency_weight:
                    consistency = cross_mode_loss(
                        rendered[i], made.multiview[i], detach_multiview=config.detach_multiview
                    )
                    losses[i] = losses[i] + config.consistency_weight * consistency
                    reports[i]["consistency"] = consistency.item()
                if config.rendering_weight and assignment.kind == "multiview" and assignment.with_image:
                    term, db = self._rendering(made.scenes[i], scenes[i], views[i])
                    losses[i] = losses[i] + config.rendering_weight * term
                    reports[i]["psnr_db"] = db
        return torch.stack(losses), reports

    @torch.no_grad()
    def distribution_gradient(self, made: Rollout, draws: Sequence[Draws]) -> Tensor:
        """The direction teacher and fake score disagree in at the noisy latents (`objectives.dmd`)."""
        config, views = self.config, made.views
        latents = made.latents.detach()
        noisy, levels = self._score_input(latents, draws, "dmd")
        denoise = self.networks.denoise
        conditional = denoise(views, self.teacher)(noisy, levels, None).velocity
        unconditional = None
        if config.teacher_guidance != 1.0:
            empty = self.networks.embed([""])
            nothing = [dataclasses.replace(of, text=empty, image_latents=None) for of in views]
            unconditional = denoise(nothing, self.teacher)(noisy, levels, None).velocity
        velocity = guided(conditional, unconditional, config.teacher_guidance)
        fake = self._critic_pass(noisy, levels, views, logits=False)[0]
        teacher, fake = (x0_from_velocity(noisy, v, levels) for v in (velocity, fake))
        return distribution_matching_gradient(latents, teacher, fake, normalize=config.normalize)

    def _rendering(self, made: Gaussians, scene: PreparedScene, views: Views) -> tuple[Tensor, float]:
        """Eq. 5 at the input and the novel views of a scene that is given with a picture."""
        cameras = scene.cameras.to(views.cameras)
        every = dataclasses.replace(views, cameras=cameras)
        target = scene.images.to(views.cameras)
        rgb = self.networks.road().render(made, every)
        loss = squared_rendering_loss(rgb, target)
        if self.config.gradient_weight:
            loss = loss + self.config.gradient_weight * image_gradient_loss(rgb, target)
        return loss, psnr_db(rgb.detach(), target).mean().item()

    # --- the critic ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def _critic_rollouts(self, draws: Sequence[Draws]) -> tuple[Assignment, Rollout, Tensor | None]:
        """What the student makes of the samples of an update, or of the first of those that share them, and truths.

        The student does not change between updates that share rollouts, so they are a function of weights and draws,
        and a run that is resumed in the midst of them makes the same ones again.
        """
        every, update = self.config.rollout_every, draws[0].update
        first = update - update % every
        back = self.config.run.batch * (update - first)
        draws = [dataclasses.replace(own, update=first, sample=own.sample - back) for own in draws]
        key = first, draws[0].sample
        if key not in self._kept:
            self._kept = {k: kept for k, kept in self._kept.items() if k[0] == first}
            assignment = self.assignment(draws[0])
            scenes, views = self._scenes(assignment, draws)
            made = self._roll_out(assignment, scenes, views, draws, gradient=False)
            made = dataclasses.replace(made, scenes=None)
            adversarial = assignment.kind == "multiview" and self.config.critic_adversarial_weight > 0
            real = self._real_latents(scenes, made.views, assignment) if adversarial else None
            kept = assignment, made, real
            if every == 1:
                return kept
            self._kept[key] = kept
        return self._kept[key]

    def _critic_losses(
        self, draws: Sequence[Draws], assignment: Assignment, made: Rollout, real: Tensor | None
    ) -> tuple[Tensor, list[dict[str, float]]]:
        """Eq. 4 on the student's own output, and on multi-view data the adversarial loss with R1."""
        config, count, device = self.config, len(draws), made.latents.device
        z, seen, adversarial = made.latents, made.views, real is not None
        levels = self._levels(draws, "fake", bounded=adversarial).to(device)
        eps = normal(draws, "fake_noise", tuple(z.shape[1:])).to(device)
        inputs = [renoise(z, eps, levels)]
        penalized = adversarial and config.r1_weight > 0 and draws[0].update % config.r1_every == 0
        if adversarial:
            inputs.append(renoise(real, normal(draws, "real_noise", tuple(real.shape[1:])).to(device), levels))
        if penalized:
            inputs.append(inputs[1] + config.r1_sigma * normal(draws, "r1", tuple(z.shape[1:])).to(device))
        # One pass for the student's latents, the real ones and the disturbed real ones.
        velocity, logits = self._critic_pass(
            torch.cat(inputs), levels.repeat(len(inputs)), [*seen] * len(inputs), logits=adversarial
        )
        losses, reports = [], []
        for i in range(count):
            score = velocity_loss(velocity[i], z[i], eps[i])
            losses.append(score)
            reports.append({f"velocity_{assignment.task}": score.item()})
            if adversarial:
                fake_logits, real_logits = logits[i], logits[count + i]
                weight = config.critic_adversarial_weight
                losses[i] = losses[i] + weight * gan.critic_loss(fake_logits, real_logits)
                reports[i] |= {"fake_logit": fake_logits.mean().item(), "real_logit": real_logits.mean().item()}
            if penalized:
                r1 = gan.approximate_r1(real_logits, logits[2 * count + i])
                losses[i] = losses[i] + weight * config.r1_weight * config.r1_every * r1
                reports[i]["r1"] = r1.item()
        return torch.stack(losses), reports

    def _real_latents(self, scenes: Sequence[PreparedScene], seen: Sequence[Views], assignment: Assignment) -> Tensor:
        """[B, C, T, h, w] of the true pictures at the cameras that are scored."""
        batch = []
        for scene, of in zip(scenes, seen, strict=True):
            t = scene.views
            images = scene.images[:t]
            if assignment.task == "novel_views":
                images = scene.images[t : 2 * t].clone()
                if of.image_latents is not None:
                    # `networks.novel_views` put the picture's own camera there.
                    own = (scene.cameras[:t].to(of.cameras) - of.cameras[of.image_index]).abs().sum(-1).argmin()
                    images[of.image_index] = scene.images[own]
            batch.append(images)
        return self.networks.encode_images(torch.stack(batch).to(seen[0].cameras.device), None)

    # --- passes -------------------------------------------------------------------------------------------

    def _novel_count(self, assignment: Assignment) -> int:
        return self.networks.config.views if assignment.task == "novel_views" else 0

    def _roll_out(
        self, assignment: Assignment, scenes: Sequence[PreparedScene], views: Sequence[Views], draws: Sequence[Draws],
        *, gradient: bool,
    ) -> Rollout:  # fmt: skip
        networks, novel, sigmas, steps_before = self.networks, None, self.sigmas, assignment.rollout
        if assignment.task == "novel_views":
            novel = [novel_views(of, scene) for of, scene in zip(views, scenes, strict=True)]
        denoise, shape = networks.denoise(views), networks.latent_shape(scenes[0])
        if self.config.student_input == "data":
            denoise = self._from_truth(denoise, scenes, sigmas[steps_before], draws)
            sigmas, steps_before = (sigmas[steps_before],), 0
        return roll_out(
            denoise, networks.road(), views, novel, sigmas=sigmas, task=assignment.task, steps_before=steps_before,
            draws=draws, shape=shape, gradient=gradient, detach_latents=self.config.detach_latents,
        )  # fmt: skip

    def _from_truth(self, denoise, scenes: Sequence[PreparedScene], sigma: float, draws: Sequence[Draws]):
        """One step from the truth noised to the step's level instead of a rollout: cheaper, less like inference."""
        networks = self.networks
        images = torch.stack([scene.images[: scene.views] for scene in scenes]).to(networks.device)
        z = networks.encode_images(images, None)
        noisy = renoise(z, normal(draws, "init", tuple(z.shape[1:])).to(z.device), sigma)
        return lambda x, level, feedback: denoise(noisy, level, feedback)

    def _levels(self, draws: Sequence[Draws], name: str, *, bounded: bool) -> Tensor:
        """[B] noise levels of scores."""
        config = self.config
        low, high = (config.score_low, config.score_high) if bounded else (1e-3, 1.0)
        uniform = torch.cat([own.uniform(f"{name}_level", (1,)) for own in draws])
        return noise_levels(uniform, shift=self.networks.config.shift, low=low, high=high)

    def _score_input(self, latents: Tensor, draws: Sequence[Draws], name: str) -> tuple[Tensor, Tensor]:
        levels = self._levels(draws, name, bounded=True).to(latents.device)
        noise = normal(draws, f"{name}_noise", tuple(latents.shape[1:])).to(latents.device)
        return renoise(latents, noise, levels), levels

    def _critic_pass(
        self, noisy: Tensor, levels: Tensor, views: Sequence[Views], *, logits: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Velocity [B, C, T, h, w] and logits [B, T, h', w'] of noisy latents [B, C, T, h, w]."""
        networks, text = self.networks, torch.cat([of.text for of in views])
        with autocast(noisy.device, networks.dtype):
            velocity, _, found = self.players["critic"].module(
                assemble(networks.config, noisy, views), 1000.0 * levels, text, logits=logits
            )
        return velocity.float(), found
