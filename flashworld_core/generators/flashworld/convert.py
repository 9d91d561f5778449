"""``model.ckpt`` to safetensors, tensor by tensor, optionally in another precision."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from ...errors import FlashWorldError
from ...formats.atomic import atomic_writer
from .assign import single_precision_names, target_dtype
from .checkpoint import build_parts, check_parts, open_checkpoint
from .checkpoint_names import PARTS
from .config import FlashWorldConfig
from .safetensors_stream import nbytes, write_safetensors
from .weights import FP8

logger = logging.getLogger(__name__)

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def convert(
    source: str | Path,
    target: str | Path,
    dtype: str | None = None,
    *,
    config: FlashWorldConfig | None = None,
    progress: Callable[..., None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Path:
    """Write a checkpoint's transformer and 3DGS decoder as one safetensors file that carries its config.

    Needs memory for a few tensors only, whatever the checkpoint's size. The file appears under its name when it is
    complete.

    Args:
        source: ``model.ckpt``, a safetensors file or a model folder.
        target: where to write; must end in ``.safetensors``.
        dtype: "bf16", "fp16", "fp32", or None to keep what is stored. Half precision leaves in float32 what the
            transformer computes in float32.
        config: sizes of a checkpoint that does not carry them; default: the published model's.
        progress: ``progress(tensors_done, tensors_total)``.
        should_stop: asked before every tensor.

    Returns:
        The target's path.

    Raises:
        FlashWorldError: the source is not a FlashWorld model, the target is the source or cannot be written, or the
            disk is too small.
        Cancelled: ``should_stop`` answered True; nothing is left behind.
    """
    target = Path(target).expanduser()
    if dtype is not None and dtype not in DTYPES:
        raise FlashWorldError(f"convert: dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    if target.suffix != ".safetensors":
        raise FlashWorldError(f"convert: the target must end in .safetensors, got {target}.")
    _, weights, manifest = open_checkpoint(source, config)
    if target.exists() and target.samefile(weights.path):
        raise FlashWorldError(f"convert: {target} is the source itself; choose another name.")
    modules = build_parts(manifest.config)
    check_parts(weights, modules)

    tensors = {}
    for part in PARTS:
        keep = single_precision_names(modules[part])
        for name, entry in weights.entries.items():
            if name.startswith(f"{part}."):
                if entry.dtype is None or entry.dtype in FP8:
                    raise FlashWorldError(f"convert: {name} in {weights.path} is stored in 8 bits; use the original.")
                wanted = entry.dtype if dtype is None else target_dtype(name, entry.dtype, DTYPES[dtype], keep)
                tensors[name] = (entry.shape, wanted)
    _check_space(target, sum(nbytes(*spec) for spec in tensors.values()))
    with atomic_writer(target, "convert") as stream:
        write_safetensors(
            stream, tensors, weights.read, manifest.metadata(), progress=progress, should_stop=should_stop
        )
    logger.info("%s written: %d tensors.", target, len(tensors))
    return target


def _check_space(target: Path, needed: int) -> None:
    folder = target.resolve().parent
    if not folder.is_dir():
        raise FlashWorldError(f"convert: the folder {folder} does not exist; create it first.")
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FlashWorldError(f"convert: {target} needs {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB free.")
