"""Write TRELLIS models: published files joined into one, or a model folder from networks in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ...checkpoints import DTYPES
from ...checkpoints.assign import expected_shapes, single_precision_names, target_dtype
from ...checkpoints.manifest import Manifest
from ...checkpoints.write import write_safetensors
from ...errors import FlashWorldError
from ...formats.files import atomic_writer
from ...models.dinov2 import plain_name
from ...progress import Progress
from .checkpoint import NAME, open_checkpoint
from .load import load_networks
from .networks import IMAGE_ENCODER
from .presets import TrellisConfig


def save_model(
    target: str | Path, config: TrellisConfig, modules: Mapping[str, nn.Module], *, dtype: torch.dtype,
    license: str, compute_dtype: str | None = None, notes: dict | None = None,
    progress: Callable[..., None] | None = None,
) -> Path:  # fmt: skip
    """Write networks as one safetensors file that carries its config; a folder gets ``config.json`` beside it.

    Args:
        target: a ``.safetensors`` file, or a folder.
        modules: by their names in `TrellisConfig`.
        dtype: of the tensors; those the networks keep in float32 stay.
    """
    target = Path(target)
    folder = target.suffix != ".safetensors"
    file = target / "model.safetensors" if folder else target
    tensors: dict[str, tuple[Tensor, torch.dtype]] = {}
    for part, module in modules.items():
        keep, state = single_precision_names(module), module.state_dict()
        for name in expected_shapes(module):
            stored = plain_name(name.removeprefix("model.")) if part == IMAGE_ENCODER else name
            tensors[f"{part}.{stored}"] = (state[name], target_dtype(name, state[name].dtype, dtype, keep))
    manifest = Manifest(NAME, config.to_dict(), license, compute_dtype, notes or {})
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(file) as stream:
        write_safetensors(
            stream, {name: (tuple(t.shape), kind) for name, (t, kind) in tensors.items()},
            lambda name: tensors[name][0], manifest.metadata(), progress=progress,
        )  # fmt: skip
    if folder:
        with atomic_writer(target / "config.json") as stream:
            stream.write(manifest.to_json().encode())
    return file


def convert(source: str | Path, target: str | Path, dtype: str | None = None, progress: Progress | None = None) -> Path:
    """Join a model's files, its image encoder included, into one safetensors file.

    Args:
        target: must end in ``.safetensors``.
        dtype: "bf16", "fp16", "fp32"; None: fp16.

    Raises:
        FlashWorldError: as `load.load_networks`, another target or dtype.
    """
    target, progress = Path(target), progress or Progress()
    if target.suffix != ".safetensors":
        raise FlashWorldError(f"The target {target} must end in .safetensors.")
    if dtype is not None and dtype not in DTYPES:
        raise FlashWorldError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    wanted = getattr(torch, DTYPES[dtype or "fp16"])
    found = open_checkpoint(source)
    modules = load_networks(found, dtype=wanted, should_stop=progress.should_stop)
    return save_model(
        target, found.config, modules, dtype=wanted, license=found.license, compute_dtype=found.compute_dtype,
        progress=progress.report,
    )  # fmt: skip
