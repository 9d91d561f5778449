"""The transformer's blocks without gradients: diffusers' arithmetic with fewer passes over memory.

diffusers' block is written for training: it converts every activation to single precision and back around its norms,
multiplies, adds and converts in passes of their own, and projects the text anew at every step. Here

- modulation is the norm's own gain and bias: one read and one write instead of six of each;
- gated residuals, rotary embedding and GELU write where their input stands;
- keys and values of the text, which no step changes, are computed once (`text_keys`).

What is rounded where differs in half precision only: gain and bias in the network's type, sums inside kernels in
single precision. `transformer.FlashWorldTransformer` takes this way for one sample without gradients and autocast; the
other, diffusers' own, is the slow twin it is tested against.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor, nn

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]  # query, key, value [B, tokens, heads, d] -> the query's shape
TextKeys = list[tuple[Tensor, Tensor]]  # key and value [B, L, heads, d] of the text, for each block


def text_keys(blocks: nn.ModuleList, text: Tensor) -> TextKeys:
    """Keys and values of the text for every block.

    Args:
        text: [B, L, width], embedded as the blocks take it.
    """
    found = []
    for block in blocks:
        attention = block.attn2
        key, value = attention.norm_k(attention.to_k(text)), attention.to_v(text)
        found.append((_heads(attention, key), _heads(attention, value)))
    return found


class FlashWorldBlock(WanTransformerBlock):
    """diffusers' block, with this module's way for a text that comes as keys and values."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | tuple[Tensor, Tensor],
        temb: Tensor,
        rotary_emb: tuple[Tensor, Tensor],
        attend: Attention | None = None,
    ) -> Tensor:
        """One block.

        Args:
            hidden_states: [1, tokens, width]; changed in place and returned.
            encoder_hidden_states: the block's entry of `text_keys`; a tensor is left to diffusers, with all the rest.
            temb: [1, 6, width] of the time embedding.
            rotary_emb: cosines and sines [1, tokens, 1, d], each number twice.
            attend: in the place of what diffusers dispatches to.
        """
        if isinstance(encoder_hidden_states, Tensor):
            return super().forward(hidden_states, encoder_hidden_states, temb, rotary_emb)
        x, attention = hidden_states, self.attn1
        shift, scale, gate, ff_shift, ff_scale, ff_gate = (self.scale_shift_table + temb.float())[0]

        y = modulated_norm(self.norm1, x, scale, shift)
        query = rotate(_heads(attention, attention.norm_q(attention.to_q(y))), *rotary_emb)
        key = rotate(_heads(attention, attention.norm_k(attention.to_k(y))), *rotary_emb)
        value = _heads(attention, attention.to_v(y))
        del y
        y = _attend(attention, attend, query, key, value)
        del query, key, value
        x = x.addcmul_(_project(attention, y), gate.to(x.dtype))
        del y

        attention = self.attn2
        query = _heads(attention, attention.norm_q(attention.to_q(_plain_norm(self.norm2, x))))
        y = _attend(attention, attend, query, *encoder_hidden_states)
        del query
        x = x.add_(_project(attention, y))
        del y

        y = self.ffn.net[0].proj(modulated_norm(self.norm3, x, ff_scale, ff_shift))
        y = torch.ops.aten.gelu_(y, approximate="tanh")
        return x.addcmul_(self.ffn.net[2](y), ff_gate.to(x.dtype))


def modulated_norm(norm: nn.LayerNorm, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``norm(x) * (1 + scale) + shift`` in one kernel; ``scale`` and ``shift`` are [width]."""
    return F.layer_norm(x, norm.normalized_shape, (1 + scale).to(x.dtype), shift.to(x.dtype), norm.eps)


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn each pair of neighboring numbers of [1, tokens, heads, d] by its angle."""
    turned = torch.mul(x, cosines, out=torch.empty_like(x))
    turned[..., 0::2].addcmul_(x[..., 1::2], sines[..., 0::2], value=-1)
    turned[..., 1::2].addcmul_(x[..., 0::2], sines[..., 1::2])
    return turned


def _plain_norm(norm: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(norm, nn.LayerNorm):  # the config may leave it out
        return norm(x)
    weight, bias = (None if t is None else t.to(device=x.device, dtype=x.dtype) for t in (norm.weight, norm.bias))
    return F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)


def _heads(attention: nn.Module, x: Tensor) -> Tensor:
    return x.unflatten(2, (attention.heads, -1))


def _attend(attention: nn.Module, attend: Attention | None, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    if attend is not None:
        return attend(query, key, value)
    return dispatch_attention_fn(query, key, value, backend=attention.processor._attention_backend)


def _project(attention: nn.Module, x: Tensor) -> Tensor:
    return attention.to_out[0](x.flatten(2, 3))
