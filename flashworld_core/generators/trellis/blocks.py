"""What both flows and the Gaussian decoder of TRELLIS are built from: positions, time embedding, transformer blocks.

Tokens are dense [B, N, C], or those of sparse voxels [n, C] with their `SparseLayout`. Norms run in float32 whatever
the precision of the rest.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models.sparse import Groups, SparseLayout, cross_attention, grouped_attention

BLOCK_EPS = 1e-6  # of the norms inside transformer blocks and sparse residual blocks
OUTER_EPS = 1e-5  # of the last norms, and of all norms of the structure VAE
TIME_FREQUENCIES = 128
_LONGEST_PERIOD = 10_000.0
# Dotted name parts of what stays in float32 in half precision, as in the published files.
KEEP_FLOAT32 = (
    "pos_emb", "t_embedder", "input_layer", "out_layer", "norm1", "norm2", "norm3", "q_rms_norm", "k_rms_norm",
    "offset_perturbation",
)  # fmt: skip


def position_embedding(coords: Tensor, channels: int) -> Tensor:
    """Sines, then cosines of each axis at channels // 6 frequencies, padded with zeros to ``channels``.

    Args:
        coords: [n, 3] voxel coordinates.

    Returns:
        [n, channels] float32.
    """
    count = channels // 6
    frequencies = _LONGEST_PERIOD ** (-torch.arange(count, dtype=torch.float32, device=coords.device) / count)
    angles = coords.float()[..., None] * frequencies  # [n, 3, count]
    waves = torch.cat([angles.sin(), angles.cos()], -1).flatten(1)
    return F.pad(waves, (0, channels - waves.shape[1]))


class TimestepEmbedder(nn.Module):
    """Times (0..1000) to vectors: cosines, then sines at 128 frequencies, through a small network."""

    def __init__(self, channels: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * TIME_FREQUENCIES, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, t: Tensor) -> Tensor:
        """[B] to [B, channels]."""
        exponents = torch.arange(TIME_FREQUENCIES, dtype=torch.float32, device=t.device) / TIME_FREQUENCIES
        angles = t.float()[:, None] * torch.exp(-math.log(_LONGEST_PERIOD) * exponents)
        return self.mlp(torch.cat([angles.cos(), angles.sin()], -1))


class LayerNorm32(nn.LayerNorm):
    """Layer norm computed in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class _HeadNorm(nn.Module):
    """Each head's vector to unit length, times sqrt(d) and a learned factor."""

    def __init__(self, heads: int, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(heads, width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., heads, width]."""
        return (F.normalize(x.float(), dim=-1) * self.gamma * x.shape[-1] ** 0.5).to(x.dtype)


class SelfAttention(nn.Module):
    def __init__(self, channels: int, heads: int, normalized: bool):
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.q_rms_norm = _HeadNorm(heads, channels // heads) if normalized else nn.Identity()
        self.k_rms_norm = _HeadNorm(heads, channels // heads) if normalized else nn.Identity()
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, groups: list[Groups] | None = None) -> Tensor:
        """[B, N, C], or [n, C] with the groups of voxels that see each other."""
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        q, k = self.q_rms_norm(q), self.k_rms_norm(k)
        if groups is not None:
            return self.to_out(grouped_attention(q, k, v, groups).flatten(1))
        seen = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.to_out(seen.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    def __init__(self, channels: int, condition_channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels)
        self.to_kv = nn.Linear(condition_channels, 2 * channels)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, condition: Tensor, layout: SparseLayout | None = None) -> Tensor:
        """``x`` as in `SelfAttention`; condition [B, M, condition channels]."""
        q = self.to_q(x).unflatten(-1, (self.heads, -1))
        k, v = self.to_kv(condition).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        if layout is not None:
            return self.to_out(cross_attention(q, k, v, layout).flatten(1))
        seen = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.to_out(seen.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, channels: int, ratio: float):
        super().__init__()
        inner = int(channels * ratio)
        self.mlp = nn.Sequential(nn.Linear(channels, inner), nn.GELU("tanh"), nn.Linear(inner, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class ModulatedBlock(nn.Module):
    """Self attention and feed-forward modulated and gated by the time, unmodulated cross attention between them."""

    def __init__(self, channels: int, condition_channels: int, heads: int, ratio: float, normalized: bool):
        super().__init__()
        self.norm1 = LayerNorm32(channels, BLOCK_EPS, elementwise_affine=False)
        self.norm2 = LayerNorm32(channels, BLOCK_EPS)
        self.norm3 = LayerNorm32(channels, BLOCK_EPS, elementwise_affine=False)
        self.self_attn = SelfAttention(channels, heads, normalized)
        self.cross_attn = CrossAttention(channels, condition_channels, heads)
        self.mlp = FeedForward(channels, ratio)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(channels, 6 * channels))

    def forward(self, x: Tensor, time: Tensor, condition: Tensor, layout: SparseLayout | None = None) -> Tensor:
        """Tokens [B, N, C], or [n, C] with their layout; time [B, C]; condition [B, M, condition channels]."""
        parts = _per_token(self.adaLN_modulation(time), layout).chunk(6, -1)
        groups = None if layout is None else layout.whole()
        x = x + parts[2] * self.self_attn(_modulated(self.norm1(x), parts[0], parts[1]), groups)
        x = x + self.cross_attn(self.norm2(x), condition, layout)
        return x + parts[5] * self.mlp(_modulated(self.norm3(x), parts[3], parts[4]))


class WindowBlock(nn.Module):
    """Self attention inside windows and feed-forward, without modulation."""

    def __init__(self, channels: int, heads: int, ratio: float):
        super().__init__()
        self.norm1 = LayerNorm32(channels, BLOCK_EPS, elementwise_affine=False)
        self.norm2 = LayerNorm32(channels, BLOCK_EPS, elementwise_affine=False)
        self.attn = SelfAttention(channels, heads, normalized=False)
        self.mlp = FeedForward(channels, ratio)

    def forward(self, x: Tensor, groups: list[Groups]) -> Tensor:
        x = x + self.attn(self.norm1(x), groups)
        return x + self.mlp(self.norm2(x))


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def _per_token(values: Tensor, layout: SparseLayout | None) -> Tensor:
    """Values of samples [B, C] in a shape that meets their tokens."""
    if layout is None:
        return values[:, None]
    return values if len(values) == 1 else values[layout.batch_index]


def body_dtype(blocks: nn.ModuleList) -> torch.dtype:
    """The precision transformer blocks compute in: that of their largest weights."""
    return blocks[0].mlp.mlp[0].weight.dtype


def start_quiet(network: nn.Module) -> None:
    """Draw the initial weights: matrices by Xavier's rule, and what modulates or ends the network 0.

    The embedder of the time starts smaller, as in DiT.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
            if "t_embedder" in name:
                nn.init.normal_(module.weight, std=0.02)
            if "adaLN_modulation" in name or name == "out_layer":
                nn.init.zeros_(module.weight)
