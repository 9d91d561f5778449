"""FlashWorld's few-step loop: denoise all views at once, decode to Gaussians, render, re-encode, re-noise.

Step n of N, with noise levels sigma_n from `flow.schedule`:

1. (velocity, features) = transformer(noisy latents | raymap | condition | feedback features | feedback latents, t_n)
2. latents_2d = x_n - sigma_n velocity; Gaussians = decoder(features, latents_2d). After the last step that is all.
3. latents_3d = a sample of the VAE's posterior of the Gaussians rendered at every view over white
4. x_{n+1} = sigma_{n+1} noise + (1 - sigma_{n+1}) latents_3d; features and latents_3d are the next step's feedback

The transformer sees all views in one pass. Decoding, rendering and encoding work view by view, so they run in chunks
of views and peak memory follows the chunk. Networks compute in whatever precision their weights have; latents, noise
levels, cameras and Gaussians are float32.

Random numbers are drawn in this order, each for all views at once: ``image_posterior`` [C, h, w] (drawn for text-only
scenes too, so that a seed means the same starting noise with and without an image), ``init`` [1, C, T, h, w], then
per step n but the last ``render_posterior_{n}`` [T, C, h, w] and ``renoise_{n+1}`` [1, C, T, h, w].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import get_args

import torch
from torch import Tensor

from ...errors import FlashWorldError, check_stop
from ...flow.noise import NoiseSource
from ...flow.sample import renoise, x0_from_velocity
from ...flow.schedule import Schedule
from ...gaussians import Gaussians
from ...rendering.render import Backend, render
from .cameras import raymaps
from .config import FlashWorldConfig
from .encoder import FrameEncoder, LatentNorm
from .gaussian_decoder import GaussianDecoder
from .stages import ResidentStages, Stages
from .transformer import FlashWorldTransformer
from .views import FAR, NEAR, Conditions, preview_image, rendering_cameras

DEFAULT_CHUNK = 4  # views; fills a large GPU at full size, and keeps the decoder's memory near a fifth of the whole

Progress = Callable[..., None]  # progress(done, total, preview=None)


@dataclasses.dataclass(frozen=True)
class SamplerStep:
    """What one step made.

    Attributes:
        index: the step, 0-based.
        steps: how many steps there are.
        timestep: what the transformer was told, 0..1000.
        sigma: the step's noise level.
        gaussians: the scene so far, in FlashWorld's normalised OpenGL frame.
        latents_2d: [1, C, T, h, w] clean latents the transformer believes in (normalised).
        latents_3d: [1, C, T, h, w] latents of the rendered Gaussians; None after the last step.
        preview: [H, W, 3] float32 in [0, 1] on the CPU, see `views.preview_image`.
    """

    index: int
    steps: int
    timestep: float
    sigma: float
    gaussians: Gaussians
    latents_2d: Tensor
    latents_3d: Tensor | None
    preview: Tensor


class FewStepSampler:
    """Runs the loop on given networks. It holds no state between calls and draws nothing by itself.

    Args:
        config: the model's sizes.
        transformer, decoder, encoder: the networks.
        stages: loads and unloads them (`stages.Stages`); None leaves each where it is.
        views_per_chunk: views that are decoded, rendered and encoded together; None takes `DEFAULT_CHUNK`.
        backend: renderer, as in `rendering.render.render`.
    """

    def __init__(
        self,
        config: FlashWorldConfig,
        transformer: FlashWorldTransformer,
        decoder: GaussianDecoder,
        encoder: FrameEncoder,
        *,
        stages: Stages | None = None,
        views_per_chunk: int | None = None,
        backend: Backend = "auto",
    ):
        if views_per_chunk is not None and views_per_chunk < 1:
            raise FlashWorldError(f"FewStepSampler: views_per_chunk must be at least 1, got {views_per_chunk}.")
        if backend not in get_args(Backend):
            raise FlashWorldError(f"FewStepSampler: unknown backend {backend!r}; choose one of {get_args(Backend)}.")
        self.config, self.transformer, self.decoder, self.encoder = config, transformer, decoder, encoder
        modules = {"transformer": transformer, "decoder": decoder, "encoder": encoder}
        self.stages = stages or ResidentStages(modules)
        self.chunk = views_per_chunk or DEFAULT_CHUNK
        self.backend = backend
        self.latent_norm = LatentNorm(config)

    @torch.no_grad()
    def sample(
        self,
        conditions: Conditions,
        schedule: Schedule,
        noise: NoiseSource,
        *,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
        on_step: Callable[[SamplerStep], None] | None = None,
    ) -> Gaussians:
        """Generate a scene.

        Args:
            conditions: what to make it from.
            schedule: the noise levels of the steps, noisiest first.
            noise: where the random numbers come from.
            progress: called as ``progress(done, total, preview)`` after every network pass and every chunk of views;
                ``preview`` is None but at the end of a step (`views.preview_image`).
            should_stop: asked before every network pass and every chunk.
            on_step: called with the `SamplerStep` at the end of each step.

        Returns:
            T * P * h_g * w_g Gaussians in FlashWorld's normalised OpenGL frame, ordered frame, point, row, column.

        Raises:
            Cancelled: ``should_stop`` answered True.
        """
        config, cameras = self.config, conditions.cameras
        views, (rows, columns) = len(cameras), config.latent_size(conditions.height, conditions.width)
        latent_shape = (1, config.latent_channels, views, rows, columns)
        # Transformer, decoder, renderer and encoder count one per view each; the last step has only the first two.
        report = _Report(progress, should_stop, (4 * len(schedule) - 2) * views)

        report.check()
        image_latents = self._encode_image(conditions, noise.draw("image_posterior", (latent_shape[1], rows, columns)))
        x = noise.draw("init", latent_shape)
        network_input = None
        feedback = None
        for n in range(len(schedule)):
            sigma, last = schedule.sigmas[n], n + 1 == len(schedule)
            report.check()
            with self.stages("transformer") as device:
                x = x.to(device)
                if network_input is None:
                    network_input = self.assemble_constants(conditions, image_latents, device)
                self.assemble_variables(network_input, x, feedback)
                feedback = None
                velocity, features = self.transformer(
                    network_input, schedule.timesteps[n : n + 1].to(device), conditions.text.to(device)
                )
                latents_2d = x0_from_velocity(x, velocity, sigma)
                del velocity
            report.advance(views)

            gaussians = self._decode(features, latents_2d, cameras, report)
            latents_3d = None
            if not last:
                draw = noise.draw(f"render_posterior_{n}", (views, *latent_shape[1:2], rows, columns))
                latents_3d = self._render_and_encode(gaussians, conditions, draw, report)
                feedback = (features, latents_3d)
                draw = noise.draw(f"renoise_{n + 1}", latent_shape)
                x = renoise(latents_3d, draw.to(latents_3d.device), schedule.sigmas[n + 1])
            del features
            if progress is not None or on_step is not None:
                preview = preview_image(gaussians, conditions, backend=self.backend)
                report.advance(0, preview)
            if on_step is not None:
                on_step(
                    SamplerStep(
                        n,
                        len(schedule),
                        float(schedule.timesteps[n]),
                        float(sigma),
                        gaussians,
                        latents_2d,
                        latents_3d,
                        preview,
                    )
                )
            if not last:
                del gaussians  # the largest thing there is, gone before the next step's activations
        return gaussians

    # --- the transformer's input --------------------------------------------------------------------------

    def assemble_constants(self, conditions: Conditions, image_latents: Tensor | None, device) -> Tensor:
        """The transformer's input [1, 3 C + 6 + F, T, h, w] with raymap and condition filled in and zeros elsewhere.

        In the transformer's precision; ``image_latents`` is [C, h, w] or None.
        """
        config, layout = self.config, self.config.input_layout
        rows, columns = config.latent_size(conditions.height, conditions.width)
        dtype = self.transformer.patch_embedding.weight.dtype
        x = torch.zeros(1, config.input_channels, len(conditions.cameras), rows, columns, dtype=dtype, device=device)
        x[0, layout["raymap"]] = raymaps(conditions.cameras, rows, columns).transpose(0, 1).to(x)
        if image_latents is not None:
            x[0, layout["condition"], conditions.image_index] = image_latents.to(x)
        return x

    def assemble_variables(self, network_input: Tensor, x: Tensor, feedback: tuple[Tensor, Tensor] | None) -> None:
        """Write what changes from step to step into ``network_input``, in place.

        ``x`` [1, C, T, h, w] are the noisy latents, ``feedback`` the previous step's features [1, F, T, h, w] and
        latents of its renders [1, C, T, h, w]; None leaves these channels zero.
        """
        layout = self.config.input_layout
        network_input[:, layout["noisy"]] = x.to(network_input)
        if feedback is not None:
            features, latents = feedback
            network_input[:, layout["feedback_features"]] = features.to(network_input)
            network_input[:, layout["feedback_latents"]] = latents.to(network_input)

    # --- the stages that work view by view ----------------------------------------------------------------

    def _encode_image(self, conditions: Conditions, draw: Tensor) -> Tensor | None:
        if conditions.image is None:
            return None
        with self.stages("encoder") as device:
            return self.encoder.encode(conditions.image[None].to(device), draw[None].to(device))[0]

    def _decode(self, features: Tensor, latents_2d: Tensor, cameras: Tensor, report: _Report) -> Gaussians:
        scene = None
        with self.stages("renderer") as home, self.stages("decoder") as device:
            for start, stop in _chunks(len(cameras), self.chunk):
                report.check()
                for a, b in _passes(start, stop, device):
                    latents = self.latent_norm.unnormalize(latents_2d[0, :, a:b].transpose(0, 1).to(device))
                    raw = self.decoder(features[0, :, a:b].transpose(0, 1).to(device), latents)
                    parts = self.decoder.gaussians_from_raw(raw, cameras[a:b].to(device))
                    if not all(torch.isfinite(part).all() for part in parts):
                        raise FlashWorldError(
                            f"sample: the networks gave numbers that are not finite in {_dtypes(self)}; "
                            "use bfloat16 or float32."
                        )
                    per_view = parts[0].shape[1:4].numel()
                    if scene is None:
                        count = len(cameras) * per_view
                        scene = [torch.empty(count, *part.shape[4:], device=home) for part in parts]
                    for whole, part in zip(scene, parts, strict=True):
                        whole[a * per_view : b * per_view] = part.flatten(0, 3)
                    del raw, parts, part
                report.advance(stop - start)
        return Gaussians(*scene)

    def _render_and_encode(self, gaussians: Gaussians, conditions: Conditions, draw: Tensor, report: _Report) -> Tensor:
        """Latents [1, C, T, h, w] of the scene seen from every view."""
        with self.stages("renderer") as home:
            rgb = render(
                gaussians.to(home),
                rendering_cameras(conditions),
                background="white",
                near=NEAR,
                far=FAR,
                backend=self.backend,
                views_per_chunk=self.chunk,
                progress=lambda done, total: report.advance(1),
                should_stop=report.should_stop,
            ).rgb
        latents = None
        with self.stages("encoder") as device:
            for start, stop in _chunks(len(rgb), self.chunk):
                report.check()
                for a, b in _passes(start, stop, device):
                    images = (rgb[a:b].to(device).permute(0, 3, 1, 2) * 2 - 1).clamp(-1, 1)
                    encoded = self.encoder.encode(images, draw[a:b].to(device))
                    if latents is None:
                        latents = encoded.new_empty(len(rgb), *encoded.shape[1:])
                    latents[a:b] = encoded
                report.advance(stop - start)
        return latents.transpose(0, 1)[None]


def _dtypes(sampler: FewStepSampler) -> str:
    """The precisions the transformer and the decoder compute in, for a message."""
    modules = (sampler.transformer, sampler.decoder)
    return " and ".join(sorted({str(p.dtype).removeprefix("torch.") for m in modules for p in m.parameters()}))


class _Report:
    """Progress and stopping of one run."""

    def __init__(self, progress: Progress | None, should_stop: Callable[[], bool] | None, total: int):
        self.should_stop, self._progress, self._done, self._total = should_stop, progress, 0, total

    def check(self) -> None:
        check_stop(self.should_stop)

    def advance(self, count: int, preview: Tensor | None = None) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total, preview)


def _chunks(views: int, size: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + size, views)) for start in range(0, views, size))


def _passes(start: int, stop: int, device: torch.device) -> Iterator[tuple[int, int]]:
    """What of a chunk goes through a network at once: all of it, but on the CPU one view.

    CPU convolutions round differently for different batch sizes, and a batch gains nothing there; view by view the
    scene is the same to the last bit for every chunk size.
    """
    return ((a, a + 1) for a in range(start, stop)) if device.type == "cpu" else iter([(start, stop)])
