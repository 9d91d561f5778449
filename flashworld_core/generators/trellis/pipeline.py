"""`TrellisModel`: the networks, and the way from a request to an object in the user's world."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...cameras import Cameras
from ...checkpoints.assign import cast
from ...errors import FlashWorldError
from ...flow.noise import SeededNoise
from ...gaussians import GENERATOR, MODEL_ID, SEED, VERSION, Gaussians
from ...models.sparse import SparseLayout
from ...runtime.memory import MemoryPlan
from ...runtime.stages import ResidentStages, Stages
from ..base import Generation, GeneratorInfo, Request, RunOptions
from .blocks import body_dtype
from .cameras import object_cameras, to_world
from .checkpoint import NAME
from .conditioning import cut_out, prepare_image
from .memory import memory_plan
from .networks import IMAGE_ENCODER, STAGES
from .presets import TrellisConfig
from .sampler import EMPTY, Sampling, TwoFlowSampler, voxel_scene

GUIDANCE, NOISE = "guidance", "noise"  # options: a number or (structure, SLAT); a `flow.noise.NoiseSource`
MAX_STEPS = 200
VIEWS = 8  # of the cameras a result comes with


def info_of(
    config: TrellisConfig, license: str = "", parameters: int = 0, image_encoder: bool = False
) -> GeneratorInfo:
    """Say what a model of these sizes is and takes."""
    return GeneratorInfo(
        name=NAME,
        model_id=config.model_id,
        license=license,
        views=VIEWS,
        width=config.preview_size,
        height=config.preview_size,
        steps=config.steps[0],
        parameters=parameters,
        kind="object",
        image_encoder=image_encoder,
    )


@dataclasses.dataclass
class TrellisModel:
    """A TRELLIS model ready to generate. Implements `generators.base.Generator`.

    Attributes:
        config: sizes and defaults.
        modules: the networks by their names in `TrellisConfig`, in eval mode.
        license: the license of the weights in one line.
    """

    config: TrellisConfig
    modules: Mapping[str, nn.Module]
    license: str = ""

    def __post_init__(self):
        for module in self.modules.values():
            module.eval().requires_grad_(False)

    @property
    def info(self) -> GeneratorInfo:
        """What the model is and takes."""
        return info_of(self.config, self.license, sum(p.numel() for m in self.modules.values() for p in m.parameters()))

    @property
    def networks(self) -> dict[str, Any]:
        """The networks by stage name."""
        return {stage: self.modules[part] for stage, part in STAGES.items()}

    @property
    def dtype(self) -> torch.dtype:
        """The precision the flows' bodies compute in."""
        return body_dtype(self.modules["structure_flow"].blocks)

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> TrellisModel:
        """Move the networks and/or change their precision, in place. Returns itself."""
        for module in self.modules.values():
            cast(module, dtype, device)
        return self

    def memory_plan(
        self, *, views: int, height: int, width: int, device_type: str, views_per_chunk: int | None = None
    ) -> MemoryPlan:
        """Plan the memory of a generation, see `memory.memory_plan`."""
        return memory_plan(
            self.config, views=views, height=height, width=width, dtype=self.dtype, device_type=device_type
        )

    def check(self, request: Request) -> list[str]:
        """Refuse what cannot be made; remark on what is ignored."""
        if len(request.images) != 1:
            raise FlashWorldError(
                f"{self.config.model_id} makes an object from exactly one image, got {len(request.images)}; give one."
            )
        sampling_of(self.config, request)
        cut_out(request.images[0])
        return [f"{self.config.model_id} reads no prompt; it is not used."] if request.prompt.strip() else []

    def generate(self, request: Request, run: RunOptions | None = None) -> Generation:
        """Generate an object from an image.

        Args:
            request: one image with a mask or transparency. ``cameras`` are views to come with the result, None for
                some around it. ``steps``: a number for both flows, or (structure, SLAT). Option ``guidance``: a number
                for both, or (structure, SLAT); 0 is none.
            run: how. With ``on_step`` each step is decoded: before the last one of the structure as gray voxels.

        Returns:
            The object in the user's world: at most 1 wide about the origin, its front towards -z.

        Raises:
            FlashWorldError: as `check`, or an empty structure.
            Cancelled: ``run.progress`` wants to stop.
        """
        from ... import __version__

        run, config = run or RunOptions(), self.config
        self.check(request)
        sampling = sampling_of(config, request)
        stages: Stages = run.stages or ResidentStages(self.networks)
        noise = request.options.get(NOISE) or SeededNoise(request.seed)
        cameras = request.cameras or object_cameras(VIEWS, config.preview_size, config.preview_size)
        sampler = TwoFlowSampler(config, self.networks, stages)
        total = sum(sampling.steps)
        report = run.progress.start(total + 2)
        report.check()
        origin = {GENERATOR: NAME, MODEL_ID: config.model_id, SEED: int(request.seed), VERSION: __version__}
        shower = _Shower(run, report, cameras, total, origin)

        tokens = sampler.tokens(prepare_image(request.images[0], self.modules[IMAGE_ENCODER].config.image_size))
        report.advance()
        for index, (step, look) in enumerate(sampler.structure(tokens, sampling, noise, report)):
            latent = step.x
            if index + 1 < sampling.steps[0]:
                shower.show(index, lambda look=look: _voxels_or_none(look(), config.resolution))
        report.check()
        coords = sampler.voxels(latent)
        if not len(coords):
            raise FlashWorldError(EMPTY)
        shower.show(sampling.steps[0] - 1, lambda: voxel_scene(coords, config.resolution))
        layout = SparseLayout(coords)
        for index, (step, look) in enumerate(sampler.slat(tokens, layout, sampling, noise, report)):  # noqa: B007
            latents = step.x
            if index + 1 < sampling.steps[1]:
                shower.show(sampling.steps[0] + index, look)
        report.check()
        scene = dataclasses.replace(to_world(sampler.decode(latents, layout)), metadata=origin)
        preview = shower.show(total - 1, lambda: scene, done=True)
        return Generation(scene, cameras, total - 1, total, len(scene), preview)


@dataclasses.dataclass
class _Shower:
    """Shows steps to whoever watches, and counts them."""

    run: RunOptions
    report: Any
    cameras: Cameras
    total: int
    origin: dict

    def show(self, index: int, scene: Callable[[], Gaussians | None], done: bool = False) -> Tensor | None:
        """Count a step; where somebody watches, draw it and hand it over. ``done``: it is in the world already."""
        preview = None
        if self.run.on_step is not None or (done and self.report.report is not None):
            made = scene()
            if made is not None:
                made = made if done else dataclasses.replace(to_world(made), metadata=self.origin)
                preview = preview_image(made, self.cameras, self.run.backend)
                if self.run.on_step is not None:
                    self.run.on_step(Generation(made, self.cameras, index, self.total, len(made), preview))
        self.report.advance(1, preview)
        return preview


def _voxels_or_none(coords: Tensor, resolution: int) -> Gaussians | None:
    return voxel_scene(coords, resolution) if len(coords) else None


def preview_image(scene: Gaussians, cameras: Cameras, backend: str = "auto") -> Tensor:
    """[H, W, 3] float32 in [0, 1] on the CPU: the first view, and beside it the one half way along."""
    from ...rendering.render import render

    views = cameras[[0, len(cameras) // 2]] if len(cameras) > 1 else cameras
    rgb = render(scene, views.to(scene.device), background="white", backend=backend).rgb.clamp(0, 1).cpu()
    return torch.cat(list(rgb), 1)


def sampling_of(config: TrellisConfig, request: Request) -> Sampling:
    """The samplers' settings of a request.

    Raises:
        FlashWorldError: steps or guidance that cannot be, or options nobody takes.
    """
    if unknown := sorted(set(request.options) - {GUIDANCE, NOISE}):
        raise FlashWorldError(f"TRELLIS takes no option {', '.join(unknown)}; it takes {GUIDANCE} and {NOISE}.")
    steps = config.steps if request.steps is None else _pair(request.steps, int, "steps")
    if not all(1 <= s <= MAX_STEPS for s in steps):
        raise FlashWorldError(f"steps must be 1..{MAX_STEPS} for each of the two flows, got {steps[0]} and {steps[1]}.")
    given = request.options.get(GUIDANCE)
    guidance = config.guidance if given is None else _pair(given, float, GUIDANCE)
    sampling = Sampling(steps, guidance, config.guidance_interval, config.shift)
    sampling.guide(0), sampling.guide(1)
    return sampling


def _pair(value: Any, kind: type, name: str) -> tuple:
    """(structure, SLAT) of one number or two."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    try:
        pair = tuple(kind(v) for v in values)
    except (TypeError, ValueError):
        pair = ()
    if len(pair) != 2:
        raise FlashWorldError(f"{name} must be one number for both flows or two (structure, SLAT), got {value!r}.")
    return pair
