"""A FlashWorld model from its files.

Three forms are read. The published ``model.ckpt`` (or ``.safetensors`` converted from it) holds the transformer and
the 3DGS decoder; VAE and text encoder are given beside it. A model folder of ours holds everything::

    config.json             what the model is (`manifest.Manifest`)
    model.safetensors       transformer.*, recon_decoder.*
    vae.safetensors         encoder.*, quant_conv.*
    text_encoder/           config.json, model.safetensors, tokenizer.json

Nothing is allocated before every name and shape is known to fit, and each tensor goes from the mapped file straight to
its dtype and device.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ...checkpoints.assign import (
    assign,
    check_floating_point,
    check_names_and_shapes,
    expected_shapes,
    single_precision_names,
)
from ...checkpoints.identify import FileKind, identify, open_model_weights, wrong_file
from ...checkpoints.manifest import METADATA_KEY, TEXT_FILES, TEXT_FOLDERS, Manifest
from ...checkpoints.open import WeightFile
from ...checkpoints.quantized import resolved, scaled_weights
from ...errors import FlashWorldError, check_stop
from ...models.wan_vae import find_vae, load_frame_encoder, missing_vae
from ...text import get_logger
from .checkpoint_names import PARTS
from .config import FlashWorldConfig
from .pipeline import NAME, FlashWorldModel
from .presets import OFFICIAL_LICENSE, official_config

if TYPE_CHECKING:
    from ...models.umt5 import TextEncoder
    from ...models.wan_vae import FrameEncoder

logger = get_logger(__name__)

MAX_POSITIONS = 65536  # rotary positions per axis; their tables are the one thing built before a file is read


def load(
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    vae: str | Path | FrameEncoder | None = None,
    text_encoder: str | Path | TextEncoder | None = None,
    config: FlashWorldConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> FlashWorldModel:
    """Load a FlashWorld model.

    Args:
        path: ``model.ckpt``, a ``.safetensors`` converted from it, or a model folder.
        dtype: floating-point type of the networks. Half precision leaves in float32 what the transformer computes in
            float32 (time embedding, modulation); linear layers stored in 8 bits with scales stay so. None takes the
            manifest's ``compute_dtype``, else the stored types.
        device: where the networks go.
        vae: the Wan 2.2 VAE as a file or folder (see `encoder_file.load_frame_encoder`), or a loaded encoder; default:
            beside the model.
        text_encoder: the UMT5 encoder as a file or folder (see `text_file.open_text_encoder`), or an opened one;
            default: beside the model, if it is there. Its weights are read when the first prompt is encoded, in their
            own stored precision unless the manifest says otherwise.
        config: sizes of a checkpoint that does not carry them; default: the published model's.
        progress: called as ``progress(tensors read, tensors)`` for transformer and decoder.
        should_stop: asked before every tensor.

    Raises:
        FlashWorldError: not a FlashWorld model (one sentence says what it looks like and what to load), files that do
            not belong together, are cut short or damaged, no VAE.
        Cancelled: ``should_stop`` answered True.
    """

    folder, weights, manifest = open_checkpoint(path, config)
    config = config_of(manifest)
    if dtype is None and manifest.compute_dtype is not None:
        dtype = getattr(torch, manifest.compute_dtype)
    modules = build_parts(config)
    weights = keep_quantized(weights, modules)
    check_parts(weights, modules)

    vae = vae or find_vae(folder)
    if vae is None:
        raise missing_vae(weights.path)
    encoder = vae
    if not isinstance(vae, nn.Module):
        encoder = load_frame_encoder(vae, config.vae, dtype=dtype, device=device)
    text = _open_text(text_encoder or find_text_encoder(folder), manifest, device)

    done, total = 0, sum(len(expected_shapes(module)) for module in modules.values())

    def read(name: str) -> torch.Tensor:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)
        return weights.read(name)

    for part, module in modules.items():
        check_stop(should_stop)
        assign(
            module,
            lambda name, part=part: read(f"{part}.{name}"),
            dtype=dtype,
            device=device,
            keep_float32=single_precision_names(module),
            should_stop=should_stop,
        )
        module.to(device)  # the rotary tables, which no file holds
    return FlashWorldModel(
        config=config,
        transformer=modules["transformer"],
        decoder=modules["recon_decoder"],
        encoder=encoder,
        text=text,
        license=manifest.license,
    )


def open_checkpoint(path: str | Path, config: FlashWorldConfig | None = None) -> tuple[Path, WeightFile, Manifest]:
    """Find a model's weights and manifest without loading anything.

    Args:
        path: as in `load`.
        config: as in `load`.

    Returns:
        The folder in which its other parts are looked for, the weights, and the manifest.

    Raises:
        FlashWorldError: as `load`, for what can be told from names and shapes.
    """
    path = Path(path).expanduser()
    if path.is_file() and path.name == "config.json":
        path = path.parent
    folder = path if path.is_dir() else path.parent
    weights = open_model_weights(path)
    kind = identify(weights)
    scaled_weights(weights)  # what it could not read, it refuses
    if kind.name == "flashworld pre-trained" and config is not None:
        kind = FileKind("flashworld", "", "")  # the sizes given decide, in `check_parts`
    if kind.name != "flashworld":
        raise wrong_file(weights, kind)
    if "pretrain" in str(weights.path).lower():
        logger.warning("%s looks like the pre-trained model, which is not made for few steps.", weights.path)
    manifest = _manifest(path, weights)
    if config is not None:
        manifest = Manifest(NAME, config.to_dict(), "" if manifest is None else manifest.license)
    elif manifest is None:
        manifest = Manifest(NAME, official_config().to_dict(), OFFICIAL_LICENSE)
        _require_official(weights, official_config())
    _check_plausible(weights, config_of(manifest))
    return folder, weights, manifest


def config_of(manifest: Manifest) -> FlashWorldConfig:
    """Parse the config a manifest carries.

    Raises:
        FlashWorldError: a manifest of another generator, or a config that no model can have.
    """
    if manifest.generator != NAME:
        raise FlashWorldError(f"The manifest is of a {manifest.generator!r} model, not of {NAME!r}.")
    return FlashWorldConfig.from_dict(manifest.config)


def _manifest(path: Path, weights: WeightFile) -> Manifest | None:
    """The manifest of a folder's config.json, else of the file's metadata."""
    inside = weights.metadata.get(METADATA_KEY)
    embedded = None if inside is None else Manifest.from_json(inside, f"the metadata of {weights.path}")
    file = path / "config.json"
    if not path.is_dir() or not file.is_file():
        return embedded
    text = file.read_text(encoding="utf-8", errors="replace")
    if not Manifest.recognizes(text):  # model hubs put files of that name beside anything
        logger.info("%s is not FlashWorld's and is not used.", file)
        return embedded
    manifest = Manifest.from_json(text, str(file))
    if embedded is not None and config_of(embedded) != config_of(manifest):
        logger.warning("%s and the metadata of %s differ; the former is used.", file, weights.path)
    return manifest


def _require_official(weights: WeightFile, official: FlashWorldConfig) -> None:
    """A checkpoint that says nothing about its sizes must be the published one."""
    width = official.transformer.width
    expected = (width, official.input_channels, *official.patch_size)
    found = weights.shapes["transformer.patch_embedding.weight"]
    if found != expected:
        raise FlashWorldError(
            f"{weights.path} is a FlashWorld checkpoint of another size than the published one (patch embedding "
            f"{list(found)}, not {list(expected)}) and carries no config; give config=, or its whole folder."
        )


def _check_plausible(weights: WeightFile, config: FlashWorldConfig) -> None:
    """Refuse a config whose networks could not be in the file, before building them takes time and memory.

    On the meta device only the rotary tables and the head's factors take memory; their sizes are compared here.
    """
    blocks = config.transformer.num_layers + config.vae.num_res_blocks * len(config.vae.dim_mult)
    width = config.transformer.width
    sizes = (
        ("width", width, "transformer.patch_embedding.weight"),
        ("Gaussian channels", config.gaussian_channels, "recon_decoder.gs_head.gs_proj.bias"),
    )
    for what, stated, name in sizes:
        stored = (*weights.shapes.get(name, ()), 0)[0]
        if stated != stored:
            raise FlashWorldError(
                f"The tensors of {weights.path} do not fit the FlashWorld model: "
                f"{what} {stored} ({name}) instead of {stated}."
            )
    if blocks > len(weights.entries) or config.max_positions > MAX_POSITIONS:
        raise FlashWorldError(
            f"The config of {weights.path} is not its own: {blocks} blocks and {config.max_positions} positions "
            f"for a file of {len(weights.entries)} tensors."
        )


def build_parts(config: FlashWorldConfig) -> dict[str, nn.Module]:
    """Transformer and 3DGS decoder on the meta device, by their names in the checkpoint.

    Raises:
        FlashWorldError: values no network can be built from.
    """
    from .gaussian_decoder import GaussianDecoder
    from .transformer import FlashWorldTransformer

    try:
        with torch.device("meta"):
            return {"transformer": FlashWorldTransformer(config), "recon_decoder": GaussianDecoder(config)}
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        if isinstance(error, FlashWorldError):
            raise
        raise FlashWorldError(f"No network can be built from the config: {error}") from error


def keep_quantized(weights: WeightFile, modules: dict[str, nn.Module]) -> WeightFile:
    """Have linear layers keep the 8-bit weights a file has for them; the file as these networks read it.

    8-bit weights of other layers are multiplied out when they are read.
    """
    scaled = scaled_weights(weights)
    if not scaled:
        return resolved(weights, scaled)
    from ...models.quantized_linear import use_quantized_linears

    kept = []
    for part, module in modules.items():
        prefix = f"{part}."
        stored = {n.removeprefix(prefix): weights.entries[n].dtype for n in scaled if n.startswith(prefix)}
        kept += [prefix + name for name in use_quantized_linears(module, stored)]
    return resolved(weights, scaled, kept)


def check_parts(weights: WeightFile, modules: dict[str, nn.Module]) -> None:
    """Check the names, shapes and number formats of both parts against the file's.

    What else a training checkpoint carries (optimizers, averages) is left alone.
    """
    expected = {f"{part}.{name}": s for part, module in modules.items() for name, s in expected_shapes(module).items()}
    found = {name: shape for name, shape in weights.shapes.items() if name.startswith(tuple(f"{p}." for p in PARTS))}
    if others := sorted({name.split(".", 1)[0] for name in weights.entries if name not in found}):
        logger.info("%s also holds %s, which is not used.", weights.path, ", ".join(others))
    check_names_and_shapes(expected, found, "FlashWorld model", weights.path)
    scaled = scaled_weights(weights)  # 8-bit numbers with their scales, which are read
    check_floating_point(weights, [name for name in expected if name not in scaled])


def find_text_encoder(folder: Path) -> Path | None:
    """The text encoder beside a model, a folder or a file of ComfyUI's naming."""
    for name in TEXT_FOLDERS:
        if (folder / name).is_dir():
            return folder / name
    files = sorted(folder.glob(TEXT_FILES))
    return files[0] if files else None


def _open_text(source: str | Path | TextEncoder | None, manifest: Manifest, device) -> TextEncoder | None:
    if source is None:
        logger.info("No text encoder beside the model: prompts need text_encoder= or ready embeddings.")
        return None
    if not isinstance(source, (str, Path)):
        return source
    from ...models.umt5 import open_text_encoder

    source = Path(source).expanduser()
    if (source / "text_encoder").is_dir():
        source = source / "text_encoder"
    config = config_of(manifest)
    return open_text_encoder(
        source,
        text_length=config.text_length,
        prompt_prefix=config.prompt_prefix,
        text_dim=config.transformer.text_dim,
        dtype=None if manifest.compute_dtype is None else getattr(torch, manifest.compute_dtype),
        device=device,
    )
