"""What a generation will need, stage by stage, before anything is loaded.

How many voxels an object has is not known before its structure is made; `TYPICAL_SHARE` of the cube's faces is planned.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...checkpoints.assign import cast
from ...errors import FlashWorldError
from ...models.sparse import SparseLayout
from ...runtime.memory import MemoryPlan, StageMemory, peak_bytes
from .gaussian_decoder import CHANNELS
from .networks import CLASSES
from .presets import TrellisConfig

TYPICAL_SHARE = 0.9  # the planned object's surface: that of a cube with this share of the voxels along a side
FLOAT32_BYTES = 4
_CUDA_BYTES_PER_GAUSSIAN = 300  # of the GPU rasterizers: a copy, and what one view makes of it


def memory_plan(
    config: TrellisConfig,
    *,
    views: int | None = None,
    height: int | None = None,
    width: int | None = None,
    dtype: torch.dtype = torch.float16,
    device_type: str = "cuda",
    views_per_chunk: int | None = None,
    renderer: str = "auto",
    stored: torch.dtype | None = None,
) -> MemoryPlan:
    """Plan a generation's memory.

    Args:
        views, height, width: of the renders of a result; default: the config's own.
        dtype: of the networks' bodies.
        device_type: "cuda" or "cpu".
        views_per_chunk: means nothing here: objects are generated whole.
        renderer: means nothing here: planned is the largest that the device may take.
        stored: of weights kept in 8 bits, which is not for these networks.

    Raises:
        FlashWorldError: an unknown dtype or device type, sizes below 1, or ``stored`` is asked for.
    """
    if stored is not None:
        raise FlashWorldError("TRELLIS has no 8-bit form; plan for bf16, fp16 or fp32.")
    views, height, width = views or 1, height or config.preview_size, width or config.preview_size
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise FlashWorldError(f"dtype must be float32, bfloat16 or float16, got {dtype}.")
    if device_type not in ("cpu", "cuda"):
        raise FlashWorldError(f"device_type must be one of ('cpu', 'cuda'), got {device_type!r}.")
    if min(views, height, width) < 1:
        raise FlashWorldError("views, height and width must be at least 1.")
    tokens = 2 * config.image_encoder.tokens * config.image_encoder.hidden_size * FLOAT32_BYTES
    voxels = len(_planned(config.resolution))
    latents = 4 * voxels * config.slat_flow.in_channels * FLOAT32_BYTES
    count = voxels * config.gaussian_decoder.num_gaussians
    gaussians = count * sum(CHANNELS.values()) * FLOAT32_BYTES
    parts = {part: part_bytes(config, part, dtype) for part in CLASSES}
    stages = (
        StageMemory("encoder", *parts["image_encoder"], 0),
        StageMemory("structure_flow", *parts["structure_flow"], tokens),
        StageMemory("structure_decoder", *parts["structure_decoder"], tokens),
        StageMemory("slat_flow", *parts["slat_flow"], tokens + latents),
        StageMemory("decoder", *parts["gaussian_decoder"], latents + gaussians),
        StageMemory("renderer", 0, _render_bytes(device_type, count, height, width), gaussians),
    )
    return MemoryPlan(stages, views, height, width, dtype, device_type, 1)


def _render_bytes(device_type: str, count: int, height: int, width: int) -> int:
    if device_type == "cuda":
        return count * _CUDA_BYTES_PER_GAUSSIAN
    try:
        from ...rendering.backends.cpu.rasterize import bytes_per_view
    except ImportError:  # no numba: the torch renderer
        return count * _CUDA_BYTES_PER_GAUSSIAN
    return bytes_per_view(count, width, height)


@functools.lru_cache(maxsize=64)
def part_bytes(config: TrellisConfig, part: str, dtype: torch.dtype) -> tuple[int, int]:
    """Weights and activations of one pass of a network."""
    network = meta_network(config, part)
    cast(network, dtype)
    weights = sum(t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers()))
    return weights, peak_bytes(meta_pass(config, part, network))


def meta_network(config: TrellisConfig, part: str) -> nn.Module:
    """A network without memory."""
    with torch.device("meta"):
        return CLASSES[part](getattr(config, part)).to("meta")


def meta_pass(config: TrellisConfig, part: str, network: nn.Module) -> Callable[[], object]:
    """One pass of a network at full size, as a function."""
    encoder = config.image_encoder
    condition = _meta(1, encoder.tokens, encoder.hidden_size)
    if part == "image_encoder":
        image = _meta(1, 3, encoder.image_size, encoder.image_size)
        return lambda: network(image)
    if part == "structure_decoder":
        latent = _meta(1, config.structure_decoder.latent_channels, *[config.structure_flow.resolution] * 3)
        return lambda: network(latent)
    if part == "structure_flow":
        flow = config.structure_flow
        x = _meta(1, flow.in_channels, *[flow.resolution] * 3)
        return lambda: network(x, _meta(1), condition)
    voxels = planned_layout(config)
    x = _meta(len(voxels), config.slat_flow.in_channels)
    if part == "slat_flow":
        return lambda: network(x, _meta(1), condition, voxels)
    return lambda: network.activate(network(x, voxels), voxels.coords[:, 1:])


def planned_layout(config: TrellisConfig) -> SparseLayout:
    """The planned object's voxels on the meta device, with every table the networks ask for."""
    layout = SparseLayout(_planned(config.resolution))
    level = layout
    for _ in config.slat_flow.io_block_channels:
        level.neighbors()
        level = level.coarser()[0]
    for known in (layout, level):
        known.neighbors(), known.whole(), known.samples
    size = config.gaussian_decoder.window_size
    for shift in (0, size // 2):
        layout.windows(size, shift)
    return layout.to("meta")


def _planned(resolution: int) -> Tensor:
    """[n, 4] voxels on the faces of a cube; some 20 000 at 64^3."""
    low = math.floor(resolution * (1 - TYPICAL_SHARE) / 2)
    axis = torch.arange(low, resolution - low)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    face = ((grid == axis[0]) | (grid == axis[-1])).any(1)
    return torch.cat([torch.zeros_like(grid[face][:, :1]), grid[face]], 1)


def _meta(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")
