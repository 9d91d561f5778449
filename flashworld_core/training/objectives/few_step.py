"""3D-oriented training of the few-step generator on ToyWorld.

The student runs its own few-step loop during training: at each of its timesteps it predicts Gaussians
from what it made of the step before, and every step is held to the truth by rendering the Gaussians at
the generation views and at novel ones (FlashWorld, Eq. 5). Gradients stay within a step.
Distillation from a multi-view teacher is not part of this recipe.
"""

from __future__ import annotations

import dataclasses
import math
import random
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from ...datasets.toyworld.stream import stream
from ...errors import FlashWorldError
from ...evaluation.metrics import psnr_db
from ...flow.sample import renoise, x0_from_velocity
from ...flow.schedule import shifted_schedule
from ...gaussians import Gaussians
from ...generators.flashworld.conditioning import Conditions, rendering_cameras
from ...generators.flashworld.config import FlashWorldConfig
from ...generators.flashworld.gaussian_decoder import GaussianDecoder
from ...generators.flashworld.sampler import FewStepSampler
from ...generators.flashworld.transformer import FlashWorldTransformer
from ...models.wan_vae import FrameEncoder
from ...rendering.render import render
from ...text import get_logger
from ..state import Journal, WeightAverage, load_checkpoint, save_atomically, warmup_cosine
from .prepared_scenes import PreparedScene, SceneStream
from .rendering import distance_loss, image_gradient_loss, in_sight, latent_loss, rendering_loss

log = get_logger(__name__)


@dataclasses.dataclass
class Recipe:
    """Everything that decides how a run goes, apart from the model's sizes.

    Attributes:
        minutes: wall time to train for; the learning rate follows the clock.
        lr: peak learning rate (AdamW, betas 0.9 and 0.95).
        novel_views: views rendered per scene besides the generation views.
        single_step_until: fraction of the run in which only the first step is trained.
        text_only: probability that a scene is given by its prompt alone.
        teacher_forced: probability, for text-only scenes, that the next step is re-noised from the true
            latents instead of from the student's renders: the student then learns to commit to what it sees.
        latent_weight, distance_weight, gradient_weight: weights beside the rendering loss's 1.
        redundancy_weight: of the mean opacity of what other frames place where the picture already sees: the
            picture's own Gaussians are sharper, the others should fill what it does not show.
        own_view_weight: of the rendering loss of the picture's frame drawn by its own Gaussians alone. Those know
            best, so they should be opaque; without it all frames' Gaussians stay a fog of averages for long.
    """

    minutes: float = 90.0
    lr: float = 8e-4
    weight_decay: float = 1e-3
    warmup: int = 200
    clip: float = 1.0
    average_decay: float = 0.999
    novel_views: int = 2
    single_step_until: float = 0.45
    text_only: float = 0.12
    teacher_forced: float = 0.7
    latent_weight: float = 0.2
    distance_weight: float = 0.2
    gradient_weight: float = 0.3
    own_view_weight: float = 0.5
    redundancy_weight: float = 0.2
    seed: int = 0
    device: str = "cpu"
    workers: int = 1
    save_minutes: float = 5.0


class Student(nn.Module):
    """The trained parts together, so that one optimizer and one average hold them all."""

    def __init__(self, config: FlashWorldConfig, text_encoder: nn.Module):
        super().__init__()
        self.transformer = FlashWorldTransformer(config)
        self.recon_decoder = GaussianDecoder(config)
        self.text_encoder = text_encoder

    @torch.no_grad()
    def start_from_vae(self, vae_decoder: dict[str, Tensor]) -> None:
        """Begin where the autoencoder ended: its decoder's weights, and its colors in the Gaussians' base color.

        The decoder's last convolution gives each pixel of the head's grid the colors of its p x p image pixels; the
        head's base color starts as their mean, opaque enough to be seen, at a typical distance.
        """
        self._start_from_condition()
        decoder, config = self.recon_decoder, self.recon_decoder.config
        decoder.load_vae_decoder(vae_decoder)
        nn.init.normal_(decoder.extra_conv_in.weight, std=0.02)
        weight = vae_decoder["decoder.conv_out.weight"][:, :, -1]  # [3 p p, in, 3, 3], channel c p p + ...
        bias = vae_decoder["decoder.conv_out.bias"]
        layout, sh_0 = config.point_layout, 0.28209479177387814
        proj = decoder.gs_head.gs_proj
        nn.init.normal_(proj.weight, std=1e-3)
        for point in range(config.num_points):
            start = point * config.point_channels
            colors = slice(start + layout["sh"].start, start + layout["sh"].start + 3)
            # Pixels are in [-1, 1]; a base color c shows as 0.5 + sh_0 * c in [0, 1].
            proj.weight[colors] = weight.unflatten(0, (3, -1)).mean(1) / (2 * sh_0)
            proj.bias[colors] = bias.unflatten(0, (3, -1)).mean(1) / (2 * sh_0)
            proj.bias[start + layout["depth"].start] = 1.0
            proj.bias[start + layout["opacity"].start] = 0.0
            proj.bias[start + layout["scales"].start : start + layout["scales"].stop] -= 1.0

    def _start_from_condition(self) -> None:
        """Let the untrained transformer pass its latents through, so that it begins by believing in the picture.

        Noisy, condition and feedback latents get hidden channels of their own, and the velocity starts as
        noisy - condition: at the first step, sigma 1, that is exact for the frame that shows the picture. The blocks
        around it start near the identity, since their gates are small.
        """
        transformer, config = self.transformer, self.recon_decoder.config
        c, layout = config.latent_channels, config.input_layout
        hidden = {name: slice(i * c, (i + 1) * c) for i, name in enumerate(("noisy", "condition", "feedback_latents"))}
        weight, bias = transformer.patch_embedding.weight, transformer.patch_embedding.bias
        if math.prod(config.patch_size) != 1 or len(weight) < 3 * c:
            raise FlashWorldError("Passing latents through needs patches of one latent pixel and width >= 3 C.")
        for name, rows in hidden.items():
            weight[rows] = 0
            weight[rows, layout[name], 0, 0, 0] = torch.eye(c)
            bias[rows] = 0
        # The last layer sees the hidden state divided by its own root mean square, about this much.
        gain = 0.55
        velocity = config.output_layout["velocity"]
        transformer.proj_out.weight[velocity] = 0
        transformer.proj_out.weight[velocity, hidden["noisy"]] = gain * torch.eye(c)
        transformer.proj_out.weight[velocity, hidden["condition"]] = -gain * torch.eye(c)
        transformer.proj_out.bias[velocity] = 0


@dataclasses.dataclass
class StepResult:
    """What one step made: Gaussians [T, P, h, w, ...], renders of all views, the predicted latents."""

    means: Tensor
    opacities: Tensor  # [T, P, h, w]
    rgb: Tensor  # [T + M, H, W, 3]
    own_view: Tensor  # [1, H, W, 3], the picture's frame drawn by that frame's own Gaussians alone
    features: Tensor
    latents_2d: Tensor


class FewStepTrainer:
    """Runs the student's own steps on prepared scenes, with gradients inside each step."""

    def __init__(self, config: FlashWorldConfig, encoder: FrameEncoder, student: Student, tokenizer, recipe: Recipe):
        self.config, self.student, self.tokenizer, self.recipe = config, student, tokenizer, recipe
        self.encoder = encoder.eval().requires_grad_(False)
        self.sampler = FewStepSampler(config, student.transformer, student.recon_decoder, encoder)
        self.schedule = shifted_schedule(config.shift).select(config.timestep_indices)
        self.device = torch.device(recipe.device)

    def text_rows(self, prompt: str) -> Tensor:
        """[1, L, D]; rows beyond the prompt's tokens are zero."""
        ids = self.tokenizer(
            self.config.prompt_prefix + prompt, truncation=True, max_length=self.config.text_length,
            padding="max_length", return_tensors="pt",
        )  # fmt: skip
        ids = {name: ids[name].to(self.device) for name in ("input_ids", "attention_mask")}
        return self.student.text_encoder(**ids).last_hidden_state * ids["attention_mask"][..., None]

    def step(self, conditions: Conditions, n: int, network_input: Tensor, x: Tensor, all_cameras: Tensor) -> StepResult:
        """Predict at timestep n from noisy latents ``x`` [1, C, T, h, w] and render ``all_cameras`` [T + M, 11]."""
        with torch.autocast(self.device.type, torch.bfloat16):
            velocity, features = self.student.transformer(
                network_input, self.schedule.timesteps[n : n + 1].to(self.device), conditions.text
            )
            latents_2d = x0_from_velocity(x, velocity.float(), self.schedule.sigmas[n])
            per_view = self.encoder.unnormalize(latents_2d[0].transpose(0, 1))
            raw = self.student.recon_decoder(features[0].transpose(0, 1), per_view)
        parts = self.student.recon_decoder.gaussians_from_raw(raw.float(), conditions.cameras)
        scene = Gaussians(*(part.flatten(0, 3) for part in parts))
        cameras = rendering_cameras(dataclasses.replace(conditions, cameras=all_cameras))
        rgb = render(scene, cameras, background="white").rgb
        index = conditions.image_index
        frame = Gaussians(*(part[index].flatten(0, 2) for part in parts))
        own_view = render(frame, cameras[index], background="white").rgb
        return StepResult(parts[0], parts[3], rgb, own_view, features.detach(), latents_2d)

    def encode(self, images: Tensor) -> Tensor:
        """Latents [1, C, V, h, w] of views [V, H, W, 3] in [0, 1]."""
        pixels = (images.permute(0, 3, 1, 2) * 2 - 1).clamp(-1, 1)
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
            return self.encoder.encode(pixels).transpose(0, 1)[None]

    def train_scene(self, scene: PreparedScene, steps: int, rng: random.Random, update, journal: Journal) -> None:
        """One scene through ``steps`` of the student's steps; ``update(loss)`` after each."""
        recipe, views = self.recipe, scene.views
        images, cameras = scene.images.to(self.device), scene.cameras.to(self.device)
        z_true = self.encode(images[:views])
        with_image, index = rng.random() >= recipe.text_only, rng.randrange(views)
        teacher_forced = not with_image and rng.random() < recipe.teacher_forced
        prompt = scene.prompt if not with_image or rng.random() < 0.7 else ""
        height, width = images.shape[1:3]
        conditions = Conditions(cameras[:views], width, height, torch.empty(0), image_index=index)
        network_input = self.sampler.assemble_constants(
            conditions, z_true[0, :, index] if with_image else None, self.device
        )
        x, feedback = torch.randn(z_true.shape).to(self.device), None
        for n in range(steps):
            self.sampler.assemble_variables(network_input, x, feedback)
            conditions = dataclasses.replace(conditions, text=self.text_rows(prompt))
            result = self.step(conditions, n, network_input, x, cameras)
            loss = (
                rendering_loss(result.rgb, images)
                + recipe.gradient_weight * image_gradient_loss(result.rgb, images)
                + recipe.latent_weight * latent_loss(result.latents_2d, z_true)
                + recipe.distance_weight
                * distance_loss(result.means, cameras[:views, 4:7], scene.log_distance.to(self.device))
            )
            if with_image:
                loss = loss + recipe.own_view_weight * rendering_loss(result.own_view, images[index : index + 1])
                camera = rendering_cameras(conditions)[index]
                seen = in_sight(result.means, camera, scene.log_distance[index].to(self.device))
                seen[index] = False
                loss = loss + recipe.redundancy_weight * (result.opacities * seen).mean()
            update(loss)
            rgb = result.rgb.detach()
            db = psnr_db(rgb, images)
            if with_image:
                values = {
                    "loss": loss.item(),
                    "input_db": db[index].item(),
                    "own_db": psnr_db(result.own_view.detach(), images[index : index + 1]).item(),
                    "novel_db": db[views:].mean().item(),
                }
            else:
                values = {"text_db": db[:views].mean().item()}
            journal.add(**{f"{name}{n}": value for name, value in values.items()})
            if n + 1 < steps:
                z_3d = self.encode(rgb[:views])
                feedback = (result.features, z_3d)
                noise = torch.randn(z_3d.shape).to(self.device)
                x = renoise(z_true if teacher_forced else z_3d, noise, self.schedule.sigmas[n + 1])
                # The next step's graph must not share the buffer this one was differentiated through.
                network_input = network_input.clone()


def train_generator(config, encoder, student, tokenizer, recipe: Recipe, out: Path, resume: Path | None = None) -> Path:
    """Train ``student`` for ``recipe.minutes``; writes ``out/generator.pt`` as it goes, to ``resume`` from."""
    torch.manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    device = torch.device(recipe.device)
    encoder.to(device)
    student.to(device).train()
    average = WeightAverage(student, recipe.average_decay)
    decay = [p for p in student.parameters() if p.ndim > 1]
    plain = [p for p in student.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=recipe.lr, betas=(0.9, 0.95), fused=True,
    )  # fmt: skip
    done_seconds, updates, scenes = 0.0, 0, 0
    if resume is not None:
        state = load_checkpoint(resume)
        student.load_state_dict(state["student"])
        average.average.load_state_dict(state["average"])
        average.updates = state["updates"]
        optimizer.load_state_dict(state["optimizer"])
        done_seconds, updates, scenes = state["seconds"], state["updates"], state["scenes"]
        rng = random.Random(recipe.seed + updates)
        torch.manual_seed(recipe.seed + updates)
    trainer = FewStepTrainer(config, encoder, student, tokenizer, recipe)
    journal = Journal(out / "generator.jsonl", every=100)
    data = stream(
        SceneStream(config, recipe.novel_views, first_seed=recipe.seed * 1_000_000_000 + scenes), recipe.workers
    )
    started = last_saved = time.monotonic()

    def progress() -> float:
        return (done_seconds + time.monotonic() - started) / 60 / recipe.minutes

    def update(loss: Tensor) -> None:
        nonlocal updates
        factor = min(1.0, (updates + 1) / recipe.warmup) * warmup_cosine(int(1e4 * progress()), 10_000, 0)
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * factor
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(student.parameters(), recipe.clip)
        if torch.isfinite(norm):
            optimizer.step()
            average.update(student)
        updates += 1
        journal.add(grad_norm=norm.item(), finite=float(torch.isfinite(norm)))

    def save() -> Path:
        path = out / "generator.pt"
        save_atomically(
            {
                "student": student.state_dict(), "average": average.average.state_dict(),
                "optimizer": optimizer.state_dict(), "updates": updates, "scenes": scenes,
                "seconds": done_seconds + time.monotonic() - started, "recipe": dataclasses.asdict(recipe),
                "config": config.to_json(),
            },
            path,
        )  # fmt: skip
        return path

    all_steps = len(config.timestep_indices)
    while progress() < 1.0:
        steps = 1 if progress() < recipe.single_step_until else all_steps
        trainer.train_scene(next(data), steps, rng, update, journal)
        scenes += 1
        journal.report(scenes, updates=updates, progress=progress())
        if time.monotonic() - last_saved > 60 * recipe.save_minutes:
            save()
            last_saved = time.monotonic()
    return save()
