"""FlashWorld's layers and attention as the host's: weights it may leave in main memory, attention the user chose.

8-bit layers are cast, streamed and evicted by the host like its own, but multiplied by ours. The host's own quantized
layers are not used: their fp8 layout knows one scale a tensor where these weights have one a channel, and scales no
activation unless a file brings its scale.
"""

from __future__ import annotations

import comfy.ops
from torch import Tensor, nn

from ...flashworld_core.models.quantized_linear import QuantizedLinear, scaled_linear

# Layers the host can keep in main memory and stream to the device while the network runs. The few others (norms,
# modulation tables) are small and always brought whole.
_STREAMED = {nn.Linear: "Linear", nn.Conv3d: "Conv3d", nn.Embedding: "Embedding"}
_ON_CPU = "cpu"
# Hosts that stream in the background want to hear when a weight has been used.
_FOLLOWS_USE = hasattr(comfy.ops, "uncast_bias_weight")


class HostQuantizedLinear(QuantizedLinear, comfy.ops.CastWeightBiasOp):
    """A quantized layer whose weight the host brings in 8 bits when it is used."""

    comfy_cast_weights = True

    def forward(self, x: Tensor) -> Tensor:
        options = {"offloadable": True} if _FOLLOWS_USE else {}
        # Asked for in its own type, or the host would convert it without its scales.
        weight, bias, *stream = comfy.ops.cast_bias_weight(
            self, dtype=self.weight.dtype, device=x.device, bias_dtype=x.dtype, **options
        )
        out = scaled_linear(x, weight, self.weight_scale.to(x.device), bias)
        if _FOLLOWS_USE:
            comfy.ops.uncast_bias_weight(self, weight, bias, *stream)
        return out


def use_host_layers(network: nn.Module) -> None:
    """Turn a network's plain layers into the host's, in place: the same parameters and the same results, but the host
    may leave the weights in main memory and cast them layer by layer."""
    for module in network.modules():
        if type(module) is QuantizedLinear:
            module.__class__ = HostQuantizedLinear
            continue
        name = _STREAMED.get(type(module))
        if name is not None:
            module.__class__ = getattr(comfy.ops.manual_cast, name)
            if not hasattr(module, "bias"):  # the host's layers all have one
                module.bias = None


def use_host_attention(network: nn.Module) -> None:
    """Have a network that lets others choose its attention (``attention``) take the host's."""
    if hasattr(type(network), "attention"):
        network.attention = host_attention


def host_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention by what the host was told to use (--use-sage-attention and the like).

    On the CPU it is torch's own: the host's choice there takes longer, and scenes are to be the same for every option.

    Args:
        query, key, value: [B, tokens, heads, d].
    """
    if query.device.type == _ON_CPU:
        out = nn.functional.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (query, key, value)))
        return out.transpose(1, 2)
    from comfy.ldm.modules import attention  # looked up at use: the host and other packs may change it

    heads = query.shape[2]
    flat = (t.flatten(2) for t in (query, key, value))
    return attention.optimized_attention(*flat, heads).unflatten(2, (heads, -1))
