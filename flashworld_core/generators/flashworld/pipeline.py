"""`FlashWorldModel`: the loaded parts together, and the road from a user's request to a scene in the user's world."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from ...cameras import Cameras
from ...errors import FlashWorldError, check_stop
from ...flow.noise import NoiseSource, SeededNoise
from ...flow.schedule import Schedule, shifted_schedule
from ...gaussians import Gaussians
from ...rendering.render import Backend
from .assign import target_dtype
from .condition import Crop, prepare_image
from .config import FlashWorldConfig
from .sampler import Conditions, FewStepSampler, SamplerStep
from .stages import ResidentStages, Stages
from .world import WorldFrame, normalize_path, path_hash

if TYPE_CHECKING:
    from .condition import ImageLike
    from .encoder import FrameEncoder
    from .gaussian_decoder import GaussianDecoder
    from .transformer import FlashWorldTransformer

logger = logging.getLogger(__name__)

SCHEDULE_ENTRIES = 1000


class Text(Protocol):
    """What a model needs of a text encoder; `text.TextEncoder` is one."""

    def encode(self, prompts: str) -> Tensor:
        """[1, L, D] embedding, padding rows zero; the prompt prefix is the encoder's business."""


@dataclasses.dataclass(frozen=True)
class Request:
    """A checked request: what `FlashWorldModel.generate` hands to the sampler, and the way back.

    Attributes:
        conditions: the networks' input.
        cameras: the views that are generated, in the user's world, intrinsics for the generated size.
        frame: where the normalised frame lies in the user's world.
        schedule: noise levels of the steps.
        metadata: what the finished scene says about its origin.
    """

    conditions: Conditions
    cameras: Cameras
    frame: WorldFrame
    schedule: Schedule
    metadata: dict

    def finish(self, gaussians: Gaussians) -> Gaussians:
        """A scene of the normalised frame in the user's world, with its metadata."""
        return dataclasses.replace(self.frame.apply(gaussians), metadata=dict(self.metadata))


@dataclasses.dataclass(frozen=True)
class GenerationStep:
    """What ``on_step`` is told at the end of a step.

    Attributes:
        sampled: the sampler's own account, in the normalised frame.
        request: what is being made.
    """

    sampled: SamplerStep
    request: Request

    @property
    def index(self) -> int:
        """The step, 0-based."""
        return self.sampled.index

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self.sampled.steps

    @property
    def preview(self) -> Tensor:
        """[H, W, 3] float32 in [0, 1] on the CPU: views of the scene so far."""
        return self.sampled.preview

    @property
    def gaussians(self) -> Gaussians:
        """The scene so far in the user's world; made when asked for, since it is a copy."""
        return self.request.finish(self.sampled.gaussians)


@dataclasses.dataclass
class FlashWorldModel:
    """A FlashWorld model ready to generate. Implements `generators.base.Generator`.

    Attributes:
        config: sizes.
        transformer, decoder, encoder: the networks, in eval mode.
        text: the text encoder; None where embeddings are given instead.
        model_id: which weights these are.
        license: the licence of the weights in one line.
    """

    config: FlashWorldConfig
    transformer: FlashWorldTransformer
    decoder: GaussianDecoder
    encoder: FrameEncoder
    text: Text | None = None
    model_id: str = ""
    license: str = ""
    generator = "flashworld"

    def __post_init__(self):
        self.model_id = self.model_id or self.config.model_id
        for module in (self.transformer, self.decoder, self.encoder):
            module.eval().requires_grad_(False)

    @property
    def modules(self) -> dict[str, Any]:
        """The parts by stage name, as `stages.Stages` wants them."""
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
            keep = tuple(getattr(module, "_keep_in_fp32_modules", None) or ())
            for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                tensor.data = tensor.data.to(device, target_dtype(name, tensor.dtype, dtype, keep))
        if device is not None and hasattr(self.text, "to"):
            self.text.to(device)
        return self

    def generate(
        self,
        cameras: Cameras,
        *,
        image: ImageLike | None = None,
        prompt: str = "",
        image_index: int = 0,
        seed: int = 0,
        steps: int | Sequence[int] | None = None,
        width: int | None = None,
        height: int | None = None,
        views: int | None = None,
        text_embeds: Tensor | None = None,
        views_per_chunk: int | None = None,
        backend: Backend = "auto",
        stages: Stages | None = None,
        noise: NoiseSource | None = None,
        progress: Callable[..., None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        on_step: Callable[[GenerationStep], None] | None = None,
    ) -> Gaussians:
        """Generate a scene from a picture and/or a sentence along a camera path.

        The same seed and request give the same scene: on the CPU to the last bit, for every ``views_per_chunk``. On a
        GPU the numbers drawn are the same, but kernels chosen for another chunk size may round differently.

        Args:
            cameras: the path, in the user's world (OpenCV axes). Every camera is one generated view.
            image: what ``prepare_image`` takes: path, data URL, Pillow image, array or tensor [H, W, 3]. It is
                cropped about its centre to the generated size's shape.
            prompt: the sentence, without prefix.
            image_index: the view, 0-based, that the image shows.
            seed: of every random draw, 0..2^64 - 1.
            steps: None for the model's own timesteps; a number for that many, evenly spaced in the schedule; or
                indices into the 1000-entry schedule, rising.
            width, height: size of the generated views in pixels; default: the cameras' own size. Cameras of the
                original image's size are carried along with the crop.
            views: resample the path to this many cameras; None takes them as they are. Models are at their best
                with ``config.views``.
            text_embeds: [1, L, D] embedding in place of the text encoder's; the prompt then only goes on record.
            views_per_chunk: views decoded, rendered and encoded together: the knob for peak memory (`memory`).
            backend: renderer.
            stages: loads and unloads parts; None leaves each where it is.
            noise: source of random numbers in place of the seed's.
            progress: ``progress(done, total, preview)``, several times per step; the preview [H, W, 3] comes once
                per step and is None otherwise.
            should_stop: asked before every network pass and chunk.
            on_step: called with a `GenerationStep` at the end of each step.

        Returns:
            The scene in the user's world: the cameras given see what the model rendered. ``metadata`` tells
            generator, model_id, seed, prompt_sha256, trajectory_sha256 (first 16 digits of each), scene_scale (world
            units per normalised unit), timestep_indices, version.

        Raises:
            FlashWorldError: neither image nor prompt, a view or size that does not exist, and the like.
            Cancelled: ``should_stop`` answered True.
        """
        stages = stages or ResidentStages(self.modules)
        noise = noise or SeededNoise(seed)
        sampler = FewStepSampler(
            self.config,
            self.transformer,
            self.decoder,
            self.encoder,
            stages=stages,
            views_per_chunk=views_per_chunk,
            backend=backend,
        )
        request = self.prepare(
            cameras,
            image=image,
            prompt=prompt,
            image_index=image_index,
            seed=seed,
            steps=steps,
            width=width,
            height=height,
            views=views,
            text_embeds=text_embeds,
            stages=stages,
            should_stop=should_stop,
        )
        scene = sampler.sample(
            request.conditions,
            request.schedule,
            noise,
            progress=progress,
            should_stop=should_stop,
            on_step=None if on_step is None else lambda step: on_step(GenerationStep(step, request)),
        )
        return request.finish(scene)

    def prepare(
        self,
        cameras: Cameras,
        *,
        image: ImageLike | None = None,
        prompt: str = "",
        image_index: int = 0,
        seed: int = 0,
        steps: int | Sequence[int] | None = None,
        width: int | None = None,
        height: int | None = None,
        views: int | None = None,
        text_embeds: Tensor | None = None,
        stages: Stages | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Request:
        """Check a request and bring it into the networks' form; arguments and errors as in `generate`.

        The result's ``cameras`` are the views that will be generated: what to render the scene with.
        """
        config = self.config
        if image is None and not prompt.strip():
            raise FlashWorldError("generate: give an image, a prompt, or both; there is nothing to make a scene from.")
        if len(cameras) == 0:
            raise FlashWorldError("generate: the camera path is empty; it needs at least one camera.")
        width, height = width or cameras.width, height or cameras.height
        self._check_size(width, height)
        count = len(cameras) if views is None else views
        if not 1 <= count <= config.max_positions:
            raise FlashWorldError(f"generate: the model takes 1 to {config.max_positions} views, got {count}.")
        if not 0 <= image_index < count:
            raise FlashWorldError(
                f"generate: image_index {image_index} names no view; the path has views 0 to {count - 1}."
            )
        if count != config.views:
            logger.info("The model was trained on %d views; this path has %d.", config.views, count)
        schedule, indices = self._schedule(steps)

        pixels = None
        crop = Crop.centred(cameras.width, cameras.height, width, height)
        if image is not None:
            pixels, crop = prepare_image(image, width, height)
        cameras = crop.adjust_intrinsics(cameras)
        vectors, cameras, frame = normalize_path(cameras, views)
        check_stop(should_stop)
        text = self._embed(prompt, text_embeds, stages or ResidentStages(self.modules))
        conditions = Conditions(vectors, width, height, text, pixels, image_index)
        metadata = {
            "generator": self.generator,
            "model_id": self.model_id,
            "seed": int(seed),
            "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest()[:16],
            "trajectory_sha256": path_hash(cameras),
            "scene_scale": frame.scale,
            "timestep_indices": indices,
            "version": _package_version(),
        }
        return Request(conditions, cameras, frame, schedule, metadata)

    def _check_size(self, width: int, height: int) -> None:
        rows, columns = self.config.size_multiple
        if width >= 1 and height >= 1 and width % columns == 0 and height % rows == 0:
            limit_w, limit_h = columns * self.config.max_positions, rows * self.config.max_positions
            if width > limit_w or height > limit_h:
                raise FlashWorldError(
                    f"generate: the model takes images up to {limit_w}x{limit_h}, got {width}x{height}."
                )
            return
        near_w, near_h = (
            " or ".join(str(n) for n in _nearest_multiples(*pair)) for pair in ((width, columns), (height, rows))
        )
        raise FlashWorldError(
            f"generate: the model cannot make {width}x{height}; the width must be a multiple of {columns} "
            f"(nearest: {near_w}), the height of {rows} (nearest: {near_h})."
        )

    def _schedule(self, steps: int | Sequence[int] | None) -> tuple[Schedule, list[int]]:
        table = shifted_schedule(self.config.shift, SCHEDULE_ENTRIES)
        if steps is None:
            steps = self.config.timestep_indices
        elif isinstance(steps, int):
            if not 1 <= steps <= len(table):
                raise FlashWorldError(f"generate: steps must be 1..{len(table)}, got {steps}.")
            steps = [i * len(table) // steps for i in range(steps)]
        return table.select(steps), [int(i) for i in steps]

    def _embed(self, prompt: str, text_embeds: Tensor | None, stages: Stages) -> Tensor:
        """[1, L, D]."""
        width = self.config.transformer["text_dim"]
        if text_embeds is None:
            if self.text is None:
                raise FlashWorldError(
                    "generate: the model was loaded without a text encoder, which even an empty prompt needs; "
                    "load one (text_encoder=...) or give text_embeds."
                )
            with stages("text"):
                text_embeds = self.text.encode(prompt)
        if text_embeds.ndim != 3 or text_embeds.shape[0] != 1 or text_embeds.shape[2] != width:
            raise FlashWorldError(f"generate: text_embeds must be [1, L, {width}], got {list(text_embeds.shape)}.")
        missing = self.config.text_length - text_embeds.shape[1]
        if missing < 0:
            raise FlashWorldError(
                f"generate: text_embeds has {text_embeds.shape[1]} rows, the model takes {self.config.text_length}."
            )
        # Padding rows are attended to like any other: their number is part of the model.
        return nn.functional.pad(text_embeds, (0, 0, 0, missing))


def _nearest_multiples(value: int, factor: int) -> list[int]:
    below = value // factor * factor
    return [n for n in (below, below + factor) if n > 0]


def _package_version() -> str:
    from ... import __version__

    return __version__
