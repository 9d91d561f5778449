"""A linear layer whose weight stays in 8 bits: multiplied in fp8 where the card can, else dequantized at use."""

from __future__ import annotations

import functools
from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints.quantized import dequantize, quantize
from ..text import get_logger

logger = get_logger(__name__)
_NATIVE = torch.float8_e4m3fn
_MULTIPLE = 16  # rows and columns of a weight that the cards' fp8 products take


class QuantizedLinear(nn.Module):
    """``torch.nn.Linear`` with an 8-bit weight and one scale for each output channel.

    Attributes:
        weight: [out, in] in an 8-bit type.
        weight_scale: [out, 1] float32.
        bias: [out], or None.
        fixed_dtypes: names that casting a network leaves in their type.
    """

    fixed_dtypes = ("weight", "weight_scale")

    def __init__(
        self, in_features: int, out_features: int, bias: bool, dtype: torch.dtype, device: str | torch.device = "meta"
    ):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        empty = functools.partial(torch.empty, device=device)
        self.weight = nn.Parameter(empty(out_features, in_features, dtype=dtype), requires_grad=False)
        self.weight_scale = nn.Parameter(empty(out_features, 1), requires_grad=False)
        self.bias = nn.Parameter(empty(out_features), requires_grad=False) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., out] of [..., in], in the type of ``x``."""
        return scaled_linear(x, self.weight, self.weight_scale, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, dtype={self.weight.dtype}"


def scaled_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ (weight * scale)^T + bias``.

    Args:
        x: [..., in] floating point.
        weight: [out, in] in 8 bits.
        scale: [out, 1] float32.
        bias: [out] or None.
    """
    if weight.dtype == _NATIVE and not any(size % _MULTIPLE for size in weight.shape) and multiplies_fp8(x.device):
        return fp8_linear(x, weight, scale, bias)
    return F.linear(x, dequantize(weight, scale, x.dtype), None if bias is None else bias.to(x.dtype))


def fp8_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """`scaled_linear` with both factors in fp8: every row of ``x`` is scaled by its own largest number."""
    rows = x.reshape(-1, x.shape[-1])
    largest = torch.finfo(_NATIVE).max
    row_scale = rows.abs().amax(1, keepdim=True).float().clamp_min_(1e-12).div_(largest)
    stored = (rows / row_scale).clamp_(-largest, largest).to(_NATIVE)
    # Scales a row exist for results in bfloat16 only.
    out = torch._scaled_mm(stored, weight.t(), scale_a=row_scale, scale_b=scale.t(), out_dtype=torch.bfloat16)
    out = out.to(x.dtype)
    if bias is not None:
        out = out.add_(bias)
    return out.reshape(*x.shape[:-1], -1)


@functools.lru_cache(maxsize=16)
def multiplies_fp8(device: torch.device) -> bool:
    """Whether ``device`` multiplies fp8 matrices with a scale for every row; tried once, the answer is logged."""
    if device.type != "cuda":
        return False
    try:
        x = torch.randn(_MULTIPLE, 2 * _MULTIPLE, device=device, dtype=torch.bfloat16)
        weight, scale = quantize(torch.randn(_MULTIPLE, 2 * _MULTIPLE, device=device), _NATIVE)
        expected = F.linear(x.float(), dequantize(weight, scale))
        error = (fp8_linear(x, weight, scale, None) - expected).norm() / expected.norm()
        if float(error) < 0.1:
            logger.info("%s multiplies fp8 matrices.", device)
            return True
        reason = f"its fp8 products are {float(error):.0%} off"
    except Exception as error:  # any: cards and versions of torch refuse in different ways
        reason = str(error).partition("\n")[0][:200]
    logger.info("fp8 weights are multiplied as bfloat16 on %s: %s.", device, reason)
    return False


def use_quantized_linears(module: nn.Module, stored: dict[str, torch.dtype]) -> Collection[str]:
    """Replace linear layers by ones that keep their weight in 8 bits.

    Args:
        module: on the meta device.
        stored: the 8-bit type by name of the weight; names that are no linear layer's are passed over.

    Returns:
        The names of the weights that are now kept in 8 bits.
    """
    kept = []
    for name, dtype in stored.items():
        path, _, leaf = name.rpartition(".")
        if leaf != "weight":
            continue
        try:
            layer = module.get_submodule(path)
        except AttributeError:
            continue
        if type(layer) is nn.Linear:
            owner, _, attribute = path.rpartition(".")
            replacement = QuantizedLinear(layer.in_features, layer.out_features, layer.bias is not None, dtype)
            setattr(module.get_submodule(owner), attribute, replacement)
            kept.append(name)
    return kept


def quantized_dtype(module: nn.Module) -> torch.dtype | None:
    """The 8-bit type of a network's quantized layers; None where it has none."""
    return next((m.weight.dtype for m in module.modules() if isinstance(m, QuantizedLinear)), None)
