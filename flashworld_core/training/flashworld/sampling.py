"""Sample what is being trained, several scenes at a time: the multi-view mode, the few steps, and the 3D mode's ODE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...flow.sample import euler_step, velocity_from_x0
from ...flow.schedule import shift_sigmas, shifted_schedule
from ...gaussians import Gaussians
from ..draws import Draws, normal
from ..objectives.dmd import guided
from .networks import Networks
from .rollout import roll_out
from .student import Views, scene_of


def even_levels(steps: int, shift: float) -> list[float]:
    """``steps`` + 1 noise levels from 1 to 0."""
    return shift_sigmas(torch.linspace(1, 0, steps + 1), shift).tolist()


@torch.no_grad()
def sample_multiview(
    networks: Networks, views: Sequence[Views], draws: Sequence[Draws], *, steps: int = 30, guidance: float = 1.0,
    transformer: nn.Module | None = None,
) -> Tensor:  # fmt: skip
    """Latents [B, C, T, h, w] of the multi-view mode: Euler steps of the probability-flow ODE."""
    x = normal(draws, "init", _shape(networks, views)).to(networks.device)
    denoise = networks.denoise(views, transformer)
    empty = None
    if guidance != 1.0:
        text = networks.embed([""])
        empty = networks.denoise([Views(of.cameras, of.width, of.height, text) for of in views], transformer)
    levels = even_levels(steps, networks.config.shift)
    for sigma, after in zip(levels[:-1], levels[1:], strict=True):
        made = denoise(x, sigma, None).velocity
        without = None if empty is None else empty(x, sigma, None).velocity
        x = euler_step(x, guided(made, without, guidance), sigma, after)
    return x


@torch.no_grad()
def sample_few_steps(
    networks: Networks, views: Sequence[Views], draws: Sequence[Draws], *, steps: int | None = None,
    transformer: nn.Module | None = None, decoder: nn.Module | None = None, multiview: bool = False,
) -> tuple[list[Gaussians] | None, Tensor]:  # fmt: skip
    """The few-step student: (scenes, latents), as inference makes them.

    Args:
        steps: of the model's schedule to run, from the noisiest; None runs all. The last one's scene is the result.
        multiview: feed the multi-view mode's latents back instead of the renders; there is no scene then.
    """
    model = networks.config
    sigmas = tuple(float(s) for s in shifted_schedule(model.shift).select(model.timestep_indices).sigmas)
    count = len(sigmas) if steps is None else steps
    made = roll_out(
        networks.denoise(views, transformer), networks.road(decoder), views, None, sigmas=sigmas,
        task="multiview" if multiview else "input_views", steps_before=count - 1, draws=draws,
        shape=(1, *_shape(networks, views)), gradient=False,
    )  # fmt: skip
    return made.scenes, made.latents


@torch.no_grad()
def sample_many_steps(
    networks: Networks, views: Sequence[Views], draws: Sequence[Draws], *, steps: int = 30,
    transformer: nn.Module | None = None, decoder: nn.Module | None = None,
) -> list[Gaussians]:  # fmt: skip
    """Scenes of the 3D mode's ODE: at each Euler step the renders' latents stand for the clean ones."""
    x, feedback = normal(draws, "init", _shape(networks, views)).to(networks.device), None
    denoise, road = networks.denoise(views, transformer), networks.road(decoder)
    levels = even_levels(steps, networks.config.shift)
    for sigma, after in zip(levels[:-1], levels[1:], strict=True):
        made = denoise(x, sigma, feedback)
        scenes = [scene_of(parts) for parts in road.gaussians(made.features, made.latents, views)]
        if after > 0:
            latents = road.render_and_encode(scenes, views)
            feedback = (made.features, latents)
            x = euler_step(x, velocity_from_x0(x, latents, sigma), sigma, after)
    return scenes


def _shape(networks: Networks, views: Sequence[Views]) -> tuple[int, ...]:
    of = views[0]
    return (networks.config.latent_channels, len(of.cameras), *networks.config.latent_size(of.height, of.width))


class LatentPictures:
    """Pictures of latents without a VAE decoder: the affine map from a latent pixel to its block that fits best.

    Args:
        networks: whose encoder is inverted.
        images: [N, H, W, 3] in [0, 1] it is fitted to, by least squares.
    """

    def __init__(self, networks: Networks, images: Tensor):
        self.size = networks.config.spatial_factor
        latents = networks.encode_images(images[None].to(networks.device), None)[0].transpose(0, 1)
        z = latents.permute(0, 2, 3, 1).flatten(0, 2)
        blocks = torch.nn.functional.pixel_unshuffle(images.to(z).permute(0, 3, 1, 2), self.size)
        inputs = torch.cat([z, torch.ones_like(z[:, :1])], 1).double()
        self.weight = torch.linalg.lstsq(inputs, blocks.permute(0, 2, 3, 1).flatten(0, 2).double()).solution.float()

    def __call__(self, latents: Tensor) -> Tensor:
        """[B, C, T, h, w] latents to [B, T, H, W, 3] pictures in [0, 1]."""
        z = latents.permute(0, 2, 3, 4, 1)
        blocks = torch.cat([z, torch.ones_like(z[..., :1])], -1) @ self.weight
        pictures = torch.nn.functional.pixel_shuffle(blocks.permute(0, 1, 4, 2, 3), self.size)
        return pictures.permute(0, 1, 3, 4, 2).clamp(0, 1)
