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
from collections.abc import Callable
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor

from ...errors import FlashWorldError
from ...flow.noise import NoiseSource
from ...flow.sample import renoise, x0_from_velocity
from ...flow.schedule import Schedule
from ...gaussians import Gaussians
from ...models.wan_vae import LatentNorm
from ...progress import Progress
from ...rendering.render import Backend, render
from ...runtime.stages import DEFAULT_CHUNK, ResidentStages, StageName, Stages, chunks, passes, retry_on_oom
from ...runtime.work import in_pieces, units
from .cameras import raymaps
from .conditioning import Conditions, rendering_cameras
from .config import FlashWorldConfig
from .inference import TextKeys
from .work import work_of

if TYPE_CHECKING:
    from ...models.wan_vae import FrameEncoder
    from .gaussian_decoder import GaussianDecoder
    from .transformer import FlashWorldTransformer


@dataclasses.dataclass(frozen=True)
class SamplerStep:
    """What one step made.

    Attributes:
        index: the step, 0-based.
        steps: how many steps there are.
        timestep: what the transformer was told, 0..1000.
        sigma: the step's noise level.
        gaussians: the scene so far, in FlashWorld's normalized OpenGL frame.
        latents_2d: [1, C, T, h, w] predicted clean latents of the multi-view mode (normalized).
        latents_3d: [1, C, T, h, w] latents of the rendered Gaussians; None after the last step.
        preview: [H, W, 3] float32 in [0, 1] on the CPU, see `preview_image`.
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
            raise FlashWorldError(f"views_per_chunk must be at least 1, got {views_per_chunk}.")
        if backend not in get_args(Backend):
            raise FlashWorldError(f"There is no rendering backend {backend!r}; choose one of {get_args(Backend)}.")
        self.config, self.transformer, self.decoder, self.encoder = config, transformer, decoder, encoder
        modules = {"transformer": transformer, "decoder": decoder, "encoder": encoder}
        self.stages = stages or ResidentStages(modules)
        self.chunk = views_per_chunk or DEFAULT_CHUNK
        self.backend = backend
        self.latent_norm = LatentNorm(config.vae)

    @torch.no_grad()
    def sample(
        self,
        conditions: Conditions,
        schedule: Schedule,
        noise: NoiseSource,
        *,
        progress: Progress | None = None,
        on_step: Callable[[SamplerStep], None] | None = None,
    ) -> Gaussians:
        """Generate a scene.

        Args:
            conditions: what to make it from.
            schedule: the noise levels of the steps, noisiest first.
            noise: where the random numbers come from.
            progress: told after every chunk of views and within every network pass, with a preview at the end of a
                step (`preview_image`); asked whether to stop as often (`runtime.work.in_pieces`).
            on_step: called with the `SamplerStep` at the end of each step.

        Returns:
            T * P * h_g * w_g Gaussians in FlashWorld's normalized OpenGL frame, ordered frame, point, row, column.

        Raises:
            Cancelled: progress wants to stop.
        """
        config, cameras = self.config, conditions.cameras
        views, (rows, columns) = len(cameras), config.latent_size(conditions.height, conditions.width)
        latent_shape = (1, config.latent_channels, views, rows, columns)
        shown = on_step is not None or (progress is not None and progress.report is not None)
        share = self.shares(conditions, len(schedule))
        steps = len(schedule)
        per_view = steps * share["decoder"] + (steps - 1) * (share["renderer"] + share["encoder"])
        report = (progress or Progress()).start(steps * share["transformer"] + views * per_view)

        report.advance(0)
        report.check()
        draw = noise.draw("image_posterior", (latent_shape[1], rows, columns))
        image_latents = self._encode_image(conditions, draw, report)
        state = _State(noise.draw("init", latent_shape), image_latents)
        for n in range(len(schedule)):
            sigma, last = schedule.sigmas[n], n + 1 == len(schedule)
            report.check()
            timestep = schedule.timesteps[n : n + 1]
            latents_2d, features = self._denoise(state, conditions, timestep, sigma, report, share["transformer"])

            gaussians = self._in_chunks(
                "decoder", report, share["decoder"], self._decode, features, latents_2d, cameras
            )
            latents_3d = None
            if not last:
                draw = noise.draw(f"render_posterior_{n}", (views, *latent_shape[1:2], rows, columns))
                rgb = self._in_chunks("renderer", report, share["renderer"], self._render, gaussians, conditions)
                latents_3d = self._in_chunks("encoder", report, share["encoder"], self._encode, rgb, draw)
                del rgb
                state.feedback = (features, latents_3d)
                draw = noise.draw(f"renoise_{n + 1}", latent_shape)
                state.x = renoise(latents_3d, draw.to(latents_3d.device), schedule.sigmas[n + 1])
            del features
            if shown:
                preview = preview_image(gaussians, conditions, backend=self.backend, should_stop=report.should_stop)
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

    def shares(self, conditions: Conditions, steps: int) -> dict[str, int]:
        """Units of progress: of one transformer pass over all views, and of one view in each of the other stages."""
        work = work_of(self.config, len(conditions.cameras), conditions.height, conditions.width, steps)
        return {name: units(getattr(work, name)) for name in ("transformer", "decoder", "renderer", "encoder")}

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

    def _denoise(
        self, state: _State, conditions: Conditions, timestep: Tensor, sigma: Tensor, report: Progress, share: int
    ) -> tuple[Tensor, Tensor]:
        """Clean latents [1, C, T, h, w] and features [1, F, T, h, w] of a transformer pass."""
        done = report.done

        def work(chunk: int) -> tuple[Tensor, Tensor]:
            report.done = done
            with self.stages("transformer") as device:
                state.x = state.x.to(device)
                if state.network_input is None:
                    state.network_input = self.assemble_constants(conditions, state.image_latents, device)
                self.assemble_variables(state.network_input, state.x, state.feedback)
                state.feedback = None  # written; what it held is free for the pass
                if state.text is None:
                    state.text = self.transformer.text_keys(conditions.text.to(device))
                with in_pieces(report, share, device):
                    velocity, features = self.transformer(state.network_input, timestep.to(device), state.text)
                _require_finite("transformer", self.transformer, velocity, features)
                return x0_from_velocity(state.x, velocity, sigma), features

        return retry_on_oom(self.stages, "transformer", self.chunk, work)

    def _in_chunks(self, name: StageName, report: Progress, share: int, stage: Callable, *inputs):
        """``stage(*inputs, report, share)``, again with smaller chunks, which stay so, where the stages want that."""
        done = report.done

        def work(chunk: int):
            self.chunk, report.done = chunk, done
            return stage(*inputs, report, share)

        return retry_on_oom(self.stages, name, self.chunk, work)

    def _encode_image(self, conditions: Conditions, draw: Tensor, report: Progress) -> Tensor | None:
        if conditions.image is None:
            return None

        def work(chunk: int) -> Tensor:
            with self.stages("encoder") as device, in_pieces(report, 0, device):
                latents = self.encoder.encode(conditions.image[None].to(device), draw[None].to(device))[0]
                _require_finite("VAE encoder", self.encoder, latents)
                return latents

        return retry_on_oom(self.stages, "encoder", self.chunk, work)

    def _decode(self, features: Tensor, latents_2d: Tensor, cameras: Tensor, report: Progress, share: int) -> Gaussians:
        scene = None
        with self.stages("renderer") as home, self.stages("decoder") as device:
            for start, stop in chunks(len(cameras), self.chunk):
                report.check()
                for a, b in passes(start, stop, device):
                    latents = self.latent_norm.unnormalize(latents_2d[0, :, a:b].transpose(0, 1).to(device))
                    with in_pieces(report, (b - a) * share, device):
                        raw = self.decoder(features[0, :, a:b].transpose(0, 1).to(device), latents)
                    parts = self.decoder.gaussians_from_raw(raw, cameras[a:b].to(device))
                    _require_finite("Gaussian decoder", self.decoder, *parts)
                    per_view = parts[0].shape[1:4].numel()
                    if scene is None:
                        count = len(cameras) * per_view
                        scene = [torch.empty(count, *part.shape[4:], device=home) for part in parts]
                    for whole, part in zip(scene, parts, strict=True):
                        whole[a * per_view : b * per_view] = part.flatten(0, 3)
                    del raw, parts, part
        return Gaussians(*scene)

    def _render(self, gaussians: Gaussians, conditions: Conditions, report: Progress, share: int) -> Tensor:
        """[T, H, W, 3]: the scene seen from every view."""
        with self.stages("renderer") as home:
            rgb = render(
                gaussians.to(home),
                rendering_cameras(conditions),
                background="white",
                near=NEAR,
                far=FAR,
                backend=self.backend,
                views_per_chunk=self.chunk,
                progress=lambda done, total: report.advance(share),
                should_stop=report.should_stop,
            ).rgb
            _require_finite("renderer", None, rgb)
            return rgb

    def _encode(self, rgb: Tensor, draw: Tensor, report: Progress, share: int) -> Tensor:
        """Latents [1, C, T, h, w] of the rendered views."""
        latents = None
        with self.stages("encoder") as device:
            for start, stop in chunks(len(rgb), self.chunk):
                report.check()
                for a, b in passes(start, stop, device):
                    images = (rgb[a:b].to(device).permute(0, 3, 1, 2) * 2 - 1).clamp(-1, 1)
                    with in_pieces(report, (b - a) * share, device):
                        encoded = self.encoder.encode(images, draw[a:b].to(device))
                    if latents is None:
                        latents = encoded.new_empty(len(rgb), *encoded.shape[1:])
                    latents[a:b] = encoded
            _require_finite("VAE encoder", self.encoder, latents)
        return latents.transpose(0, 1)[None]


@dataclasses.dataclass
class _State:
    """What goes from step to step.

    Attributes:
        x: [1, C, T, h, w] noisy latents.
        image_latents: [C, h, w] of the picture, or None.
        network_input: the transformer's, made on its device at the first step.
        text: what the transformer made of the text, on its device, at the first step.
        feedback: the last step's features and latents of its renders, until they stand in ``network_input``.
    """

    x: Tensor
    image_latents: Tensor | None
    network_input: Tensor | None = None
    text: Tensor | TextKeys | None = None
    feedback: tuple[Tensor, Tensor] | None = None


def _require_finite(stage: str, network: torch.nn.Module | None, *results: Tensor) -> None:
    """Refuse numbers that are not finite, naming where they came from: the one time a stage's results are looked at.

    Raises:
        FlashWorldError: names the stage and the precision it computes in.
    """
    # One question to the device for all of them.
    if bool(torch.stack([torch.isfinite(result).all() for result in results]).all()):
        return
    dtypes = set() if network is None else {str(p.dtype).removeprefix("torch.") for p in network.parameters()}
    computed = f" in {' and '.join(sorted(dtypes & _FLOATS))}" if dtypes & _FLOATS else ""
    raise FlashWorldError(
        f"The {stage} gave numbers that are not finite{computed}; use bfloat16 or float32, or another seed or path."
    )


_FLOATS = {"float16", "bfloat16", "float32"}
NEAR, FAR = 0.01, 1000.0  # clipping distances in normalized units


def preview_image(
    gaussians: Gaussians,
    conditions: Conditions,
    *,
    backend: Backend = "auto",
    should_stop: Callable[[], bool] | None = None,
) -> Tensor:
    """[H, W, 3] float32 in [0, 1] on the CPU: four views along the path, two by two at half size.

    Paths of fewer than four views show the middle one at full size.
    """
    cameras, views = rendering_cameras(conditions), len(conditions.cameras)
    if views < 4:
        cameras = cameras[views // 2]
    else:
        cameras = cameras[[0, views // 3, 2 * views // 3, views - 1]]
        cameras = cameras.resized(conditions.width // 2, conditions.height // 2)
    rgb = render(
        gaussians, cameras.to(gaussians.device), near=NEAR, far=FAR, backend=backend, should_stop=should_stop
    ).rgb
    rgb = rgb.clamp(0, 1).cpu()
    if views < 4:
        return rgb[0]
    return torch.cat([torch.cat([rgb[0], rgb[1]], 1), torch.cat([rgb[2], rgb[3]], 1)], 0)
