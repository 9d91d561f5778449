"""The first flow: noise to the latent of an object's structure, a dense cube."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import FlashWorldError
from .blocks import (
    KEEP_FLOAT32,
    OUTER_EPS,
    ModulatedBlock,
    TimestepEmbedder,
    body_dtype,
    position_embedding,
    start_quiet,
)  # fmt: skip
from .config import StructureFlowConfig


class StructureFlow(nn.Module):
    """Velocity of the structure latent.

    The names of parameters are those of the published checkpoints.
    """

    _keep_in_fp32_modules = KEEP_FLOAT32

    def __init__(self, config: StructureFlowConfig):
        super().__init__()
        self.config = config
        width, patch = config.model_channels, config.patch_size
        side = config.resolution // patch
        axes = torch.arange(side)
        coords = torch.stack(torch.meshgrid(axes, axes, axes, indexing="ij"), -1).reshape(-1, 3)
        self.register_buffer("pos_emb", position_embedding(coords, width))
        self.t_embedder = TimestepEmbedder(width)
        self.input_layer = nn.Linear(config.in_channels * patch**3, width)
        self.blocks = nn.ModuleList(
            ModulatedBlock(width, config.cond_channels, config.num_heads, config.mlp_ratio, config.qk_rms_norm)
            for _ in range(config.num_blocks)
        )
        self.out_layer = nn.Linear(width, config.out_channels * patch**3)
        if not self.out_layer.weight.is_meta:
            start_quiet(self)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Predict the velocity.

        Args:
            x: [B, in_channels, R, R, R].
            t: [B] time in 0..1000.
            condition: [B, M, cond_channels].

        Returns:
            [B, out_channels, R, R, R] in the dtype of ``x``.
        """
        config, dtype = self.config, body_dtype(self.blocks)
        if tuple(x.shape[1:]) != (config.in_channels, *[config.resolution] * 3):
            raise FlashWorldError(
                f"The structure flow takes [B, {config.in_channels}, {', '.join([str(config.resolution)] * 3)}], "
                f"got {list(x.shape)}."
            )
        h = self.input_layer(to_patches(x, config.patch_size)) + self.pos_emb
        h, time, condition = h.to(dtype), self.t_embedder(t).to(dtype), condition.to(dtype)
        for block in self.blocks:
            h = block(h, time, condition)
        h = self.out_layer(F.layer_norm(h.to(x.dtype), h.shape[-1:], eps=OUTER_EPS))
        return from_patches(h, config.patch_size, config.resolution)


def to_patches(x: Tensor, patch: int) -> Tensor:
    """[B, C, R, R, R] to [B, (R / p)^3, C p^3]: channels first, then the places in a patch."""
    b, c, r = x.shape[:3]
    side = r // patch
    x = x.reshape(b, c, side, patch, side, patch, side, patch).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return x.reshape(b, side**3, c * patch**3)


def from_patches(tokens: Tensor, patch: int, resolution: int) -> Tensor:
    """The inverse of `to_patches`."""
    side = resolution // patch
    x = tokens.reshape(len(tokens), side, side, side, -1, patch, patch, patch).permute(0, 4, 1, 5, 2, 6, 3, 7)
    return x.reshape(len(tokens), -1, resolution, resolution, resolution)
