"""A run's averaged weights as a model folder that the generator opens."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..errors import FlashWorldError
from ..generators.flashworld.export import save_folder
from .flashworld.start import read_model, read_own_text
from .runs import read_run
from .state import RunFolder, read_average


def export_run(folder: str | Path, target: str | Path, dtype: torch.dtype | None = None) -> Path:
    """Write the running average of a run's last checkpoint as a model folder.

    VAE, text encoder and license are those the run started from.

    Args:
        folder: of the run.
        target: the model folder; written as a whole or not at all.
        dtype: floating-point type to store; None keeps float32.

    Raises:
        FlashWorldError: no run, no checkpoint yet, or a start that is gone.
    """
    folder = Path(folder)
    stage, recipe = read_run(folder)
    checkpoint = RunFolder(folder).latest()
    if checkpoint is None:
        raise FlashWorldError(f"{folder} has no checkpoint yet; train it first.")
    facts = json.loads((checkpoint / "facts.json").read_text(encoding="utf-8"))
    start = Path(facts["start"])
    model = read_model(start)
    average = read_average(checkpoint, "student")
    parts = {}
    for name, tensor in average.items():
        index, _, key = name.partition(".")
        parts.setdefault(int(index), {})[key] = tensor
    own = read_own_text(start, model.config) if model.text is not None and (start / "text_encoder").is_dir() else None
    if own is not None and 2 in parts:
        own.encoder.load_state_dict(parts[2])
    return save_folder(
        target, model.config, transformer=parts[0], recon_decoder=parts[1], vae=model.encoder,
        text_encoder=None if own is None else own.encoder, tokenizer=None if own is None else own.tokenizer,
        dtype=dtype, license=recipe.license or model.license, compute_dtype="float32",
        notes={"stage": stage, "recipe": recipe.name, "iteration": facts["iteration"], "started_from": str(start.name)},
    )  # fmt: skip
