"""Both flows one after the other: image tokens to a structure, its voxels to Gaussians."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from ...errors import FlashWorldError
from ...flow.guidance import Guidance
from ...flow.noise import NoiseSource
from ...flow.ode import OdeStep, euler_samples
from ...flow.schedule import ode_levels
from ...gaussians import Gaussians
from ...models.sparse import SparseLayout
from ...progress import Progress
from ...runtime.stages import Stages
from ...sh import C0
from .presets import TrellisConfig
from .structure_vae import occupied

EMPTY = (
    "No voxel of the object is occupied: the model saw nothing it could build. Check the mask (white on the object), "
    "try another seed, or more structure steps."
)
_GRAY = 0.6  # of voxels shown before they have colors


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How both flows are run.

    Attributes:
        steps, guidance: of (structure, SLAT).
        interval: noise levels between which guidance acts.
        shift: of the schedules.
    """

    steps: tuple[int, int]
    guidance: tuple[float, float]
    interval: tuple[float, float]
    shift: float

    def levels(self, flow: int) -> list[float]:
        return ode_levels(self.steps[flow], self.shift)

    def guide(self, flow: int) -> Guidance:
        return Guidance(self.guidance[flow], *self.interval)


@dataclasses.dataclass(frozen=True)
class SamplerStep:
    """What a step made: the object so far in the asset frame, made when asked for."""

    index: int
    scene: Callable[[], Gaussians]


class TwoFlowSampler:
    """Runs the flows on given networks. It draws nothing by itself.

    Args:
        networks: by stage name.
        stages: loads and unloads them.
    """

    def __init__(self, config: TrellisConfig, networks: Mapping[str, nn.Module], stages: Stages):
        self.config, self.networks, self.stages = config, networks, stages

    @torch.no_grad()
    def tokens(self, image: Tensor) -> Tensor:
        """[1, 3, S, S] to [1, tokens, width]."""
        with self.stages("encoder") as device:
            return self.networks["encoder"](image.to(device))

    @torch.no_grad()
    def structure(
        self, tokens: Tensor, sampling: Sampling, noise: NoiseSource, report: Progress
    ) -> Iterator[tuple[OdeStep, Callable[[], Tensor]]]:
        """Step through the first flow; with each step a function that says which voxels [n, 4] it means."""
        flow = self.config.structure_flow
        start = noise.draw("structure", (1, flow.in_channels, *[flow.resolution] * 3))

        def network(x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
            report.check()
            return self.networks["structure_flow"](x, t, condition)

        with self.stages("structure_flow") as device:
            steps = euler_samples(network, start.to(device), tokens.to(device), sampling.levels(0), sampling.guide(0))
            yield from self._stepped(steps, lambda latent: lambda: self.voxels(latent))

    @torch.no_grad()
    def voxels(self, latent: Tensor) -> Tensor:
        """[1, C, r, r, r] to the coordinates [n, 4] of occupied voxels; n may be 0."""
        with self.stages("structure_decoder") as device:
            logits = self.networks["structure_decoder"](latent.to(device))
        if not bool(torch.isfinite(logits).all()):
            raise FlashWorldError(
                "The networks gave numbers that are not finite in half precision; use bfloat16 or float32."
            )
        return occupied(logits)

    @torch.no_grad()
    def slat(
        self, tokens: Tensor, layout: SparseLayout, sampling: Sampling, noise: NoiseSource, report: Progress
    ) -> Iterator[tuple[OdeStep, Callable[[], Gaussians]]]:
        """Step through the second flow; with each step a function that decodes its Gaussians."""
        start = noise.draw("slat", (len(layout), self.config.slat_flow.in_channels))

        with self.stages("slat_flow") as device:
            voxels = layout.to(device)

            def network(x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
                report.check()
                return self.networks["slat_flow"](x, t, condition, voxels)

            steps = euler_samples(network, start.to(device), tokens.to(device), sampling.levels(1), sampling.guide(1))
            yield from self._stepped(steps, lambda latents: lambda: self.decode(latents, layout))

    @torch.no_grad()
    def decode(self, latents: Tensor, layout: SparseLayout) -> Gaussians:
        """Normalized latents [n, C] to Gaussians in the asset frame."""
        with self.stages("decoder") as device:
            mean, std = (torch.tensor(v, device=device) for v in (self.config.slat_mean, self.config.slat_std))
            network, voxels = self.networks["decoder"], layout.to(device)
            raw = network(latents.to(device) * std + mean, voxels)
            if not bool(torch.isfinite(raw).all()):
                raise FlashWorldError(
                    "The networks gave numbers that are not finite in half precision; use bfloat16 or float32."
                )
            return network.activate(raw, voxels.coords[:, 1:])

    @staticmethod
    def _stepped(steps: Iterator[OdeStep], look: Callable[[Tensor], Callable]) -> Iterator[tuple[OdeStep, Callable]]:
        for step in steps:
            yield step, look(step.data)


def voxel_scene(coords: Tensor, resolution: int) -> Gaussians:
    """Gray balls at occupied voxels [n, 4], for a look at a structure without colors; asset frame."""
    n, device = len(coords), coords.device
    means = (coords[:, 1:].float() + 0.5) / resolution - 0.5
    shade = _GRAY + 0.25 * means[:, 2:]  # lighter towards the top
    return Gaussians(
        means,
        torch.tensor([1.0, 0.0, 0.0, 0.0], device=device).repeat(n, 1),
        torch.full((n, 3), 0.4 / resolution, device=device),
        torch.full((n,), 0.95, device=device),
        ((shade - 0.5) / C0).expand(n, 3)[:, None].contiguous(),
    )
