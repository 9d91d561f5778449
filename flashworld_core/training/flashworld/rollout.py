"""Backward simulation (DMD2): the student is trained on the states its own steps lead to, not on noisy truths."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...flow.sample import renoise
from ...gaussians import Gaussians
from ..draws import Draws, normal
from .student import Pass, Road, Views, scene_of
from .tasks import Task

Denoise = Callable[[Tensor, float, tuple[Tensor, Tensor] | None], Pass]


@dataclasses.dataclass(frozen=True)
class Rollout:
    """What the last step of a rollout made; with a graph if one was asked for.

    Attributes:
        latents: [B, C, T, h, w] what is scored: Z_mv, or the encoded renders at ``views``.
        multiview: [B, C, T, h, w] Z_mv of the same pass.
        views: of each sample, the cameras of ``latents``, with the condition that belongs to them.
        scenes: the Gaussians of each sample, None in the multi-view task.
        sigma: noise level of the last step.
    """

    latents: Tensor
    multiview: Tensor
    views: Sequence[Views]
    scenes: list[Gaussians] | None
    sigma: float


def roll_out(
    denoise: Denoise, road: Road, views: Sequence[Views], novel: Sequence[Views] | None, *, sigmas: tuple[float, ...],
    task: Task, steps_before: int, draws: Sequence[Draws], shape: tuple[int, ...], gradient: bool = True,
    detach_latents: bool = True,
) -> Rollout:  # fmt: skip
    """``steps_before`` steps without gradient, then one with it.

    Each step renders the Gaussians at the input views and encodes them (3D tasks) or keeps the multi-view mode's
    latents (multi-view task); these, re-noised with fresh noise, and the features are the next step's input.

    Args:
        denoise: the student's pass: (noisy latents, noise level, feedback) -> `Pass`.
        road: its decoder, the renderer and the encoder.
        views: the input views of each sample.
        novel: the novel views, needed by the task "novel_views".
        sigmas: the student's noise levels, noisiest first; ``steps_before`` of them come before the last step.
        draws: of each sample.
        shape: of the latents of one sample, [1, C, T, h, w].
        gradient: keep the last step's graph.
        detach_latents: the decoder takes Z_mv as a constant, so that only the multi-view objectives shape it.
    """
    device = views[0].cameras.device
    posterior = (shape[2], shape[1], *shape[3:])
    x, feedback = normal(draws, "init", shape[1:]).to(device), None
    for k in range(steps_before + 1):
        last = k == steps_before
        with torch.set_grad_enabled(gradient and last):
            made = denoise(x, sigmas[k], feedback)
            if task == "multiview":
                if last:
                    return Rollout(made.latents, made.latents, views, None, sigmas[k])
                latents = made.latents
            else:
                decoded = made.latents.detach() if detach_latents else made.latents
                scenes = [scene_of(parts) for parts in road.gaussians(made.features, decoded, views)]
                if last:
                    scored = novel if task == "novel_views" else views
                    latents = road.render_and_encode(scenes, scored)
                    return Rollout(latents, made.latents, scored, scenes, sigmas[k])
                noise = normal(draws, f"render_posterior_{k}", posterior).to(device)
                latents = road.render_and_encode(scenes, views, noise)
        feedback = (made.features.detach(), latents.detach())
        x = renoise(latents.detach(), normal(draws, f"renoise_{k + 1}", shape[1:]).to(device), sigmas[k + 1])
    raise AssertionError("a rollout ends with its last step")
