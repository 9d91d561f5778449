"""The stages before distillation: structure VAE, Gaussian decoder, and the two flows with their image encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...datasets.objects import draw_object, render_object
from ...flow.ode import TIME_SCALE, noised, velocity_target
from ...generators.trellis.cameras import object_cameras, to_world
from ...generators.trellis.gaussian_decoder import GaussianDecoder
from ...generators.trellis.presets import TrellisConfig
from ...generators.trellis.slat_flow import SlatFlow
from ...generators.trellis.structure_flow import StructureFlow
from ...generators.trellis.structure_vae import StructureDecoder, StructureEncoder
from ...models.dinov2 import ImageTokens, normalize
from ...models.sparse import SparseLayout
from ...rendering.render import render
from ..draws import Draws
from ..trainer import Player
from .objects import ObjectData, PreparedObject, batched_coords, occupancy

LATENT_NOISE = 0.05  # added to what the Gaussian decoder sees: at generation its input comes from a flow


class OnePlayerStage:
    """A stage with one player, whose turn it always is, and nothing to keep."""

    name = ""

    def __init__(self, player: Player):
        self.players = {"student": player}

    def turns(self, iteration: int) -> tuple[str, ...]:
        return ("student",)

    def state(self) -> dict:
        return {}

    def restore(self, state: dict) -> None:
        pass


class StructureVae(nn.Module):
    def __init__(self, config: TrellisConfig):
        super().__init__()
        self.encoder, self.decoder = (kind(config.structure_decoder) for kind in (_encoder, StructureDecoder))


def _encoder(config) -> StructureEncoder:
    import dataclasses

    return StructureEncoder(dataclasses.replace(config, channels=config.channels[::-1]))


class StructureVaeStage(OnePlayerStage):
    """Occupancy through its latent and back: cross-entropy, overlap (Dice), and a small divergence from the normal."""

    name = "structure_vae"
    divergence_weight, dice_weight = 3e-4, 1.0

    def __init__(self, data: ObjectData, config: TrellisConfig, player: Player, group: int):
        super().__init__(player)
        self.data, self.config, self.group = data, config, group

    def loss(self, player: str, draws: Draws, sample: int) -> tuple[Tensor, dict[str, float]]:
        vae = self.players[player].module
        grid = occupancy(self.data.group(sample * self.group, self.group), self.config.resolution)
        mean, log_variance = vae.encoder(grid)
        latent = mean + (0.5 * log_variance.clamp(-20, 10)).exp() * draws.normal("posterior", mean.shape)
        logits = vae.decoder(latent)
        entropy = F.binary_cross_entropy_with_logits(logits, grid)
        shown = logits.sigmoid()
        dice = 1 - (2 * (shown * grid).sum() + 1) / (shown.sum() + grid.sum() + 1)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        overlap = ((logits > 0) & (grid > 0)).sum() / ((logits > 0) | (grid > 0)).sum()
        loss = entropy + self.dice_weight * dice + self.divergence_weight * divergence
        return loss, {"entropy": entropy.item(), "overlap": overlap.item(), "latent_deviation": mean.std().item()}


class GaussianDecoderStage(OnePlayerStage):
    """Renders of the decoded Gaussians against exact images of the object, from random sides."""

    name = "gaussian_decoder"
    alpha_weight, opacity_weight = 0.5, 0.01

    def __init__(self, data: ObjectData, config: TrellisConfig, player: Player, pixels: int, views: int = 2):
        super().__init__(player)
        self.data, self.config, self.pixels, self.views = data, config, pixels, views

    def loss(self, player: str, draws: Draws, sample: int) -> tuple[Tensor, dict[str, float]]:
        network: GaussianDecoder = self.players[player].module
        seed = sample % len(self.data)
        item = self.data.objects[seed]
        layout = SparseLayout(batched_coords([item]))
        latents = item.latents + LATENT_NOISE * draws.normal("latents", item.latents.shape)
        scene = to_world(network.activate(network(latents, layout), layout.coords[:, 1:]))
        cameras = object_cameras(
            self.views, self.pixels, self.pixels, first_degrees=360 * float(draws.uniform("turn")),
            elevation_degrees=float(draws.uniform("height")) * 100 - 30,
        )  # fmt: skip
        background = draws.uniform("background", (3,))
        truth = render_object(draw_object(seed, "train"), cameras)
        target = truth[..., :3] * truth[..., 3:] + background * (1 - truth[..., 3:])
        seen = render(scene, cameras, modes=("rgb", "alpha"), background=background)
        error = (seen.rgb - target).abs().mean()
        cover = (seen.alpha.reshape(truth[..., 3].shape) - truth[..., 3]).abs().mean()
        loss = error + self.alpha_weight * cover + self.opacity_weight * (1 - scene.opacities).mean()
        psnr = -10 * (seen.rgb - target).square().mean().log10()
        return loss, {"error": error.item(), "coverage": cover.item(), "psnr_db": psnr.item()}


class Flows(nn.Module):
    """Both flows and the image encoder they share."""

    def __init__(self, config: TrellisConfig):
        super().__init__()
        self.image_encoder = ImageTokens(config.image_encoder)
        self.structure_flow = StructureFlow(config.structure_flow)
        self.slat_flow = SlatFlow(config.slat_flow)


class FlowData:
    """Batches for the flows: conditions' images, structure latents, voxels' latents.

    Args:
        latents: [N, C, r, r, r] structure latents of ``data``'s objects.
    """

    def __init__(self, data: ObjectData, latents: Tensor, config: TrellisConfig):
        self.data, self.config = data, config
        self._latents = {id(item): latent for item, latent in zip(data.objects, latents, strict=True)}
        self.mean, self.std = torch.tensor(config.slat_mean), torch.tensor(config.slat_std)

    def group(self, first: int, size: int) -> list[PreparedObject]:
        return self.data.group(first, size)

    def images(self, items: list[PreparedObject]) -> Tensor:
        return normalize(torch.stack([item.image for item in items]).float() / 255)

    def structure(self, items: list[PreparedObject]) -> Tensor:
        return torch.stack([self._latents[id(item)] for item in items])

    def slat(self, items: list[PreparedObject]) -> Tensor:
        return (torch.cat([item.latents for item in items]) - self.mean) / self.std


class FlowStage(OnePlayerStage):
    """Flow matching of both flows, with the image left out now and then."""

    name = "flows"
    level_mean, level_spread = 1.0, 1.0

    def __init__(self, data: FlowData, player: Player, group: int, dropout: float, slat_every: int = 1):
        super().__init__(player)
        self.data, self.group, self.dropout, self.slat_every = data, group, dropout, slat_every

    def loss(self, player: str, draws: Draws, sample: int) -> tuple[Tensor, dict[str, float]]:
        flows: Flows = self.players[player].module
        items = self.data.group(sample * self.group, self.group)
        tokens = flows.image_encoder(self.data.images(items))
        kept = (draws.uniform("dropout", (len(items),)) >= self.dropout).float()
        tokens = tokens * kept[:, None, None]
        t = torch.sigmoid(self.level_mean + self.level_spread * draws.normal("level", (len(items),)))

        x0 = self.data.structure(items)
        noise = draws.normal("structure", x0.shape)
        v = flows.structure_flow(noised(x0, noise, t.reshape(-1, 1, 1, 1, 1)), TIME_SCALE * t, tokens)
        structure = F.mse_loss(v, velocity_target(x0, noise))
        if sample % self.slat_every:
            return structure, {"structure": structure.item()}

        x0, layout = self.data.slat(items), SparseLayout(batched_coords(items))
        noise = draws.normal("slat", x0.shape)
        v = flows.slat_flow(noised(x0, noise, t[layout.batch_index][:, None]), TIME_SCALE * t, tokens, layout)
        slat = F.mse_loss(v, velocity_target(x0, noise))
        return structure + slat, {"structure": structure.item(), "slat": slat.item()}
