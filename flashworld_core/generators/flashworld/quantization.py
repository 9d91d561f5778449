"""Which weights of a FlashWorld model are stored in 8 bits, and what a converted file holds."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...checkpoints import DTYPES, QUANTIZED
from ...checkpoints.assign import single_precision_names, target_dtype
from ...checkpoints.open import FP8, WeightFile
from ...checkpoints.quantized import MARKER, SCALE, WEIGHT, marker, quantize, scaled_weights
from ...errors import FlashWorldError
from .checkpoint_names import PARTS


def eight_bit_weights(module: nn.Module) -> list[str]:
    """The weights that "fp8" and "int8" store in 8 bits, by their names in the module.

    They are the linear layers of the transformer's blocks, 98 % of it, which stay in 8 bits when loaded, and the
    decoder's convolutions, which are multiplied out then. Embeddings, modulation and the two ends stay as they are.
    """
    kinds = {"blocks.": nn.Linear, "decoder.": (nn.Conv2d, nn.Conv3d)}
    return [
        name + WEIGHT
        for name, layer in module.named_modules()
        for prefix, kind in kinds.items()
        if name.startswith(prefix) and isinstance(layer, kind)
    ]


def stored_in_eight_bits(weights: WeightFile) -> torch.dtype | None:
    """The type of the transformer's layers that will stay in 8 bits when the file is loaded; None: none will."""
    scaled = (name for name in scaled_weights(weights) if name.startswith(f"{PARTS[0]}.blocks."))
    return next((weights.entries[name].dtype for name in scaled), None)


def stored_tensors(
    weights: WeightFile, modules: Mapping[str, nn.Module], dtype: str | None
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shapes and types, by name, of what `convert` writes.

    Raises:
        FlashWorldError: a source in 8 bits.
    """
    quantized = getattr(torch, QUANTIZED[dtype]) if dtype in QUANTIZED else None
    rest = "bf16" if dtype in QUANTIZED else dtype
    tensors = {}
    for part in PARTS:
        keep = single_precision_names(modules[part])
        in_eight_bits = set() if quantized is None else {f"{part}.{n}" for n in eight_bit_weights(modules[part])}
        for name, entry in weights.entries.items():
            if not name.startswith(f"{part}."):
                continue
            if entry.dtype is None or entry.dtype in (*FP8, torch.int8):
                raise FlashWorldError(f"{name} in {weights.path} is stored in 8 bits; use the original.")
            if name in in_eight_bits:
                layer = name.removesuffix(WEIGHT)
                # The decoder is small: its weights are stored in the more exact of the two types, for any choice.
                stored = quantized if part == PARTS[0] else torch.int8
                tensors[name] = (entry.shape, stored)
                tensors[layer + SCALE] = ((entry.shape[0], 1), torch.float32)
                tensors[layer + MARKER] = (tuple(marker(stored).shape), torch.uint8)
            elif rest is None:
                tensors[name] = (entry.shape, entry.dtype)
            else:
                tensors[name] = (entry.shape, target_dtype(name, entry.dtype, getattr(torch, DTYPES[rest]), keep))
    return tensors


def read_stored(weights: WeightFile, tensors: Mapping[str, tuple], name: str) -> Tensor:
    """The tensor `convert` stores under ``name``. A weight in 8 bits is read twice: for its scale, and for itself."""
    if name in weights.entries:
        tensor, dtype = weights.read(name), tensors[name][1]
        return quantize(tensor, dtype)[0] if dtype in (*FP8, torch.int8) else tensor
    if name.endswith(SCALE):
        weight = name.removesuffix(SCALE) + WEIGHT
        return quantize(weights.read(weight), tensors[weight][1])[1]
    return marker(tensors[name.removesuffix(MARKER) + WEIGHT][1])
