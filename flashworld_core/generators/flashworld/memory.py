"""What a generation will need, stage by stage, before anything is loaded: `memory_plan` and `choose_chunk`.

Weights and activations come from the networks themselves (`footprint`), so the figures follow every config. Not
included: what an allocator loses to fragmentation, workspaces inside kernels and the CUDA context (together about 1 GB
at full size; `choose_chunk` keeps a margin).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

import torch

from ...errors import FlashWorldError
from .config import FlashWorldConfig
from .footprint import (
    FLOAT32_BYTES,
    decoder_bytes,
    encoder_bytes,
    render_bytes,
    text_bytes,
    transformer_bytes,
    world_bytes,
)
from .sampler import DEFAULT_CHUNK
from .stages import module_device

if TYPE_CHECKING:
    from .pipeline import FlashWorldModel

logger = logging.getLogger(__name__)

_DEVICES = ("cpu", "cuda")
_MARGIN = 0.1  # of the free memory that `choose_chunk` leaves alone


@dataclasses.dataclass(frozen=True)
class StageMemory:
    """Bytes of one stage while it runs.

    Attributes:
        stage: stage name, as in `stages.StageName`.
        weights: the network's parameters and buffers.
        activations: largest sum of what the network makes while it runs.
        held: what the sampler keeps meanwhile: latents, features, Gaussians, renders.
    """

    stage: str
    weights: int
    activations: int
    held: int

    @property
    def peak(self) -> int:
        """Bytes with this stage's weights alone loaded."""
        return self.weights + self.activations + self.held


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Bytes per stage of one generation; see `memory_plan`.

    Attributes:
        stages: in the order they run.
        views, height, width, dtype, device_type, views_per_chunk: what was planned for.
    """

    stages: tuple[StageMemory, ...]
    views: int
    height: int
    width: int
    dtype: torch.dtype
    device_type: str
    views_per_chunk: int

    def __getitem__(self, stage: str) -> StageMemory:
        return next(s for s in self.stages if s.stage == stage)

    def peak(self, resident: Collection[str] | None = None) -> int:
        """Bytes at the worst moment of the generation proper.

        Args:
            resident: stages whose weights stay loaded all the time; the others' come and go (`stages.OffloadStages`).
                None: transformer, decoder and encoder. The text encoder counts only where it is named here: it runs
                before all else, maybe on another device, and is done then.
        """
        resident = ("transformer", "decoder", "encoder") if resident is None else resident
        names = [s.stage for s in self.stages]
        if unknown := sorted(set(resident) - set(names)):
            raise FlashWorldError(f"MemoryPlan.peak: no stages {unknown}; there are {names}.")
        kept = sum(s.weights for s in self.stages if s.stage in resident)
        return max(
            kept + s.activations + s.held + (0 if s.stage in resident else s.weights)
            for s in self.stages
            if s.stage != "text" or s.stage in resident
        )

    def table(self) -> str:
        """The plan as text, in GB (1e9 bytes)."""
        lines = [
            f"{self.views} views of {self.height}x{self.width}, {str(self.dtype).removeprefix('torch.')}, "
            f"{self.device_type}, {self.views_per_chunk} views a chunk",
            f"{'stage':<12}{'weights':>9}{'activations':>13}{'held':>8}{'sum':>8}  (GB)",
        ]
        lines += [
            f"{s.stage:<12}{s.weights / 1e9:>9.2f}{s.activations / 1e9:>13.2f}{s.held / 1e9:>8.2f}{s.peak / 1e9:>8.2f}"
            for s in self.stages
        ]
        lines.append(
            f"peak {self.peak() / 1e9:.2f} with the networks loaded, {self.peak(()) / 1e9:.2f} one at a time, GB"
        )
        return "\n".join(lines)


def memory_plan(
    config: FlashWorldConfig,
    *,
    views: int | None = None,
    height: int | None = None,
    width: int | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device_type: str = "cuda",
    views_per_chunk: int | None = None,
    text_parameters: int | None = None,
    text_dtype: torch.dtype | None = None,
) -> MemoryPlan:
    """Plan a generation's memory.

    Args:
        config: the model.
        views, height, width: what is generated; default: the config's own.
        dtype: of the networks: float32, bfloat16 or float16.
        device_type: "cuda" or "cpu". On the CPU networks take one view at a time, whatever the chunk.
        views_per_chunk: as in `FlashWorldModel.generate`; None takes its default.
        text_parameters: of the text encoder; None: UMT5-XXL's where the width is its, else the stage is left out.
        text_dtype: of the text encoder; default ``dtype``.

    Raises:
        FlashWorldError: sizes that do not fit the model, or an unknown dtype or device type.
    """
    views, height, width = views or config.views, height or config.height, width or config.width
    chunk = min(views_per_chunk or DEFAULT_CHUNK, views)
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise FlashWorldError(f"memory_plan: dtype must be float32, bfloat16 or float16, got {dtype}.")
    if device_type not in _DEVICES:
        raise FlashWorldError(f"memory_plan: device_type must be one of {_DEVICES}, got {device_type!r}.")
    if min(views, chunk) < 1:
        raise FlashWorldError(f"memory_plan: views and views_per_chunk must be at least 1, got {views} and {chunk}.")
    rows, columns = config.latent_size(height, width)

    # What the sampler holds: the assembled input from the first step on, and a few float32 latents.
    pixels = views * rows * columns
    features = pixels * config.feature_channels * dtype.itemsize
    base = pixels * config.input_channels * dtype.itemsize + 3 * pixels * config.latent_channels * FLOAT32_BYTES
    grid_rows, grid_columns = config.head_grid(height, width)
    count = views * config.num_points * grid_rows * grid_columns
    gaussians = count * config.point_channels * FLOAT32_BYTES
    renders = views * height * width * 3 * FLOAT32_BYTES

    key, per_pass = config.to_json(), 1 if device_type == "cpu" else chunk
    text = text_bytes(config, text_dtype or dtype, text_parameters)
    stages = [] if text is None else [StageMemory("text", *text, 0)]
    stages += [
        StageMemory("transformer", *transformer_bytes(key, dtype, views, rows, columns), base),
        StageMemory("decoder", *decoder_bytes(key, dtype, per_pass, rows, columns), base + features + gaussians),
        StageMemory(
            "renderer",
            0,
            render_bytes(device_type, count, chunk, height, width),
            base + features + gaussians + renders,
        ),
        StageMemory(
            "encoder", *encoder_bytes(key, dtype, per_pass, height, width), base + features + gaussians + renders
        ),
        StageMemory("world", 0, world_bytes(count, config.sh_coefficients), base + features + gaussians),
    ]
    return MemoryPlan(tuple(stages), views, height, width, dtype, device_type, chunk)


def choose_chunk(
    config: FlashWorldConfig, free_bytes: int, *, resident: Collection[str] | None = None, **options
) -> int:
    """The largest ``views_per_chunk``, up to the default, whose plan fits into ``free_bytes``.

    Args:
        free_bytes: memory available to everything the plan names, weights included. A tenth of it is left alone.
        resident: as in `MemoryPlan.peak`.
        options: as in `memory_plan`.

    Raises:
        FlashWorldError: not even one view at a time fits; the message says what is missing.
    """
    views = options.get("views") or config.views
    for chunk in range(min(DEFAULT_CHUNK, views), 0, -1):
        plan = memory_plan(config, **(options | {"views_per_chunk": chunk}))
        if plan.peak(resident) <= (1 - _MARGIN) * free_bytes:
            return chunk
    raise FlashWorldError(
        f"choose_chunk: one view at a time needs {plan.peak(resident) / 1e9:.1f} GB, but {free_bytes / 1e9:.1f} GB are "
        "free; use a lower precision, fewer views, a smaller image, or let stages come and go (OffloadStages)."
    )


def fitting_chunk(model: FlashWorldModel, *, views: int, height: int, width: int) -> int | None:
    """``views_per_chunk`` for a model that is loaded already, from what its GPU has left; None on the CPU.

    If nothing fits it says so in the log and answers 1: the plan is an estimate, and trying costs little.
    """
    device = module_device(model.decoder)
    if device.type != "cuda":
        return None
    options = {"views": views, "height": height, "width": width, "dtype": model.dtype}
    # What the driver has left, and what torch holds in reserve.
    free = torch.cuda.mem_get_info(device)[0]
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    plan = memory_plan(model.config, **options)
    networks = {"transformer": model.transformer, "decoder": model.decoder, "encoder": model.encoder}
    resident = [name for name, module in networks.items() if module_device(module) == device]
    weights = sum(plan[name].weights for name in resident)
    try:
        return choose_chunk(model.config, free + weights, resident=resident, **options)
    except FlashWorldError as error:
        logger.warning("%s", error)
        return 1
