"""What `generators` opens: a FlashWorld model on disk, or the sizes of the published one."""

from __future__ import annotations

import functools
import math
from pathlib import Path

from ...checkpoints.identify import CHECKPOINT
from ...checkpoints.quantized import is_marker
from ...errors import FlashWorldError
from ...models.wan_vae import find_vae
from ...progress import Progress
from ..base import ModelFile, Request
from . import checkpoint, export
from .conditioning import check_request
from .config import FlashWorldConfig
from .memory import memory_plan
from .pipeline import FlashWorldModel, info_of
from .presets import OFFICIAL_LICENSE, official_config
from .quantization import stored_in_eight_bits
from .remarks import remarks
from .work import work_of


def open_model(path: str | Path, config: FlashWorldConfig | None = None) -> ModelFile:
    """Open a FlashWorld model for `generators.open_model`; only headers are read.

    Args:
        path, config: as in `checkpoint.load`.

    Raises:
        FlashWorldError: as `checkpoint.load`, for what can be told from names and shapes.
    """
    given = config
    folder, weights, manifest = checkpoint.open_checkpoint(path, config)
    config = checkpoint.config_of(manifest)
    beside = {"vae": find_vae(folder), "text_encoder": checkpoint.find_text_encoder(folder)}

    def load_parts(*, dtype=None, device="cpu", parts=None, progress: Progress | None = None) -> FlashWorldModel:
        parts, progress = dict(parts or {}), progress or Progress()
        if unknown := sorted(set(parts) - {"vae", "text_encoder"}):
            raise FlashWorldError(f"A FlashWorld model takes vae and text_encoder beside it, not {', '.join(unknown)}.")
        return checkpoint.load(
            path,
            dtype=dtype,
            device=device,
            **parts,
            config=given,
            progress=progress.report,
            should_stop=progress.should_stop,
        )

    def convert(target, dtype=None, progress: Progress | None = None) -> Path:
        progress = progress or Progress()
        return export.convert(
            path, target, dtype, config=given, progress=progress.report, should_stop=progress.should_stop
        )

    def check(request: Request) -> list[str]:
        check_request(config, request)
        return remarks(config, request)

    parameters = sum(math.prod(entry.shape) for name, entry in weights.entries.items() if not is_marker(name))
    return ModelFile(
        info_of(config, manifest.license, parameters),
        load_parts,
        functools.partial(memory_plan, config, stored=stored_in_eight_bits(weights)),
        manifest.compute_dtype,
        {name: place for name, place in beside.items() if place is not None},
        convert,
        check,
        functools.partial(operations, config),
    )


def published_model() -> ModelFile:
    """Describe the published model, which planning needs no file for."""

    def load_parts(**_) -> FlashWorldModel:
        raise FlashWorldError(f"The published weights do not come with this package: {CHECKPOINT}, and give its path.")

    config = official_config()
    return ModelFile(
        info_of(config, OFFICIAL_LICENSE),
        load_parts,
        functools.partial(memory_plan, config),
        operations=functools.partial(operations, config),
    )


def operations(
    config: FlashWorldConfig,
    *,
    views: int | None = None,
    height: int | None = None,
    width: int | None = None,
    steps: int | None = None,
) -> int:
    """Count the floating-point operations of a generation; what is not given is the model's own."""
    size = views or config.views, height or config.height, width or config.width
    return work_of(config, *size, steps or len(config.timestep_indices)).total
