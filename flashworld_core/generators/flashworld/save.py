"""A model folder of ours from networks in memory: what training writes and `checkpoint.load` reads."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...errors import FlashWorldError
from .assign import target_dtype
from .config import FlashWorldConfig
from .manifest import Manifest
from .safetensors_stream import write_safetensors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

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
        raise FlashWorldError("save_folder: text_encoder and tokenizer belong together; give both or neither.")
    folder = Path(folder).expanduser()
    manifest = Manifest(config, license, compute_dtype, notes or {})
    Manifest.from_json(manifest.to_json(), "the new manifest")  # what cannot be read back must not be written
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
    except OSError as error:
        raise FlashWorldError(f"save_folder: {folder} cannot be written: {error}.") from error
    try:
        keep = tuple(getattr(transformer, "_keep_in_fp32_modules", None) or ("scale_shift_table", "time_embedder"))
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
        raise FlashWorldError(f"save_folder: {folder} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _state(part: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    return dict(part.state_dict() if isinstance(part, nn.Module) else part)


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
