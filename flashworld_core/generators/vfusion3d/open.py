"""What `generators` opens: a VFusion3D model on disk."""

from __future__ import annotations

import functools
import math
from pathlib import Path

from ...errors import FlashWorldError
from ..base import ModelFile
from .checkpoint import config_of, load_network, open_checkpoint
from .memory import memory_plan
from .pipeline import VFusion3DModel, check_request, info_of


def open_model(path: str | Path) -> ModelFile:
    """Open a VFusion3D model for `generators.open_model`; only headers are read.

    Raises:
        FlashWorldError: another kind of file, or a config that no model can have.
    """
    weights, prefix, manifest = open_checkpoint(Path(path))
    config = config_of(manifest)

    def load(*, dtype=None, device="cpu", parts=None, progress=None) -> VFusion3DModel:
        if parts:
            raise FlashWorldError(f"A VFusion3D model takes nothing beside it, not {', '.join(sorted(parts))}.")
        network = load_network(weights, prefix, config, dtype=dtype, device=device, progress=progress)
        return VFusion3DModel(network, manifest.license)

    parameters = sum(math.prod(entry.shape) for entry in weights.entries.values())
    return ModelFile(
        info_of(config, manifest.license, parameters),
        load,
        functools.partial(memory_plan, config),
        manifest.compute_dtype,
        check=check_request,
    )
