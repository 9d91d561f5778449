"""What a weight file or model folder is, for people: the facts behind ``info``."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from ..errors import FlashWorldError
from .identify import identify
from .manifest import METADATA_KEY, TEXT_FOLDERS, VAE_NAMES, WEIGHT_NAMES, Manifest, find_beside
from .open import WeightFile, open_weights
from .quantized import is_marker


def describe(path: str | Path) -> dict:
    """Facts about a weight file or model folder, as JSON values; no tensor is read.

    Args:
        path: any weight file or folder `weights.open_weights` takes, or a FlashWorld model folder.

    Returns:
        ``path``, ``kind``, ``description`` (completes "it looks like ..."), ``format``, ``bytes``, ``tensors``,
        ``parameters``, ``dtypes`` (parameters by dtype), ``parts`` (parameters by first name, for checkpoints of
        several networks), and where the file says so ``model_id``, ``license``, ``config``, ``notes``. A model folder
        adds ``vae`` and ``text_encoder``, described the same way.

    Raises:
        FlashWorldError: not there, not a weight file, or damaged.
    """
    path = Path(path).expanduser()
    if path.is_file() and path.name == "config.json":
        path = path.parent
    manifest_file = path / "config.json"
    weights = next((path / name for name in WEIGHT_NAMES if (path / name).is_file()), path)
    facts = _facts(open_weights(weights))
    if facts["kind"] != "flashworld" or not path.is_dir():
        return facts
    if manifest_file.is_file():
        text = manifest_file.read_text(encoding="utf-8", errors="replace")
        if Manifest.recognizes(text):
            facts |= _manifest_facts(Manifest.from_json(text, str(manifest_file)))
    vae = find_beside(path, VAE_NAMES)
    text = next((path / name for name in TEXT_FOLDERS if (path / name).is_dir()), None)
    for name, part in (("vae", vae), ("text_encoder", text)):
        if part is not None:
            try:
                facts[name] = _facts(open_weights(part))
            except FlashWorldError as error:
                facts[name] = {"path": str(part), "error": str(error)}
    return facts


def _facts(weights: WeightFile) -> dict:
    kind = identify(weights)
    dtypes, parts = Counter(), Counter()
    tensors = {name: entry for name, entry in weights.entries.items() if not is_marker(name)}
    for name, entry in tensors.items():
        count = math.prod(entry.shape)
        dtypes[str(entry.dtype).removeprefix("torch.")] += count
        parts[name.split(".", 1)[0]] += count
    facts = {
        "path": str(weights.path),
        "kind": kind.name,
        "description": kind.description,
        "format": weights.kind,
        "bytes": weights.nbytes,
        "tensors": len(tensors),
        "parameters": sum(dtypes.values()),
        "dtypes": dict(dtypes.most_common()),
        "parts": dict(parts.most_common()) if kind.name.startswith("flashworld") else {},
    }
    if METADATA_KEY in weights.metadata:
        facts |= _manifest_facts(Manifest.from_json(weights.metadata[METADATA_KEY], str(weights.path)))
    return facts


def _manifest_facts(manifest: Manifest) -> dict:
    return {
        "model_id": str(manifest.config.get("model_id", "")),
        "license": manifest.license,
        "config": manifest.config,
        "notes": manifest.notes,
    }
