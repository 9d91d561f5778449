"""Networks of triplane reconstruction: tokens of an image to three planes, and planes to density and color.

The layout and the key names are those of the LRM family (OpenLRM, VFusion3D).
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class TriplaneConfig:
    """Sizes of a triplane transformer and its decoder; the defaults are VFusion3D's.

    Attributes:
        width, layers, heads: of the transformer.
        image_width: channels of the image tokens it reads.
        condition: length of the vector that modulates its norms.
        low_res: tokens along a side of a plane; the planes have twice as many samples.
        channels: of the planes.
        hidden, hidden_layers: of the decoder's MLP, output layer included.
        eps: of the layer norms.
    """

    width: int = 1024
    layers: int = 16
    heads: int = 16
    image_width: int = 768
    condition: int = 1024
    low_res: int = 32
    channels: int = 80
    hidden: int = 64
    hidden_layers: int = 4
    eps: float = 1e-6


class TriplaneTransformer(nn.Module):
    """Learned plane tokens that read image tokens.

    Args:
        config: sizes.
    """

    def __init__(self, config: TriplaneConfig):
        super().__init__()
        self.config = config
        self.pos_embed = nn.Parameter(
            torch.empty(1, 3 * config.low_res**2, config.width).normal_(std=config.width**-0.5)
        )
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self.deconv = nn.ConvTranspose2d(config.width, config.channels, 2, 2)

    def forward(self, image_tokens: Tensor, condition: Tensor) -> Tensor:
        """Make planes.

        Args:
            image_tokens: [B, N, image_width], in any order.
            condition: [B, condition].

        Returns:
            [B, 3, channels, 2 low_res, 2 low_res]: plane, channel, row, column.
        """
        side = self.config.low_res
        tokens = self.pos_embed.expand(len(image_tokens), -1, -1)
        for layer in self.layers:
            tokens = layer(tokens, image_tokens, condition)
        grid = self.norm(tokens).reshape(-1, side, side, self.config.width).permute(0, 3, 1, 2)
        return self.deconv(grid.contiguous()).unflatten(0, (-1, 3))


class _Layer(nn.Module):
    """Cross attention to the image, self attention, MLP; each after a norm that the condition modulates."""

    def __init__(self, config: TriplaneConfig):
        super().__init__()
        width = config.width
        self.norm1, self.norm2, self.norm3 = (ModulatedNorm(width, config.condition, config.eps) for _ in range(3))
        self.cross_attn = Attention(width, config.heads, config.image_width)
        self.self_attn = Attention(width, config.heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Identity(), nn.Linear(4 * width, width)
        )  # the third is a dropout in training code: keys count it

    def forward(self, tokens: Tensor, image_tokens: Tensor, condition: Tensor) -> Tensor:
        tokens = tokens + self.cross_attn(self.norm1(tokens, condition), image_tokens)
        queries = self.norm2(tokens, condition)
        tokens = tokens + self.self_attn(queries, queries)
        return tokens + self.mlp(self.norm3(tokens, condition))


class ModulatedNorm(nn.Module):
    """Layer norm with shift and scale from a condition: norm(x) * (1 + scale) + shift."""

    def __init__(self, width: int, condition: int, eps: float):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=eps)
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(condition, 2 * width))

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """Normalize tokens [B, N, C] under a condition [B, D]."""
        shift, scale = self.mlp(condition)[:, None].chunk(2, dim=-1)
        return self.norm(tokens) * (1 + scale) + shift


class Attention(nn.Module):
    """Attention without biases, under the key names of torch's ``MultiheadAttention``.

    Args:
        width, heads: of queries and output.
        source: width of keys and values; None: self attention, whose three matrices are one.
    """

    def __init__(self, width: int, heads: int, source: int | None = None):
        super().__init__()
        self.heads, self.cross = heads, source is not None

        def matrix(rows: int, columns: int) -> nn.Parameter:
            return nn.Parameter(nn.init.xavier_uniform_(torch.empty(rows, columns)))

        if self.cross:
            self.q_proj_weight = matrix(width, width)
            self.k_proj_weight, self.v_proj_weight = matrix(width, source), matrix(width, source)
        else:
            self.in_proj_weight = matrix(3 * width, width)
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(self, queries: Tensor, source: Tensor) -> Tensor:
        """Attend from [B, N, C] to [B, M, source]."""
        if self.cross:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            parts = [F.linear(x, w) for x, w in zip((queries, source, source), weights, strict=True)]
        else:
            parts = F.linear(queries, self.in_proj_weight).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        return self.out_proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class FieldDecoder(nn.Module):
    """MLP from what the three planes hold at a point to raw density and color.

    Args:
        config: sizes.
    """

    def __init__(self, config: TriplaneConfig):
        super().__init__()
        widths = [3 * config.channels, *[config.hidden] * (config.hidden_layers - 1), 4]
        layers: list[nn.Module] = []
        for a, b in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Decode the concatenated features [N, 3 channels] to raw density [N] and rgb [N, 3]."""
        return split_output(self.net(features))


_COLOR_MARGIN = 1e-3  # colors reach a little beyond 0..1, so that the ends are not at infinity


def split_output(out: Tensor) -> tuple[Tensor, Tensor]:
    """Split a decoder's four outputs [N, 4] into raw density [N] and rgb [N, 3]."""
    return out[:, 0], torch.sigmoid(out[:, 1:]) * (1 + 2 * _COLOR_MARGIN) - _COLOR_MARGIN
