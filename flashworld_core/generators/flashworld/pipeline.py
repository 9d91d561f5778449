"""`FlashWorldModel`: the loaded parts together, and the road from a user's request to a scene in the user's world."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from ...cameras import Cameras
from ...checkpoints.assign import cast
from ...errors import FlashWorldError
from ...flow.noise import NoiseSource, SeededNoise
from ...gaussians import GENERATOR, MODEL_ID, SEED, VERSION, Gaussians
from ...rendering.render import Backend
from ...runtime.stages import ResidentStages, Stages
from .conditioning import Request, prepare_request
from .config import FlashWorldConfig
from .sampler import FewStepSampler, SamplerStep

if TYPE_CHECKING:
    from ...media.images import ImageLike
    from ...models.wan_vae import FrameEncoder
    from .gaussian_decoder import GaussianDecoder
    from .transformer import FlashWorldTransformer


class Text(Protocol):
    """What a model needs of a text encoder; `text.TextEncoder` is one."""

    def encode(self, prompts: str) -> Tensor:
        """[1, L, D] embedding, padding rows zero; the prompt prefix is the encoder's business."""


@dataclasses.dataclass(frozen=True)
class GenerationStep:
    """What ``on_step`` is told at the end of a step.

    Attributes:
        sampled: the sampler's own account, in the normalized frame.
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

    def most_important(self, count: int) -> Gaussians:
        """At most ``count`` Gaussians, those that show most from the generated views, in the user's world: a preview
        at a fraction of what a copy of the whole scene takes."""
        from ...ops.select import budget
        from .conditioning import rendering_cameras

        viewpoints = rendering_cameras(self.request.conditions).positions
        return self.request.finish(budget(self.sampled.gaussians, count, viewpoints))


@dataclasses.dataclass
class FlashWorldModel:
    """A FlashWorld model ready to generate. Implements `generators.base.Generator`.

    Attributes:
        config: sizes.
        transformer, decoder, encoder: the networks, in eval mode.
        text: the text encoder; None where embeddings are given instead.
        model_id: which weights these are.
        license: the license of the weights in one line.
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
    def dtype(self) -> torch.dtype:
        """The precision the transformer computes in."""
        return self.transformer.patch_embedding.weight.dtype

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
            cast(module, dtype, device)
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
                cropped about its center to the generated size's shape.
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
            views_per_chunk: views decoded, rendered and encoded together: the knob for peak memory (`memory`). None
                takes what a GPU has room for, at most `sampler.DEFAULT_CHUNK`, and that where ``stages`` are given.
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
            units per normalized unit), focal_px (of the generated views, mean), timestep_indices, version.

        Raises:
            FlashWorldError: neither image nor prompt, a view or size that does not exist, and the like.
            Cancelled: ``should_stop`` answered True.
        """
        hosted, stages = stages is not None, stages or ResidentStages(self.modules)
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
        if views_per_chunk is None and not hosted:
            from .memory import fitting_chunk

            given = request.conditions
            size = {"views": len(given.cameras), "height": given.height, "width": given.width}
            sampler.chunk = fitting_chunk(self, **size) or sampler.chunk
        scene = sampler.sample(
            request.conditions,
            request.schedule,
            noise,
            progress=progress,
            should_stop=should_stop,
            on_step=None if on_step is None else lambda step: on_step(GenerationStep(step, request)),
        )
        with stages("renderer"):
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
        from ... import __version__

        origin = {GENERATOR: self.generator, MODEL_ID: self.model_id, SEED: int(seed), VERSION: __version__}
        stages = stages or ResidentStages(self.modules)
        return prepare_request(
            self.config,
            cameras,
            embed=lambda prompt: self._embed(prompt, text_embeds, stages),
            image=image,
            prompt=prompt,
            image_index=image_index,
            steps=steps,
            width=width,
            height=height,
            views=views,
            described=text_embeds is not None,
            origin=origin,
            should_stop=should_stop,
        )

    def _embed(self, prompt: str, text_embeds: Tensor | None, stages: Stages) -> Tensor:
        """[1, L, D]."""
        width = self.config.transformer.text_dim
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
