"""A VFusion3D model from its files: the published safetensors or torch file, or a folder of ours with config.json."""

from __future__ import annotations

from pathlib import Path

import torch

from ...checkpoints.assign import assign, check_names_and_shapes, expected_shapes
from ...checkpoints.identify import identify, open_model_weights, wrong_file
from ...checkpoints.manifest import METADATA_KEY, Manifest
from ...checkpoints.open import WeightFile
from ...errors import FlashWorldError
from ...progress import Progress
from ...text import get_logger
from .config import LICENSE, VFusion3DConfig
from .network import VFusion3DNetwork

logger = get_logger(__name__)
NAME = "vfusion3d"  # in manifests and in the table of generators
WHAT = "VFusion3D model"
_MARK = "transformer.pos_embed"
_PARTS = ("encoder.", "camera_embedder.", "transformer.", "synthesizer.")


def open_checkpoint(path: Path) -> tuple[WeightFile, str, Manifest]:
    """Find weights and manifest; only headers are read.

    Returns:
        The weights, what their names begin with (the published torch file has ``model_state_dict.``), the manifest.

    Raises:
        FlashWorldError: another kind of file, or a config that no model can have.
    """
    path = Path(path).expanduser()
    if path.is_file() and path.name == "config.json":
        path = path.parent
    weights = open_model_weights(path)
    kind = identify(weights)
    if kind.name != NAME:
        raise wrong_file(weights, kind, "a VFusion3D model")
    prefix = next(name.removesuffix(_MARK) for name in weights.entries if name.endswith(_MARK))
    return weights, prefix, _manifest(path, weights)


def _manifest(path: Path, weights: WeightFile) -> Manifest:
    file = path / "config.json"
    if path.is_dir() and file.is_file():
        text = file.read_text(encoding="utf-8", errors="replace")
        if f'"{NAME}"' in text and '"generator"' in text:  # model hubs put files of that name beside anything
            return Manifest.from_json(text, str(file))
    if (inside := weights.metadata.get(METADATA_KEY)) is not None:
        return Manifest.from_json(inside, f"the metadata of {weights.path}")
    return Manifest(NAME, {}, LICENSE)


def config_of(manifest: Manifest) -> VFusion3DConfig:
    """Parse the config a manifest carries; an empty one is the published model's.

    Raises:
        FlashWorldError: a manifest of another generator, or a config that no model can have.
    """
    if manifest.generator != NAME:
        raise FlashWorldError(f"The manifest is of a {manifest.generator!r} model, not of {NAME!r}.")
    return VFusion3DConfig.from_dict(manifest.config)


def load_network(
    weights: WeightFile,
    prefix: str,
    config: VFusion3DConfig,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> VFusion3DNetwork:
    """Build the network and fill it.

    Args:
        weights, prefix: from `open_checkpoint`.
        config: sizes.
        dtype: floating-point type; None keeps the file's.
        device: where it goes.
        progress: counts tensors.

    Raises:
        FlashWorldError: names the first tensors that are missing, unexpected or of another shape.
        Cancelled: ``progress`` wants to stop.
    """
    expected = _expected(config, len(weights.entries), weights.path)
    found = {name.removeprefix(prefix): shape for name, shape in weights.shapes.items() if name.startswith(prefix)}
    found = {name: shape for name, shape in found.items() if name.startswith(_PARTS)}
    if unused := len(weights.entries) - len(found):
        logger.info("%s also holds %d other tensors, which are not used.", weights.path, unused)
    check_names_and_shapes(expected, found, WHAT, weights.path)
    with torch.device("meta"):
        network = VFusion3DNetwork(config)
    progress = (progress or Progress()).start(len(expected))

    def read(name: str) -> torch.Tensor:
        progress.advance()
        return weights.read(prefix + name)

    assign(network, read, dtype=dtype, device=device, should_stop=progress.should_stop)
    return network.eval().requires_grad_(False)


def _expected(config: VFusion3DConfig, tensors: int, path: Path) -> dict[str, tuple[int, ...]]:
    if config.encoder.layers + config.triplane.layers > tensors:
        raise FlashWorldError(f"The config of {path} is not its own: it has more layers than the file has tensors.")
    with torch.device("meta"):
        return expected_shapes(VFusion3DNetwork(config))
