"""A vision transformer in the layout and key names of DINOv2 as Hugging Face stores it (no registers).

What it gives are the tokens after the last norm, class token first. Optionally each block is modulated by a vector per
image (a camera, say), which leaves the network as it is until that part is trained.
"""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class VitConfig:
    """Sizes of a vision transformer; the defaults are DINOv2-base's.

    Attributes:
        width, layers, heads: of the blocks.
        mlp_ratio: width of the MLP over that of the tokens.
        patch: pixels along a side of a patch.
        pretrain_size: pixels along a side of the images the position table was made for.
        eps: of the layer norms.
        modulation: length of the vector that modulates the blocks; 0: none does.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_ratio: int = 4
    patch: int = 14
    pretrain_size: int = 518
    eps: float = 1e-6
    modulation: int = 0


class VisionTransformer(nn.Module):
    """Tokens of images.

    Args:
        config: sizes.
    """

    def __init__(self, config: VitConfig):
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.layernorm = nn.LayerNorm(config.width, eps=config.eps)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Encode images.

        Args:
            images: [B, 3, H, W], normalized as the weights want them; rows and columns that fill no patch are left out.
            condition: [B, ``modulation``] where the config has one.

        Returns:
            [B, 1 + h w, C] after the last norm: the class token, then the patches row by row.
        """
        tokens = self.embeddings(images)
        for block in self.encoder.layer:
            tokens = block(tokens, condition)
        return self.layernorm(tokens)


class _Embeddings(nn.Module):
    def __init__(self, config: VitConfig):
        super().__init__()
        self.patch = config.patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.mask_token = nn.Parameter(torch.zeros(1, config.width))  # of the pre-training; stored, not used
        positions = 1 + (config.pretrain_size // config.patch) ** 2
        self.position_embeddings = nn.Parameter(torch.zeros(1, positions, config.width))
        self.patch_embeddings = nn.Module()
        self.patch_embeddings.projection = nn.Conv2d(3, config.width, config.patch, config.patch)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embeddings.projection(images)
        rows, columns = patches.shape[-2:]
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        return tokens + self.positions(rows, columns).to(tokens.dtype)

    def positions(self, rows: int, columns: int) -> Tensor:
        """[1, 1 + rows columns, C]: the position table resized bicubically.

        The scale is (n + 0.1) / side, as the library did it that the weights were made with; resizing to n x n exactly
        gives other tokens.
        """
        side = math.isqrt(self.position_embeddings.shape[1] - 1)
        if rows == columns == side:
            return self.position_embeddings
        first, table = self.position_embeddings[:, :1], self.position_embeddings[:, 1:]
        table = table.unflatten(1, (side, side)).permute(0, 3, 1, 2).float()
        scale = ((rows + 0.1) / side, (columns + 0.1) / side)
        table = F.interpolate(table, scale_factor=scale, mode="bicubic", align_corners=False)
        return torch.cat([first, table.flatten(2).transpose(1, 2).to(first.dtype)], dim=1)


class _Block(nn.Module):
    def __init__(self, config: VitConfig):
        super().__init__()
        width, inner = config.width, config.width * config.mlp_ratio
        self.norm1 = nn.LayerNorm(width, eps=config.eps)
        self.attention = _Attention(width, config.heads)
        self.layer_scale1 = _LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=config.eps)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.layer_scale2 = _LayerScale(width)
        self.modulation = None
        if config.modulation:
            self.modulation = nn.Linear(config.modulation, 4 * width)
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def forward(self, tokens: Tensor, condition: Tensor | None) -> Tensor:
        first, second = self.norm1, self.norm2
        if self.modulation is not None:
            shift1, scale1, shift2, scale2 = self.modulation(F.silu(condition))[:, None].chunk(4, dim=-1)
            tokens = tokens + self.layer_scale1(self.attention(first(tokens) * (1 + scale1) + shift1))
            return tokens + self.layer_scale2(self._mlp(second(tokens) * (1 + scale2) + shift2))
        tokens = tokens + self.layer_scale1(self.attention(first(tokens)))
        return tokens + self.layer_scale2(self._mlp(second(tokens)))

    def _mlp(self, tokens: Tensor) -> Tensor:
        return self.mlp.fc2(F.gelu(self.mlp.fc1(tokens)))


class _LayerScale(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.lambda1 = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.lambda1


class _Attention(nn.Module):
    """Self attention under the names attention.query, .key, .value and output.dense."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attention = nn.Module()
        for name in ("query", "key", "value"):
            setattr(self.attention, name, nn.Linear(width, width))
        self.output = nn.Module()
        self.output.dense = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        layers = (self.attention.query, self.attention.key, self.attention.value)
        query, key, value = (layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in layers)
        return self.output.dense(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
