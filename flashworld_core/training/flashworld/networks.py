"""What both stages share: the networks, their text, and a prepared scene as the passes take it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ...generators.flashworld.config import FlashWorldConfig
from ...models.wan_vae import FrameEncoder
from ..draws import Draws
from ..objectives.prepared_scenes import PreparedScene
from .student import Road, Student, Views, run_transformer

EmbedText = Callable[[Sequence[str]], Tensor]
"""Prompts to [B, L, D], rows behind a prompt's tokens zero."""


class Data(Protocol):
    """Prepared scenes by number: a pure function of (kind, number)."""

    def sample(self, kind: str, number: int, novel_views: int) -> PreparedScene: ...


@dataclasses.dataclass
class Networks:
    """The student with what it is used with.

    Attributes:
        config: sizes.
        student: the trained networks.
        encoder: the frozen VAE encoder; gradients flow through it, not into it.
        embed: the text side.
        device: where the networks are.
        dtype: autocast of the networks, None for the weights' own type.
        recompute_views: see `student.Road`.
    """

    config: FlashWorldConfig
    student: Student
    encoder: FrameEncoder
    embed: EmbedText
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype | None = None
    recompute_views: bool = True

    def road(self, decoder: nn.Module | None = None) -> Road:
        """The road from features to latents, with the student's decoder or another."""
        decoder = decoder or self.student.recon_decoder
        return Road(self.config, decoder, self.encoder, recompute=self.recompute_views, dtype=self.dtype)

    def denoise(self, views: Sequence[Views], transformer: nn.Module | None = None):
        """The pass of a transformer (the student's, or another) as `rollout.roll_out` takes it."""
        transformer = transformer or self.student.transformer
        return lambda x, sigma, feedback: run_transformer(
            transformer, self.config, x, sigma, views, feedback, self.dtype
        )

    def encode_images(self, images: Tensor, noise: Tensor | None) -> Tensor:
        """[B, C, V, h, w] latents of true pictures [B, V, H, W, 3], without gradient; noise [B, V, C, h, w]."""
        with torch.no_grad():
            latents = self.road().encode(images.flatten(0, 1), None if noise is None else noise.flatten(0, 1))
            return latents[0].transpose(0, 1).unflatten(0, images.shape[:2]).transpose(1, 2)

    def latent_shape(self, scene: PreparedScene, batch: int = 1) -> tuple[int, ...]:
        """[B, C, T, h, w] of input views like a scene's."""
        height, width = scene.images.shape[1:3]
        return (batch, self.config.latent_channels, scene.views, *self.config.latent_size(height, width))


def input_views(
    networks: Networks, scenes: Sequence[PreparedScene], draws: Sequence[Draws], *, with_image: Sequence[bool],
    with_text: Sequence[bool], image_latents: Tensor | None = None,
) -> list[Views]:  # fmt: skip
    """The conditioning of the scenes' input views.

    Args:
        with_image, with_text: what each sample is given; its view is drawn.
        image_latents: [B, C, T, h, w] of the true pictures; None encodes those that are needed.
    """
    text = networks.embed([scene.prompt if told else "" for scene, told in zip(scenes, with_text, strict=True)])
    views = []
    for i, (scene, own) in enumerate(zip(scenes, draws, strict=True)):
        height, width = scene.images.shape[1:3]
        index = own.integer("image_index", scene.views) if scene.image_index is None else scene.image_index
        given, latents = with_image[i] and scene.has_image, None
        if given and image_latents is not None:
            latents = image_latents[i, :, index]
        elif given:
            shape = networks.latent_shape(scene)
            noise = own.normal("image_posterior", (1, 1, shape[1], *shape[3:])).to(networks.device)
            picture = scene.images[None, index : index + 1].to(networks.device)
            latents = networks.encode_images(picture, noise)[0, :, 0]
        cameras = scene.cameras[: scene.views].to(networks.device)
        views.append(Views(cameras, width, height, text[i : i + 1], latents, index, scene.posed))
    return views


def novel_views(views: Views, scene: PreparedScene) -> Views:
    """The scene's T novel cameras as a set the teacher can score.

    Where a picture is given, its own camera takes the place of the novel one nearest to it: then the picture has its
    view there too, and teacher and critic see what the student saw.
    """
    t = scene.views
    cameras = scene.cameras[t : 2 * t].to(views.cameras).clone()
    index = 0
    if views.image_latents is not None:
        own = views.cameras[views.image_index]
        index = int((cameras[:, 4:7] - own[4:7]).norm(dim=-1).argmin())
        cameras[index] = own
    return dataclasses.replace(views, cameras=cameras, image_index=index)
