"""`FlashWorldModel`: the networks, and the way from a request to a scene in the user's world."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from ...checkpoints.assign import cast
from ...errors import FlashWorldError
from ...flow.noise import SeededNoise
from ...gaussians import GENERATOR, MODEL_ID, SEED, VERSION, Gaussians
from ...models.quantized_linear import quantized_dtype
from ...models.umt5 import TextSpec
from ...runtime.compile import compile_blocks
from ...runtime.memory import MemoryPlan
from ...runtime.stages import ResidentStages, Stages, module_device
from ..base import Generation, GeneratorInfo, Request, RunOptions
from .conditioning import NOISE, TEXT_EMBEDS, Prepared, check_request, prepare_request, rendering_cameras
from .config import FlashWorldConfig
from .memory import choose_chunk, memory_plan
from .remarks import remarks
from .sampler import FewStepSampler, SamplerStep
from .work import work_of

if TYPE_CHECKING:
    from ...models.wan_vae import FrameEncoder
    from .gaussian_decoder import GaussianDecoder
    from .transformer import FlashWorldTransformer

logger = logging.getLogger(__name__)
NAME = "flashworld"  # in manifests and in the table of generators


class Text(Protocol):
    """What a model needs of a text encoder; `models.umt5.TextEncoder` is one."""

    def encode(self, prompts: str) -> Tensor:
        """[1, L, D] embedding, padding rows zero; the prompt prefix is the encoder's business."""


def info_of(config: FlashWorldConfig, license: str = "", parameters: int = 0) -> GeneratorInfo:
    """Say what a model of these sizes is and takes."""
    rows, columns = config.size_multiple
    return GeneratorInfo(
        name=NAME,
        model_id=config.model_id,
        license=license,
        views=config.views,
        width=config.width,
        height=config.height,
        steps=len(config.timestep_indices),
        size_multiple=(columns, rows),
        max_views=config.max_positions,
        text=TextSpec(config.transformer.text_dim, config.text_length, config.prompt_prefix),
        vae=config.vae,
        parameters=parameters,
    )


@dataclasses.dataclass
class FlashWorldModel:
    """A FlashWorld model ready to generate. Implements `generators.base.Generator`.

    Attributes:
        config: sizes.
        transformer, decoder, encoder: the networks, in eval mode.
        text: the text encoder; None where embeddings are given instead.
        license: the license of the weights in one line.
    """

    config: FlashWorldConfig
    transformer: FlashWorldTransformer
    decoder: GaussianDecoder
    encoder: FrameEncoder
    text: Text | None = None
    license: str = ""

    def __post_init__(self):
        for module in (self.transformer, self.decoder, self.encoder):
            module.eval().requires_grad_(False)

    @property
    def info(self) -> GeneratorInfo:
        """What the model is and takes."""
        return info_of(self.config, self.license)

    @property
    def dtype(self) -> torch.dtype:
        """The precision the transformer computes in."""
        return self.transformer.patch_embedding.weight.dtype

    @property
    def networks(self) -> dict[str, Any]:
        """The networks by stage name."""
        return {
            "text": self.text,
            "encoder": self.encoder,
            "transformer": self.transformer,
            "decoder": self.decoder,
        }

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> FlashWorldModel:
        """Move the networks and/or change their precision, in place. Returns itself.

        What diffusers' transformer computes in float32 (time embedding, modulation) keeps float32 weights. A text
        encoder is moved too, but keeps its own precision: that is chosen when it is loaded.
        """
        for module in (self.transformer, self.decoder, self.encoder):
            cast(module, dtype, device)
        if device is not None and hasattr(self.text, "to"):
            self.text.to(device)
        return self

    def compile(self) -> FlashWorldModel:
        """Have the transformer's blocks compiled at its first pass (`runtime.compile.compile_blocks`). Returns itself.

        Raises:
            FlashWorldError: this machine cannot; says what is missing.
        """
        compile_blocks(self.transformer, module_device(self.transformer))
        return self

    def check(self, request: Request) -> list[str]:
        """Refuse what the model cannot make (`conditioning.check_request`); say what one should know (`remarks`)."""
        check_request(self.config, request)
        if self.text is None and request.options.get(TEXT_EMBEDS) is None:
            raise FlashWorldError(
                "The model was loaded without a text encoder, which even an empty prompt needs; load one "
                "(text_encoder=...) or give text_embeds."
            )
        return remarks(self.config, request)

    def memory_plan(
        self, *, views: int, height: int, width: int, device_type: str, views_per_chunk: int | None = None
    ) -> MemoryPlan:
        """Plan the memory of a generation in the precision the model was loaded in, see `memory.memory_plan`."""
        size = {"views": views, "height": height, "width": width}
        return memory_plan(
            self.config,
            **size,
            dtype=self.dtype,
            stored=quantized_dtype(self.transformer),
            device_type=device_type,
            views_per_chunk=views_per_chunk,
        )

    def operations(self, *, views: int, height: int, width: int, steps: int | None = None) -> int:
        """Count the floating-point operations of a generation, see `work.work_of`; steps None: the model's own."""
        return work_of(self.config, views, height, width, steps or len(self.config.timestep_indices)).total

    def generate(self, request: Request, run: RunOptions | None = None) -> Generation:
        """Generate a scene from an image and/or a prompt along a camera path.

        The same request gives the same scene: on the CPU to the last bit, for every ``views_per_chunk`` and the same
        number of threads. On a GPU the numbers drawn are the same, but kernels chosen for another chunk size may round
        differently.

        Args:
            request: one image at most. Option ``text_embeds`` [1, L, D] takes the text encoder's place (the prompt
                then only goes on record), ``noise`` the seed's.
            run: how; ``views_per_chunk`` None takes what a GPU has room for, at most
                `runtime.stages.DEFAULT_CHUNK`, and that where ``stages`` are given.

        Returns:
            The scene in the user's world: the cameras that come with it see what the model rendered. The keys of its
            metadata are constants of `flashworld_core.gaussians`.

        Raises:
            FlashWorldError: neither image nor prompt, a view or size that does not exist, and the like.
            Cancelled: ``run.progress`` wants to stop.
        """
        run = run or RunOptions()
        stages = run.stages or ResidentStages(self.networks)
        noise = request.options.get(NOISE) or SeededNoise(request.seed)
        sampler = FewStepSampler(
            self.config,
            self.transformer,
            self.decoder,
            self.encoder,
            stages=stages,
            views_per_chunk=run.views_per_chunk,
            backend=run.backend,
        )
        prepared = self.prepare(request, run)
        if run.views_per_chunk is None and run.stages is None:
            given = prepared.conditions
            sampler.chunk = self.fitting_chunk(len(given.cameras), given.height, given.width) or sampler.chunk
        previews: list[Tensor] = []

        def on_step(step: SamplerStep) -> None:
            previews[:] = [step.preview]
            if run.on_step is not None:
                run.on_step(_step(step, prepared))

        watched = run.on_step is not None or run.progress.report is not None
        scene = sampler.sample(
            prepared.conditions,
            prepared.schedule,
            noise,
            progress=run.progress,
            on_step=on_step if watched else None,
        )
        with stages("renderer"):
            scene = prepared.finish(scene)
        steps = len(prepared.schedule)
        return Generation(scene, prepared.cameras, steps - 1, steps, len(scene), previews[0] if previews else None)

    def prepare(self, request: Request, run: RunOptions | None = None) -> Prepared:
        """Check a request and bring it into the networks' form; errors as in `generate`.

        The result's ``cameras`` are the views that will be generated.
        """
        from ... import __version__

        run = run or RunOptions()
        stages: Stages = run.stages or ResidentStages(self.networks)
        origin = {GENERATOR: NAME, MODEL_ID: self.config.model_id, SEED: int(request.seed), VERSION: __version__}
        return prepare_request(
            self.config,
            request,
            embed=lambda prompt: self._embed(prompt, request.options.get(TEXT_EMBEDS), stages),
            origin=origin,
            should_stop=run.progress.should_stop,
        )

    def _embed(self, prompt: str, text_embeds: Tensor | None, stages: Stages) -> Tensor:
        """[1, L, D]."""
        width = self.config.transformer.text_dim
        if text_embeds is None:
            if self.text is None:
                raise FlashWorldError(
                    "The model was loaded without a text encoder, which even an empty prompt needs; load one "
                    "(text_encoder=...) or give text_embeds."
                )
            with stages("text"):
                text_embeds = self.text.encode(prompt)
        if text_embeds.ndim != 3 or text_embeds.shape[0] != 1 or text_embeds.shape[2] != width:
            raise FlashWorldError(f"text_embeds must be [1, L, {width}], got {list(text_embeds.shape)}.")
        if not bool(torch.isfinite(text_embeds).all()):
            raise FlashWorldError(
                "The text encoder gave numbers that are not finite; use bfloat16 or float32 for it, or another file."
            )
        missing = self.config.text_length - text_embeds.shape[1]
        if missing < 0:
            raise FlashWorldError(
                f"text_embeds has {text_embeds.shape[1]} rows, the model takes {self.config.text_length}."
            )
        # Padding rows are attended to like any other: their number is part of the model.
        return nn.functional.pad(text_embeds, (0, 0, 0, missing))

    def fitting_chunk(self, views: int, height: int, width: int) -> int | None:
        """Choose views per chunk from what the GPU has left beside the loaded networks; None on the CPU.

        If nothing fits it says so in the log and answers 1: the plan is an estimate, and trying costs little.
        """
        device = module_device(self.decoder)
        if device.type != "cuda":
            return None
        options = {"views": views, "height": height, "width": width, "dtype": self.dtype}
        options["stored"] = quantized_dtype(self.transformer)
        # What the driver has left, and what torch holds in reserve.
        free = torch.cuda.mem_get_info(device)[0]
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        plan = memory_plan(self.config, **options)
        networks = {"transformer": self.transformer, "decoder": self.decoder, "encoder": self.encoder}
        resident = [name for name, network in networks.items() if module_device(network) == device]
        weights = sum(plan[name].weights for name in resident)
        try:
            return choose_chunk(self.config, free + weights, resident=resident, **options)
        except FlashWorldError as error:
            logger.warning("%s", error)
            return 1


def _step(step: SamplerStep, prepared: Prepared) -> Generation:
    """A sampler's step as the record callers get: the scene is turned into the user's world when it is asked for."""

    def scene(count: int | None) -> Gaussians:
        if count is None:
            return prepared.finish(step.gaussians)
        from ...ops.select import budget

        viewpoints = rendering_cameras(prepared.conditions).positions
        return prepared.finish(budget(step.gaussians, count, viewpoints))

    return Generation(scene, prepared.cameras, step.index, step.steps, len(step.gaussians), step.preview)
