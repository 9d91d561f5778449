"""Backward simulation (DMD2): the student is trained on the states its own steps lead to, not on noisy truths."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from ...flow.sample import renoise
from ...gaussians import Gaussians
from ..draws import Draws
from .student import Pass, Road, Views, scene_of
from .tasks import Task

Denoise = Callable[[Tensor, float, tuple[Tensor, Tensor] | None], Pass]


@dataclasses.dataclass(frozen=True)
class Rollout:
    """What the last step of a rollout made; with a graph if one was asked for.

    Attributes:
        latents: [1, C, T, h, w] what is scored: Z_mv, or the encoded renders at ``views``.
        multiview: [1, C, T, h, w] Z_mv of the same pass.
        views: the cameras of ``latents``, with the condition that belongs to them.
        scene: the Gaussians, None in the multi-view task.
        parts: the same by view, as `Road.gaussians` gives them.
        sigma: noise level of the last step.
    """

    latents: Tensor
    multiview: Tensor
    views: Views
    scene: Gaussians | None
    parts: tuple[Tensor, ...] | None
    sigma: float


def roll_out(
    denoise: Denoise, road: Road, views: Views, novel: Views | None, *, sigmas: tuple[float, ...], task: Task,
    steps_before: int, draws: Draws, shape: tuple[int, ...], gradient: bool = True, detach_latents: bool = True,
) -> Rollout:  # fmt: skip
    """``steps_before`` steps without gradient, then one with it.

    Each step renders the Gaussians at the input views and encodes them (3D tasks) or keeps the multi-view mode's
    latents (multi-view task); these, re-noised with fresh noise, and the features are the next step's input.

    Args:
        denoise: the student's pass: (noisy latents, noise level, feedback) -> `Pass`.
        road: its decoder, the renderer and the encoder.
        views: the input views.
        novel: the novel views, needed by the task "novel_views".
        sigmas: the student's noise levels, noisiest first; ``steps_before`` of them come before the last step.
        draws: of the sample.
        shape: of the latents, [1, C, T, h, w].
        gradient: keep the last step's graph.
        detach_latents: the decoder takes Z_mv as a constant, so that only the multi-view objectives shape it.
    """
    device = views.cameras.device
    x, feedback = draws.normal("init", shape).to(device), None
    for k in range(steps_before + 1):
        last = k == steps_before
        with torch.set_grad_enabled(gradient and last):
            made = denoise(x, sigmas[k], feedback)
            if task == "multiview":
                if last:
                    return Rollout(made.latents, made.latents, views, None, None, sigmas[k])
                latents = made.latents
            else:
                decoded = made.latents.detach() if detach_latents else made.latents
                parts = road.gaussians(made.features, decoded, views)
                scene = scene_of(parts)
                if last:
                    scored = novel if task == "novel_views" else views
                    latents = road.render_and_encode(scene, scored)
                    return Rollout(latents, made.latents, scored, scene, parts, sigmas[k])
                noise = draws.normal(f"render_posterior_{k}", (shape[2], shape[1], *shape[3:])).to(device)
                latents = road.render_and_encode(scene, views, noise)
        feedback = (made.features.detach(), latents.detach())
        x = renoise(latents.detach(), draws.normal(f"renoise_{k + 1}", shape).to(device), sigmas[k + 1])
    raise AssertionError("a rollout ends with its last step")
