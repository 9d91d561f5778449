"""Write FlashWorld models: a checkpoint converted to safetensors, or a model folder from networks in memory."""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...checkpoints import DTYPES, QUANTIZED
from ...checkpoints.assign import single_precision_names, target_dtype
from ...checkpoints.manifest import Manifest
from ...checkpoints.quantized import SCALE, scaled_weights
from ...checkpoints.write import nbytes, write_safetensors
from ...errors import FlashWorldError
from ...formats.files import atomic_writer
from .checkpoint import build_parts, check_parts, config_of, open_checkpoint
from .config import FlashWorldConfig
from .pipeline import NAME
from .quantization import read_stored, stored_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

logger = logging.getLogger(__name__)


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
            transformer computes in float32. "fp8" and "int8" store the weights of `eight_bit_weights` in 8 bits, with
            one scale for each output channel, and the rest as "bf16" does.
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
    if dtype is not None and dtype not in (*DTYPES, *QUANTIZED):
        raise FlashWorldError(f"dtype must be one of {', '.join((*DTYPES, *QUANTIZED))}, got {dtype!r}.")
    if target.suffix != ".safetensors":
        raise FlashWorldError(f"The target must end in .safetensors, got {target}.")
    _, weights, manifest = open_checkpoint(source, config)
    if target.exists() and target.samefile(weights.path):
        raise FlashWorldError(f"{target} is the source itself; choose another name.")
    if scaled := next(iter(scaled_weights(weights)), None):
        raise FlashWorldError(f"{scaled} in {weights.path} is stored in 8 bits; use the original.")
    modules = build_parts(config_of(manifest))
    check_parts(weights, modules)

    tensors = stored_tensors(weights, modules, dtype)
    _check_space(target, sum(nbytes(*spec) for spec in tensors.values()))
    with atomic_writer(target) as stream:
        read = functools.partial(read_stored, weights, tensors)
        write_safetensors(stream, tensors, read, manifest.metadata(), progress=progress, should_stop=should_stop)
    logger.info("%s written: %d tensors.", target, len(tensors))
    return target


def _check_space(target: Path, needed: int) -> None:
    folder = target.resolve().parent
    if not folder.is_dir():
        raise FlashWorldError(f"The folder {folder} does not exist; create it first.")
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FlashWorldError(f"{target} needs {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB free.")


# In a folder's order of appearance: the manifest comes last, so that a folder that has one is complete.
_FILES = (
    "text_encoder/tokenizer.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "vae.safetensors",
    "model.safetensors",
    "config.json",
)


def save_folder(
    folder: str | Path,
    config: FlashWorldConfig,
    *,
    transformer: nn.Module | Mapping[str, Tensor],
    recon_decoder: nn.Module | Mapping[str, Tensor],
    vae: nn.Module | Mapping[str, Tensor],
    text_encoder: UMT5EncoderModel | None = None,
    tokenizer: PreTrainedTokenizerFast | None = None,
    dtype: torch.dtype | None = None,
    license: str = "",
    compute_dtype: str | None = None,
    notes: dict | None = None,
) -> Path:
    """Write a model folder (layout in `checkpoint`).

    Everything is written to a temporary folder first and moved in file by file, so a failure leaves what was there;
    other files in the folder (a model card) are kept.

    Args:
        folder: created if need be.
        config: sizes; the networks' own are checked when the folder is loaded.
        transformer, recon_decoder, vae: networks or state dicts; of the VAE the encoder is kept.
        text_encoder: the UMT5 encoder; None leaves it out.
        tokenizer: a fast tokenizer; goes with ``text_encoder``.
        dtype: floating-point type to store; None keeps each tensor's. Half precision leaves in float32 what the
            transformer computes in float32.
        license, compute_dtype, notes: see `manifest.Manifest`.

    Returns:
        The folder's path.

    Raises:
        FlashWorldError: a text encoder without tokenizer, or a folder that cannot be written.
    """
    if (text_encoder is None) != (tokenizer is None):
        raise FlashWorldError("text_encoder and tokenizer belong together; give both or neither.")
    folder = Path(folder).expanduser()
    manifest = Manifest(NAME, config.to_dict(), license, compute_dtype, notes or {})
    Manifest.from_json(manifest.to_json(), "the new manifest")  # what cannot be read back must not be written
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
    except OSError as error:
        raise FlashWorldError(f"{folder} cannot be written: {error}.") from error
    try:
        from .transformer import FlashWorldTransformer

        keep = single_precision_names(FlashWorldTransformer)
        model = {f"transformer.{name}": t for name, t in _state(transformer).items()}
        model |= {f"recon_decoder.{name}": t for name, t in _state(recon_decoder).items()}
        _write(temporary / "model.safetensors", model, dtype, manifest.metadata(), keep)
        encoder = {n: t for n, t in _state(vae).items() if n.startswith(("encoder.", "quant_conv."))}
        _write(temporary / "vae.safetensors", encoder, dtype, {"format": "pt"})
        if text_encoder is not None:
            _write_text(temporary / "text_encoder", text_encoder, tokenizer, dtype)
        (temporary / "config.json").write_text(manifest.to_json(), encoding="utf-8")
        for name in _FILES:
            if (temporary / name).is_file():
                (folder / name).parent.mkdir(exist_ok=True)
                os.replace(temporary / name, folder / name)
    except OSError as error:
        raise FlashWorldError(f"{folder} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _state(part: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    state = dict(part.state_dict() if isinstance(part, nn.Module) else part)
    if any(name.endswith(SCALE) for name in state):
        raise FlashWorldError("A model loaded in 8 bits cannot be saved as a folder; load its original and save that.")
    return state


def _write(
    path: Path,
    state: dict[str, Tensor],
    dtype: torch.dtype | None,
    metadata: dict[str, str],
    keep: tuple[str, ...] = (),
) -> None:
    tensors = {
        name: (tuple(t.shape), t.dtype if dtype is None else target_dtype(name, t.dtype, dtype, keep))
        for name, t in state.items()
    }
    with path.open("xb") as stream:
        write_safetensors(stream, tensors, lambda name: state[name].detach(), metadata)


def _write_text(
    folder: Path, encoder: UMT5EncoderModel, tokenizer: PreTrainedTokenizerFast, dtype: torch.dtype | None
) -> None:
    folder.mkdir()
    state = encoder.state_dict()
    state.pop("encoder.embed_tokens.weight", None)  # shared.weight under its second name
    _write(folder / "model.safetensors", state, dtype, {"format": "pt"})
    config = json.dumps({"architectures": ["UMT5EncoderModel"], **encoder.config.to_diff_dict()}, indent=1)
    (folder / "config.json").write_text(config + "\n", encoding="utf-8")
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
