"""What `generators` opens: a TRELLIS model on disk, or the sizes of the published one."""

from __future__ import annotations

import functools
import math
from pathlib import Path

from ...errors import FlashWorldError
from ...models.dinov2 import find_image_encoder
from ...progress import Progress
from ..base import ModelFile
from . import export, load
from .checkpoint import ADVICE, open_checkpoint
from .memory import memory_plan, meta_network
from .networks import CLASSES, IMAGE_ENCODER
from .pipeline import TrellisModel, info_of
from .presets import OFFICIAL_LICENSE, official_config


def open_model(path: str | Path) -> ModelFile:
    """Open a TRELLIS model for `generators.open_model`; only headers are read.

    Raises:
        FlashWorldError: as `checkpoint.open_checkpoint`.
    """
    found = open_checkpoint(path)
    beside = None if IMAGE_ENCODER in found.parts else find_image_encoder(found.folder)

    def load_parts(*, dtype=None, device="cpu", parts=None, progress: Progress | None = None) -> TrellisModel:
        parts, progress = dict(parts or {}), progress or Progress()
        if unknown := sorted(set(parts) - {IMAGE_ENCODER}):
            raise FlashWorldError(f"A TRELLIS model takes {IMAGE_ENCODER} beside it, not {', '.join(unknown)}.")
        networks = load.load_networks(
            found, dtype=dtype, device=device, **parts, progress=progress.report, should_stop=progress.should_stop
        )
        return TrellisModel(found.config, networks, found.license)

    def convert(target, dtype=None, progress: Progress | None = None) -> Path:
        return export.convert(path, target, dtype, progress)

    parameters = sum(
        math.prod(entry.shape)
        for part in found.parts.values()
        for name, entry in part.weights.entries.items()
        if name.startswith(part.prefix)
    )
    return ModelFile(
        info_of(found.config, found.license, parameters, IMAGE_ENCODER not in found.parts),
        load_parts,
        functools.partial(memory_plan, found.config),
        found.compute_dtype,
        {} if beside is None else {IMAGE_ENCODER: beside},
        convert,
    )


def published_model() -> ModelFile:
    """Describe the published model, which planning needs no file for."""

    def load_parts(**_) -> TrellisModel:
        raise FlashWorldError(f"The published weights do not come with this package: {ADVICE}, and give its path.")

    config = official_config()
    parameters = sum(p.numel() for part in CLASSES for p in meta_network(config, part).parameters())
    info = info_of(config, OFFICIAL_LICENSE, parameters)
    return ModelFile(info, load_parts, functools.partial(memory_plan, config), "float16")
