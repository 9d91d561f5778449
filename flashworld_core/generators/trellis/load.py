"""From a model's files to networks: every name and shape is checked before a tensor is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ...checkpoints.assign import assign, check_names_and_shapes, expected_shapes, single_precision_names
from ...errors import FlashWorldError, check_stop
from ...models.dinov2 import ADVICE, ImageTokens, find_image_encoder, load_image_encoder
from ...text import get_logger
from .blocks import position_embedding
from .checkpoint import Checkpoint, PartFile
from .config import CONFIGS
from .networks import CLASSES, IMAGE_ENCODER, TITLES, build
from .presets import TrellisConfig

logger = get_logger(__name__)
_MADE_HERE = ("pos_emb",)  # buffers that follow from the sizes; a trainer's file may lack them


def load_networks(
    found: Checkpoint,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    image_encoder: str | Path | ImageTokens | None = None,
    progress: Callable[..., None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, nn.Module]:
    """Load every network of a model.

    Args:
        found: its files.
        dtype: of the networks' bodies; None: float32 on the CPU, elsewhere as the files want.
        device: where they go.
        image_encoder: a file or folder of DINOv2, or a loaded one; None: the model's own or the one beside it.
        progress: ``progress(tensors read, tensors)``.
        should_stop: asked before every tensor.

    Raises:
        FlashWorldError: tensors that do not fit, or no image encoder.
        Cancelled: ``should_stop`` answered True.
    """
    dtype = chosen_dtype(found, dtype, device)
    with torch.device("meta"):
        modules = {part: build(part, found.config) for part in CONFIGS}
    for part, module in modules.items():
        check_part(part, module, found.parts[part])
    encoder = _image_encoder(found, image_encoder, dtype, device)
    total, done = sum(len(expected_shapes(module)) for module in modules.values()), 0

    def read(part: PartFile, name: str, config: TrellisConfig) -> Tensor:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)
        key = part.prefix + name
        return part.weights.read(key) if key in part.weights.entries else _made(name, config)

    for part, module in modules.items():
        check_stop(should_stop)
        file = found.parts[part]
        assign(
            module, lambda name, file=file: read(file, name, found.config), dtype=dtype, device=device,
            keep_float32=single_precision_names(module), should_stop=should_stop,
        )  # fmt: skip
    return {**modules, IMAGE_ENCODER: encoder}


def chosen_dtype(found: Checkpoint, dtype: torch.dtype | None, device: str | torch.device) -> torch.dtype | None:
    """The precision to load in: float16 is for graphics cards only, where it is the published files' own."""
    on_cpu = torch.device(device).type == "cpu"
    if dtype is None:
        return torch.float32 if on_cpu else getattr(torch, found.compute_dtype or "float16")
    return dtype


def check_part(part: str, module: nn.Module, file: PartFile) -> None:
    """Check the names and shapes of a part against its file."""
    shapes = {
        n.removeprefix(file.prefix): e.shape for n, e in file.weights.entries.items() if n.startswith(file.prefix)
    }
    expected = expected_shapes(module)
    for name in _MADE_HERE:
        if name in expected and name not in shapes:
            shapes[name] = expected[name]
    if file.prefix == "":  # a bare file holds one network; names of nothing in it are a trainer's own
        roots = {name.partition(".")[0] for name in expected}
        shapes = {name: shape for name, shape in shapes.items() if name.partition(".")[0] in roots}
    check_names_and_shapes(expected, shapes, f"{TITLES[part]} of TRELLIS", file.weights.path)


def _made(name: str, config: TrellisConfig) -> Tensor:
    flow = config.structure_flow
    axes = torch.arange(flow.resolution // flow.patch_size)
    coords = torch.stack(torch.meshgrid(axes, axes, axes, indexing="ij"), -1).reshape(-1, 3)
    return position_embedding(coords, flow.model_channels)


def _image_encoder(found: Checkpoint, given, dtype, device) -> ImageTokens:
    if isinstance(given, nn.Module):
        return given.to(device)
    if given is None and IMAGE_ENCODER in found.parts:
        file = found.parts[IMAGE_ENCODER]
        return load_image_encoder(
            file.weights, found.config.image_encoder, dtype=dtype, device=device, prefix=file.prefix
        )
    source = given or find_image_encoder(found.folder)
    if source is None:
        raise missing_image_encoder(found.folder)
    return load_image_encoder(source, found.config.image_encoder, dtype=dtype, device=device)


def missing_image_encoder(folder: Path) -> FlashWorldError:
    return FlashWorldError(f"TRELLIS needs its image encoder, which is not in {folder}: {ADVICE}.")


__all__ = ["CLASSES", "check_part", "chosen_dtype", "load_networks", "missing_image_encoder"]
