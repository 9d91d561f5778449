"""`Student`: both of FlashWorld's modes in one pass, and the differentiable road from its Gaussians to latents."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...cameras import Cameras
from ...flow.sample import x0_from_velocity
from ...gaussians import Gaussians
from ...generators.flashworld.cameras import raymaps
from ...generators.flashworld.conditioning import Conditions, rendering_cameras
from ...generators.flashworld.config import FlashWorldConfig
from ...generators.flashworld.gaussian_decoder import GaussianDecoder
from ...generators.flashworld.transformer import FlashWorldTransformer
from ...models.wan_vae import FrameEncoder
from ...rendering.render import render


@dataclasses.dataclass(frozen=True)
class Views:
    """What a pass over T views is conditioned on.

    Attributes:
        cameras: [T, 11] camera vectors in the input path's normalized frame.
        width, height: pixels.
        text: [1, L, D] text embedding, zero rows behind the prompt.
        image_latents: [C, h, w] clean latents of the given picture, or None.
        image_index: the view it shows.
        posed: whether the cameras are known; else the raymap is 0.
    """

    cameras: Tensor
    width: int
    height: int
    text: Tensor
    image_latents: Tensor | None = None
    image_index: int = 0
    posed: bool = True


@dataclasses.dataclass(frozen=True)
class Pass:
    """What one pass of the transformer gave.

    Attributes:
        velocity: [B, C, T, h, w] float32.
        features: [B, F, T, h, w].
        latents: [B, C, T, h, w] float32, the multi-view mode's clean latents x - s v.
    """

    velocity: Tensor
    features: Tensor
    latents: Tensor


def assemble(
    config: FlashWorldConfig, noisy: Tensor, views: Sequence[Views], feedback: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """The transformer's input [B, 3 C + 6 + F, T, h, w]: a new tensor, since graphs keep it.

    Args:
        noisy: [B, C, T, h, w].
        views: of each sample.
        feedback: features and latents of the renders of the step before; None leaves these channels 0.
    """
    layout, (rows, columns) = config.input_layout, noisy.shape[-2:]
    batch, size = len(noisy), noisy.shape[2:]
    parts = {name: noisy.new_zeros(batch, s.stop - s.start, *size) for name, s in layout.items()}
    parts["noisy"] = noisy
    for i, of in enumerate(views):
        if of.posed:
            parts["raymap"][i] = raymaps(of.cameras, rows, columns).transpose(0, 1).to(noisy)
        if of.image_latents is not None:
            parts["condition"][i, :, of.image_index] = of.image_latents.to(noisy)
    if feedback is not None:
        parts["feedback_features"], parts["feedback_latents"] = (part.to(noisy) for part in feedback)
    return torch.cat([parts[name] for name in layout], 1)


def run_transformer(
    transformer: nn.Module, config: FlashWorldConfig, noisy: Tensor, sigma: Tensor | float, views: Sequence[Views],
    feedback: tuple[Tensor, Tensor] | None = None, dtype: torch.dtype | None = None,
) -> Pass:  # fmt: skip
    """One pass at noise level ``sigma``, one number or one a sample; the timestep is 1000 sigma.

    Args:
        dtype: autocast to this type; None computes in the weights' own.
    """
    sigma = torch.as_tensor(sigma, dtype=torch.float32, device=noisy.device).expand(len(noisy))
    text = torch.cat([of.text for of in views])
    with autocast(noisy.device, dtype):
        velocity, features = transformer(assemble(config, noisy, views, feedback), 1000 * sigma, text)
    velocity = velocity.float()
    return Pass(velocity, features, x0_from_velocity(noisy, velocity, sigma))


def autocast(device: torch.device, dtype: torch.dtype | None):
    """Autocast to ``dtype``, or no change where it is None or float32."""
    if dtype in (None, torch.float32):
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)


class Student(nn.Module):
    """The trained networks together: one optimizer, one average and one checkpoint hold them all.

    Parameters are named as in a model folder: ``transformer.*``, ``recon_decoder.*``; ``text_encoder.*`` where the
    recipe trains one.
    """

    def __init__(self, config: FlashWorldConfig, text_encoder: nn.Module | None = None):
        super().__init__()
        self.config = config
        self.transformer = FlashWorldTransformer(config)
        self.recon_decoder = GaussianDecoder(config)
        self.text_encoder = text_encoder


class Road:
    """From features to Gaussians to renders to latents, view by view: what the 3D mode does behind the transformer.

    Decoding, rendering and encoding keep their intermediate results for one view at a time: each view is recomputed in
    the backward pass (`recompute`), so peak memory does not grow with the number of views.

    Args:
        decoder, encoder: the 3DGS decoder, and the frozen VAE encoder, through which gradients flow.
        recompute: recompute views in backward; off keeps everything, which is faster where memory is plenty.
        dtype: autocast of the networks.
    """

    def __init__(
        self, config: FlashWorldConfig, decoder: GaussianDecoder, encoder: FrameEncoder, *, recompute: bool = True,
        dtype: torch.dtype | None = None,
    ):  # fmt: skip
        self.config, self.decoder, self.encoder = config, decoder, encoder
        self.recompute, self.dtype = recompute, dtype

    def gaussians(self, features: Tensor, latents: Tensor, views: Sequence[Views]) -> list[tuple[Tensor, ...]]:
        """Of each sample the five tensors of `gaussian_decoder.gaussians_from_raw`, each [T, P, h_g, w_g, ...].

        Args:
            features: [B, F, T, h, w] of the transformer.
            latents: [B, C, T, h, w] normalized clean latents.
            views: of each sample.
        """
        count = features.shape[2]
        latents = self.encoder.unnormalize(latents.transpose(1, 2).flatten(0, 1))
        features = features.transpose(1, 2).flatten(0, 1)
        cameras = torch.cat([of.cameras for of in views])
        if self.recompute:
            parts = [
                self._kept(self._decode, features[i : i + 1], latents[i : i + 1], cameras[i : i + 1])
                for i in range(len(features))
            ]
            parts = [torch.cat(column) for column in zip(*parts, strict=True)]
        else:
            parts = self._decode(features, latents, cameras)
        return list(zip(*(part.split(count) for part in parts), strict=True))

    def render(self, scene: Gaussians, views: Views, background: Tensor | str = "white") -> Tensor:
        """[V, H, W, 3] pictures of a scene of the normalized frame from ``views.cameras``."""
        return render(scene, _cameras(views), background=background).rgb

    def render_and_encode(
        self, scenes: Sequence[Gaussians], views: Sequence[Views], noise: Tensor | None = None,
        background: str = "white",
    ) -> Tensor:  # fmt: skip
        """[B, C, V, h, w] float32 latents of each scene seen from its ``views.cameras``.

        Args:
            noise: [B, V, C, h, w] for the encoder's posterior; None takes its mean.
        """
        if not self.recompute:
            rgb = torch.cat([self.render(scene, of, background) for scene, of in zip(scenes, views, strict=True)])
            latents = self.encode(rgb, None if noise is None else noise.flatten(0, 1))
            return latents[0].transpose(0, 1).unflatten(0, (len(scenes), -1)).transpose(1, 2)
        latents = []
        for b, (scene, of) in enumerate(zip(scenes, views, strict=True)):
            tensors, cameras = (scene.means, scene.quats, scene.scales, scene.opacities, scene.sh), _cameras(of)
            seen = [
                self._kept(
                    functools.partial(self._see, cameras[i], background),
                    None if noise is None else noise[b, i : i + 1],
                    *tensors,
                )
                for i in range(len(cameras))
            ]
            latents.append(torch.cat(seen, 2))
        return torch.cat(latents)

    def encode(self, rgb: Tensor, noise: Tensor | None = None) -> Tensor:
        """[1, C, V, h, w] float32 latents of pictures [V, H, W, 3] in [0, 1]."""
        images = (rgb.permute(0, 3, 1, 2) * 2 - 1).clamp(-1, 1)
        with autocast(rgb.device, self.dtype):
            return self.encoder.encode(images, noise).transpose(0, 1)[None].float()

    def _decode(self, features: Tensor, latents: Tensor, cameras: Tensor) -> tuple[Tensor, ...]:
        with autocast(latents.device, self.dtype):
            raw = self.decoder(features, latents)
        return self.decoder.gaussians_from_raw(raw.float(), cameras)

    def _see(self, camera: Cameras, background: str, noise: Tensor | None, *tensors: Tensor) -> Tensor:
        return self.encode(render(Gaussians(*tensors), camera, background=background).rgb, noise)

    def _kept(self, function, *inputs):
        if not torch.is_grad_enabled():
            return function(*inputs)
        # No random numbers are drawn inside: posterior noise is an input.
        return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)


def scene_of(parts: tuple[Tensor, ...]) -> Gaussians:
    """Flatten `Road.gaussians` to a scene, ordered view, point, row, column."""
    return Gaussians(*(part.flatten(0, 3) for part in parts))


def _cameras(views: Views) -> Cameras:
    return rendering_cameras(Conditions(views.cameras, views.width, views.height, views.text))
