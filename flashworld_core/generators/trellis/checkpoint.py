"""A TRELLIS model from its files.

Read are: the published folder (``pipeline.json``, ``ckpts/<name>.json`` and ``.safetensors``); a folder of single
files, or one of them with the others beside it; flows distilled by MDT-dist as torch files (``.pt``), bare or under the
names of a trainer; and a folder of ours (``config.json``, ``model.safetensors``). What a file is, its tensors say. The
image encoder is DINOv2, from a file of its own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...checkpoints.identify import identify
from ...checkpoints.manifest import METADATA_KEY, Manifest
from ...checkpoints.open import WeightFile, open_weights
from ...errors import FlashWorldError
from ...formats.files import parse_json
from ...text import get_logger
from .config import CONFIGS, config_from_args
from .networks import FLOWS, IMAGE_ENCODER, TITLES
from .presets import DISTILLED_LICENSE, DISTILLED_STEPS, OFFICIAL_LICENSE, TrellisConfig, official_config

logger = get_logger(__name__)
NAME = "trellis"  # in manifests and in the table of generators
PIPELINE_FILE = "pipeline.json"
# A part's key in the published pipeline.json. Other decoders stand there too and are skipped.
PIPELINE_KEYS = {
    "structure_flow": "sparse_structure_flow_model",
    "structure_decoder": "sparse_structure_decoder",
    "slat_flow": "slat_flow_model",
    "gaussian_decoder": "slat_decoder_gs",
}
_SIGNS = {  # tensors that tell the parts apart, whatever is put before their names
    "slat_flow": ("t_embedder.mlp.0.weight", "input_blocks.0.conv1.conv.weight"),
    "structure_flow": ("t_embedder.mlp.0.weight", "blocks.0.cross_attn.to_kv.weight"),
    "structure_decoder": ("middle_block.0.conv1.weight", "out_layer.2.weight"),
    "gaussian_decoder": ("offset_perturbation", "blocks.0.attn.to_qkv.weight"),
}
EXTENSIONS = (".safetensors", ".pt", ".pth", ".ckpt")
_FEW_STEP_NAMES = ("mdt", "distill", "few_step", "fewstep")
_MOST_FILES = 64  # looked into in a folder
ADVICE = (
    "give the folder of TRELLIS-image-large (pipeline.json and ckpts), or put the files of its flows and decoders into "
    "one folder"
)


@dataclasses.dataclass(frozen=True)
class PartFile:
    """Where a network's tensors are.

    Attributes:
        weights: the open file.
        prefix: before every name.
        args: what the .json beside the file says; None where there is none.
        few_steps: whether the file is of a flow made for few steps.
    """

    weights: WeightFile
    prefix: str = ""
    args: dict | None = None
    few_steps: bool = False


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model's files, nothing of them loaded.

    Attributes:
        folder: where the image encoder is looked for.
        parts: by name.
        config: sizes and defaults.
        license: in one line.
        compute_dtype: as in `checkpoints.manifest.Manifest`.
    """

    folder: Path
    parts: dict[str, PartFile]
    config: TrellisConfig
    license: str
    compute_dtype: str | None = None


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Find a model's files.

    Raises:
        FlashWorldError: a part that is missing or damaged, or a config that fits no model.
    """
    path = Path(path).expanduser()
    if path.is_file() and path.name in ("config.json", PIPELINE_FILE):
        path = path.parent
    folder = path if path.is_dir() else path.parent
    own = path / "model.safetensors" if path.is_dir() else path
    if own.is_file() and own.suffix == ".safetensors":
        weights = open_weights(own)
        manifest = _manifest(folder if path.is_dir() else None, weights)
        if manifest is not None:
            return _ours(folder, weights, manifest)
    given = None if path.is_dir() else path
    root = folder.parent if folder.name == "ckpts" and (folder.parent / PIPELINE_FILE).is_file() else folder
    pipeline = _pipeline(root / PIPELINE_FILE)
    parts = _parts(root, pipeline, given)
    missing = [TITLES[part] for part in CONFIGS if part not in parts]
    if missing:
        raise FlashWorldError(f"{path} lacks TRELLIS's {' and '.join(missing)}; {ADVICE}.")
    few_steps = any(parts[flow].few_steps for flow in FLOWS)
    config = _with_pipeline(_config(parts, few_steps), pipeline, few_steps)
    return Checkpoint(root, parts, config, DISTILLED_LICENSE if few_steps else OFFICIAL_LICENSE, "float16")


def part_of(weights: WeightFile) -> tuple[str, str] | None:
    """Which part a file holds and what stands before its tensors' names; None: none of a generation.

    Training files may hold a network twice: the averaged weights (EMA) are taken.
    """
    for part, (first, second) in _SIGNS.items():
        prefixes = [name.removesuffix(first) for name in weights.entries if name.endswith(first)]
        prefixes = [p for p in prefixes if f"{p}{second}" in weights.entries and (not p or p.endswith("."))]
        if part == "structure_decoder":  # the encoder of the same names ends in two numbers for each latent channel
            prefixes = [p for p in prefixes if weights.entries[f"{p}{second}"].shape[0] == 1]
        if prefixes:
            return part, min(prefixes, key=lambda p: ("ema" not in p.lower(), len(p), p))
    return None


def _ours(folder: Path, weights: WeightFile, manifest: Manifest) -> Checkpoint:
    if manifest.generator != NAME:
        raise FlashWorldError(f"The manifest is of a {manifest.generator!r} model, not of {NAME!r}.")
    parts = {part: PartFile(weights, f"{part}.") for part in (*CONFIGS, IMAGE_ENCODER)}
    held = {name.partition(".")[0] for name in weights.entries}
    parts = {name: part for name, part in parts.items() if name in held}
    if missing := [TITLES[part] for part in CONFIGS if part not in parts]:
        raise FlashWorldError(f"{weights.path} lacks the {' and '.join(missing)}; download it again.")
    config = TrellisConfig.from_dict(manifest.config)
    return Checkpoint(folder, parts, config, manifest.license, manifest.compute_dtype)


def _manifest(folder: Path | None, weights: WeightFile) -> Manifest | None:
    file = None if folder is None else folder / "config.json"
    if file is not None and file.is_file():
        text = file.read_text(encoding="utf-8", errors="replace")
        if Manifest.recognizes(text):
            return Manifest.from_json(text, str(file))
    inside = weights.metadata.get(METADATA_KEY)
    return None if inside is None else Manifest.from_json(inside, f"the metadata of {weights.path}")


def _pipeline(file: Path) -> dict:
    """The ``args`` of a pipeline.json; empty where there is none."""
    if not file.is_file():
        return {}
    content = parse_json(file.read_bytes(), str(file))
    args = content.get("args") if isinstance(content, dict) else None
    if not isinstance(args, dict):
        raise FlashWorldError(f'{file} has no "args"; it is not of a TRELLIS pipeline.')
    return args


def _parts(root: Path, pipeline: dict, given: Path | None) -> dict[str, PartFile]:
    """Parts by name: those the pipeline names, else those found in the folder; the given file before all."""
    parts: dict[str, PartFile] = {}
    models = pipeline.get("models")
    for part, key in PIPELINE_KEYS.items():
        place = models.get(key) if isinstance(models, dict) else None
        if isinstance(place, str) and (file := _named_file(root, place)) is not None:
            parts[part] = _opened(file, part)
    if given is None and len(parts) == len(CONFIGS):
        return parts
    found = [item for file in _candidates(root, given) if (item := _part_in(file)) is not None]
    known = {part: file.args for part, file in (*found, *parts.items()) if file.args is not None}
    if given is not None:
        item = _part_in(given)
        if item is None:
            raise FlashWorldError(
                f"{given} looks like {identify(open_weights(given)).description}, not a part of TRELLIS that "
                f"generates; {ADVICE}."
            )
        chosen, file = item
        parts[chosen] = file
        for part, other in found:  # flows of a kind belong together
            if part in FLOWS and part != chosen and chosen in FLOWS and other.few_steps == file.few_steps:
                parts[part] = other
                break
    for part, file in sorted(found, key=lambda item: item[1].few_steps):
        if part not in parts:
            parts[part] = file
        elif parts[part].weights.path != file.weights.path:
            logger.info("%s is another %s and is not used.", file.weights.path, TITLES[part])
    # A distilled flow is as large as the flow of the same folder: its own file says nothing.
    return {
        part: dataclasses.replace(file, args=known.get(part)) if file.args is None else file
        for part, file in parts.items()
    }


def _named_file(root: Path, place: str) -> Path | None:
    """The weights a pipeline.json names, inside its folder; their JSON lies beside them."""
    base = (root / place).resolve()
    if not base.is_relative_to(root.resolve()):
        raise FlashWorldError(f"{root / PIPELINE_FILE} names {place[:100]!r}, which is not in its folder.")
    return next((file for e in EXTENSIONS if (file := base.with_name(base.name + e)).is_file()), None)


def _candidates(root: Path, given: Path | None) -> Iterable[Path]:
    folders = dict.fromkeys([*([given.parent] if given else []), root, root / "ckpts"])
    files = [f for folder in folders if folder.is_dir() for f in sorted(folder.iterdir()) if f.suffix in EXTENSIONS]
    if len(files) > _MOST_FILES:
        logger.warning("%s holds %d weight files; the first %d are looked at.", root, len(files), _MOST_FILES)
    return files[:_MOST_FILES]


def _part_in(file: Path) -> tuple[str, PartFile] | None:
    try:
        weights = open_weights(file)
    except FlashWorldError as error:
        logger.warning("%s is skipped: %s", file, error)
        return None
    found = part_of(weights)
    return None if found is None else (found[0], _part_file(file, weights, found[1], found[0]))


def _opened(file: Path, part: str) -> PartFile:
    weights = open_weights(file)
    found = part_of(weights)
    if found is None or found[0] != part:
        raise FlashWorldError(f"{file} is not the {TITLES[part]} that {PIPELINE_FILE} promises; download it again.")
    return _part_file(file, weights, found[1], part)


def _part_file(file: Path, weights: WeightFile, prefix: str, part: str) -> PartFile:
    few = part in FLOWS and (
        weights.kind == "torch" or any(word in file.name.lower() for word in _FEW_STEP_NAMES)
    )  # fmt: skip
    args = None
    beside = file.with_suffix(".json")
    if beside.is_file():
        content = parse_json(beside.read_bytes(), str(beside))
        args = content.get("args") if isinstance(content, dict) else None
        if not isinstance(args, dict):
            raise FlashWorldError(f'{beside} has no "args" for the network beside it.')
    return PartFile(weights, prefix, args, few)


def _config(parts: dict[str, PartFile], few_steps: bool) -> TrellisConfig:
    """Sizes as the files' .json say; what says nothing is taken for the published size."""
    known = official_config(few_steps)
    sizes = {
        part: getattr(known, part) if parts[part].args is None else config_from_args(part, parts[part].args)
        for part in CONFIGS
    }
    channels = sizes["slat_flow"].in_channels
    scales = {} if channels == len(known.slat_mean) else {
        "slat_mean": (0.0,) * channels, "slat_std": (1.0,) * channels
    }  # fmt: skip
    encoder = dataclasses.replace(known.image_encoder, hidden_size=sizes["structure_flow"].cond_channels)
    return dataclasses.replace(known, **sizes, **scales, image_encoder=encoder)


def _with_pipeline(config: TrellisConfig, pipeline: dict, few_steps: bool) -> TrellisConfig:
    """The sampler's defaults and the latents' scales of a pipeline.json; few-step flows keep their own steps."""
    values: dict[str, Any] = {}
    try:
        if isinstance(scales := pipeline.get("slat_normalization"), dict):
            values |= {"slat_mean": tuple(map(float, scales["mean"])), "slat_std": tuple(map(float, scales["std"]))}
        params = [(pipeline.get(f"{name}_sampler") or {}).get("params") for name in ("sparse_structure", "slat")]
        if all(isinstance(p, dict) for p in params):
            steps = (DISTILLED_STEPS,) * 2 if few_steps else tuple(int(p.get("steps", 25)) for p in params)
            values |= {
                "steps": steps,
                "guidance": tuple(float(p.get("cfg_strength", 0)) for p in params),
                "guidance_interval": tuple(map(float, params[0].get("cfg_interval", (0.0, 1.0)))),
                "shift": float(params[0].get("rescale_t", 1.0)),
            }
    except (KeyError, TypeError, ValueError) as error:
        raise FlashWorldError(f"The sampler's values in {PIPELINE_FILE} cannot be read: {error!r}.") from None
    return dataclasses.replace(config, **values)


def recognizes_folder(folder: Path) -> bool:
    """Whether a folder's pipeline.json is of TRELLIS."""
    try:
        content = json.loads((folder / PIPELINE_FILE).read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "trellis" in str(content.get("name", "")).lower()
