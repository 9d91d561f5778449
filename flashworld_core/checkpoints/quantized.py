"""Weights stored in 8 bits with scales: which tensors of a file they are, what they stand for, how they are made.

A weight is ``stored * scale``, with one scale for the tensor or one for each row of it (output channel). Files say so
in three ways, all read here: a JSON text ``X.comfy_quant`` beside ``X.weight`` and ``X.weight_scale`` (ComfyUI's
current form, and the one we write), the header's ``_quantization_metadata``, and ``scaled_fp8`` with ``X.scale_weight``
(ComfyUI's older form). Scales of activations (``X.input_scale``, ``X.scale_input``) are not needed: ours are taken from
the activations themselves. Every other form is refused by its name before anything is made.

Why not torchao: its tensor subclasses want their own files and a torch of the same age, are not read by ComfyUI, and
its dynamic fp8 linear is the same ``torch._scaled_mm`` that `models.quantized_linear` calls. Why not comfy-kitchen: its
fp8 layout knows one scale a tensor, and it is installed with ComfyUI only.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from ..errors import FlashWorldError
from ..formats.files import parse_json
from ..text import get_logger
from .open import FP8, Entry, WeightFile

logger = get_logger(__name__)

# What ComfyUI calls a weight stored in these types, and the other way round.
_STORED = {"float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2, "int8_tensorwise": torch.int8}
_MARKER_FORMATS = {dtype: name for name, dtype in _STORED.items()}

WEIGHT, SCALE, MARKER = ".weight", ".weight_scale", ".comfy_quant"
_SCALES = (SCALE, ".scale_weight")
_INPUT_SCALES = (".input_scale", ".scale_input")
_WHOLE_FILE = "scaled_fp8"
_HEADER = "_quantization_metadata"
# Signs of quantizations that are not read here: block scales, zero points, double scales.
_FOREIGN = (
    ".weight_scale_2", ".weight_scale_inv", ".pre_quant_scale", ".zero_point", ".weight_zero_point", ".scales",
    ".qweight", ".qzeros", ".g_idx", ".absmax", ".quant_map", ".nested_absmax",
)  # fmt: skip
_MAX_MARKER_BYTES = 10_000
_ADVICE = "use the bf16, fp16, fp8 or int8 file of this model"


def is_marker(name: str) -> bool:
    """Whether a tensor speaks of the quantization of others and is no weight itself."""
    return name.endswith((*_SCALES, *_INPUT_SCALES, MARKER)) or name.rpartition(".")[2] == _WHOLE_FILE


def scaled_weights(weights: WeightFile) -> dict[str, str]:
    """Find the weights stored with scales. Only markers are read, no scale and no weight.

    Returns:
        The name of the scale by the name of the weight. 8-bit floats without a scale are numbers like any other and are
        not among them.

    Raises:
        FlashWorldError: names a quantization that is not known, a scale that fits no weight, or whole numbers without a
            scale.
    """
    entries = weights.entries
    if foreign := next((name for name in entries if name.endswith(_FOREIGN)), None):
        raise FlashWorldError(f"{weights.path} is quantized in a way that is not supported ({foreign}); {_ADVICE}.")
    markers, scaled = _markers(weights), {}
    for name, entry in entries.items():
        if name.endswith(_SCALES):
            weight = name.rpartition(".")[0] + WEIGHT
            _check_scale(weights, name, entry, weight)
            if weight in scaled:
                raise FlashWorldError(f"{weights.path}: {weight} has two scales; {_ADVICE}.")
            scaled[weight] = name
    for layer, kind in markers.items():
        weight = layer + WEIGHT
        if weight not in scaled:
            if kind.startswith("float8") and weight in entries:  # a scale of one may be left out
                continue
            raise FlashWorldError(f"{weights.path}: {layer} is marked as {kind}, but has no scale; {_ADVICE}.")
        if entries[weight].dtype != _STORED[kind]:
            raise FlashWorldError(
                f"{weights.path}: {layer} is marked as {kind}, but stored as {entries[weight].dtype}; {_ADVICE}."
            )
    whole = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)
    for name, entry in entries.items():
        if name.endswith(WEIGHT) and entry.dtype in whole and name not in scaled:
            raise FlashWorldError(f"{weights.path}: {name} is stored as {entry.dtype} without a scale; {_ADVICE}.")
    return scaled


def _check_scale(weights: WeightFile, name: str, scale: Entry, weight: str) -> None:
    stored = weights.entries.get(weight)
    if stored is None or stored.dtype not in _MARKER_FORMATS:
        kind = "missing" if stored is None else f"stored as {stored.dtype}"
        raise FlashWorldError(f"{weights.path}: {name} scales {weight}, which is {kind}; {_ADVICE}.")
    rows, count = (*stored.shape, 1)[0], math.prod(scale.shape)
    per_row = count == rows and scale.shape[:1] == (rows,)
    if scale.dtype is None or not scale.dtype.is_floating_point or (count != 1 and not per_row):
        raise FlashWorldError(
            f"{weights.path}: {name} is {list(scale.shape)} {scale.dtype} for a weight of {list(stored.shape)}, "
            f"neither one scale nor one a row; {_ADVICE}."
        )


def _markers(weights: WeightFile) -> dict[str, str]:
    """ComfyUI's name of the format by layer.

    Raises:
        FlashWorldError: a format that is not read here, or a marker that is none.
    """
    texts = {}
    for name, entry in weights.entries.items():
        if name.endswith(MARKER):
            if math.prod(entry.shape) > _MAX_MARKER_BYTES or entry.dtype != torch.uint8:
                raise FlashWorldError(f"{weights.path}: {name} is no description of a quantization; {_ADVICE}.")
            texts[name.removesuffix(MARKER)] = parse_json(
                weights.read(name).numpy().tobytes(), f"{weights.path}: {name}"
            )
    if _HEADER in weights.metadata:
        header = parse_json(weights.metadata[_HEADER].encode(), f"{weights.path}: {_HEADER}")
        layers = header.get("layers") if isinstance(header, dict) else None
        if not isinstance(layers, dict):
            raise FlashWorldError(f"{weights.path}: {_HEADER} names no layers; {_ADVICE}.")
        texts |= layers
    for layer, text in texts.items():
        text = text if isinstance(text, dict) else {}
        more = text.get("params") if isinstance(text.get("params"), dict) else {}
        kind, turned = text.get("format"), text.get("convrot") or more.get("convrot")
        if kind not in _STORED or turned:
            kind = f"{str(kind)[:40]!r}{' with convrot' if turned else ''}"
            raise FlashWorldError(f"{weights.path}: {layer} is quantized as {kind}, which is not supported; {_ADVICE}.")
        texts[layer] = kind
    return texts


def resolved(weights: WeightFile, scaled: Mapping[str, str], keep: Collection[str] = ()) -> WeightFile:
    """The file as if nothing were quantized, but for some weights.

    Args:
        scaled: from `scaled_weights`.
        keep: names of weights that stay as they are stored; ``X.weight_scale`` [rows, 1] float32 then stands beside
            ``X.weight``, whatever the file calls it. The others are multiplied out when they are read, in float32.
    """
    entries = {name: entry for name, entry in weights.entries.items() if not is_marker(name)}
    for weight, scale in scaled.items():
        stored = weights.entries[weight]

        def read_scale(scale=scale, rows=stored.shape[0]) -> Tensor:
            value = weights.read(scale).float()
            if not bool(torch.isfinite(value).all()):
                raise FlashWorldError(f"{weights.path}: {scale} is not finite; {_ADVICE}.")
            return value.reshape(-1, 1).expand(rows, 1).contiguous()

        if weight in keep:
            entries[weight.removesuffix(WEIGHT) + SCALE] = Entry((stored.shape[0], 1), torch.float32, read_scale)
        else:
            entries[weight] = Entry(
                stored.shape,
                torch.float32,
                lambda weight=weight, read_scale=read_scale: dequantize(weights.read(weight), read_scale()),
            )
    return dataclasses.replace(weights, entries=entries)


def quantize(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Store a weight in 8 bits, each row scaled so that its largest number is the type's largest.

    Args:
        weight: [rows, ...], any floating-point type.
        dtype: ``torch.float8_e4m3fn`` or ``torch.int8``.

    Returns:
        The numbers [rows, ...] in ``dtype`` and the scales [rows, 1] float32.

    Raises:
        FlashWorldError: numbers that are not finite.
    """
    flat = weight.float().flatten(1)
    largest = torch.finfo(dtype).max if dtype in FP8 else torch.iinfo(dtype).max
    scale = flat.abs().amax(1, keepdim=True) / largest
    if not bool(torch.isfinite(scale).all()):
        raise FlashWorldError("a weight is not finite and cannot be quantized; use another file.")
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    numbers = (flat / scale).clamp_(-largest, largest)
    numbers = numbers.to(dtype) if dtype in FP8 else numbers.round_().to(dtype)
    return numbers.reshape(weight.shape), scale


def dequantize(stored: Tensor, scale: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """``stored * scale`` in ``dtype``; ``scale`` is [rows, 1] for ``stored`` [rows, ...]."""
    return stored.to(dtype).mul_(scale.reshape(-1, *(1,) * (stored.ndim - 1)))


def marker(dtype: torch.dtype) -> Tensor:
    """The text of ``X.comfy_quant`` for a weight stored in ``dtype``, as bytes."""
    return torch.tensor(list(json.dumps({"format": _MARKER_FORMATS[dtype]}).encode()), dtype=torch.uint8)
