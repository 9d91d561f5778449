"""What a VFusion3D run needs, stage by stage, from its networks on the meta device."""

from __future__ import annotations

import functools

import torch

from ...checkpoints.assign import expected_shapes
from ...models.triplane_field import POINTS_PER_PASS
from ...ops.field_to_gaussians import RESOLUTION
from ...runtime.memory import MemoryPlan, StageMemory, peak_bytes
from .config import CAMERA_NUMBERS, VFusion3DConfig
from .network import VFusion3DNetwork

FLOAT32_BYTES = 4


def memory_plan(
    config: VFusion3DConfig,
    *,
    views: int | None = None,
    height: int | None = None,
    width: int | None = None,
    dtype: torch.dtype | None = None,
    device_type: str = "cuda",
    views_per_chunk: int | None = None,
) -> MemoryPlan:
    """Plan the memory of a run; the size of an object's result does not depend on views and their size."""
    dtype = dtype or torch.float32
    weights, peaks = _footprint(config)
    scale = dtype.itemsize / FLOAT32_BYTES
    side = 2 * config.triplane.low_res
    planes = 3 * config.triplane.channels * side**2 * FLOAT32_BYTES
    table = 3 * config.triplane.hidden * (side + 2) ** 2 * FLOAT32_BYTES
    lattice = 4 * RESOLUTION**3 * FLOAT32_BYTES + 2 * POINTS_PER_PASS * config.triplane.hidden * FLOAT32_BYTES
    stages = [
        StageMemory(name, round(weights[name] * scale), round(peaks.get(name, 0) * scale), planes) for name in weights
    ] + [StageMemory("renderer", 0, lattice, planes + table)]
    size = config.image_size
    return MemoryPlan(tuple(stages), views or 1, height or size, width or size, dtype, device_type, 1)


@functools.lru_cache(maxsize=8)
def _footprint(config: VFusion3DConfig) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes of weights and of activations by stage, in float32."""
    with torch.device("meta"):
        network = VFusion3DNetwork(config)
        image, camera = torch.empty(1, 3, config.image_size, config.image_size), torch.empty(1, CAMERA_NUMBERS)
        tokens = torch.empty(1, 1 + (config.image_size // config.encoder.patch) ** 2, config.encoder.width)
    parts = network.stages()
    weights = {
        name: FLOAT32_BYTES * sum(torch.Size(shape).numel() for shape in expected_shapes(module).values())
        for name, module in parts.items()
    }
    peaks = {
        "encoder": peak_bytes(lambda: network.image_tokens(image)),
        "transformer": peak_bytes(lambda: network.planes(tokens, camera)),
    }
    return weights, peaks
