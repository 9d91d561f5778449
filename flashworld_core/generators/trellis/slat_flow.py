"""The second flow: noise to latents on the occupied voxels of an object (structured latents, SLAT)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models.sparse import SparseLayout, SubmanifoldConv, downsample, upsample
from .blocks import (
    BLOCK_EPS,
    KEEP_FLOAT32,
    OUTER_EPS,
    LayerNorm32,
    ModulatedBlock,
    TimestepEmbedder,
    body_dtype,
    position_embedding,
    start_quiet,
)  # fmt: skip
from .config import SlatFlowConfig


class SparseResBlock(nn.Module):
    """Two convolutions on voxels, the second after a norm modulated by the time; resampling comes first.

    Args:
        resample: "down" halves the resolution, "up" doubles it, "" keeps it.
    """

    def __init__(self, channels: int, time_channels: int, out_channels: int, resample: str = ""):
        super().__init__()
        self.resample = resample
        self.norm1 = LayerNorm32(channels, BLOCK_EPS)
        self.norm2 = LayerNorm32(out_channels, BLOCK_EPS, elementwise_affine=False)
        self.conv1 = SubmanifoldConv(channels, out_channels)
        self.conv2 = SubmanifoldConv(out_channels, out_channels)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_channels, 2 * out_channels))
        self.skip_connection = nn.Linear(channels, out_channels) if channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, time: Tensor, layout: SparseLayout, fine: SparseLayout | None = None):
        """Features [n, channels] of ``layout`` to features and their layout; ``fine`` is where "up" leads."""
        if self.resample == "down":
            x, layout = downsample(x, layout)
        elif self.resample == "up":
            x, layout = upsample(x, fine), fine
        scale, shift = self.emb_layers(time).chunk(2, -1)
        if len(time) > 1:
            scale, shift = scale[layout.batch_index], shift[layout.batch_index]
        h = self.conv1(F.silu(self.norm1(x)), layout)
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift), layout)
        return h + self.skip_connection(x), layout


class SlatFlow(nn.Module):
    """Velocity of the voxels' latents.

    Residual blocks halve the resolution once for each of ``io_block_channels``, the transformer works on the coarse
    voxels, and as many blocks lead back, each given what the block of the same place on the way down made.
    """

    _keep_in_fp32_modules = KEEP_FLOAT32

    def __init__(self, config: SlatFlowConfig):
        super().__init__()
        self.config = config
        width, levels, count = config.model_channels, config.io_block_channels, config.num_io_res_blocks
        self.t_embedder = TimestepEmbedder(width)
        self.input_layer = nn.Linear(config.in_channels, levels[0])
        self.input_blocks, self.out_blocks = nn.ModuleList(), nn.ModuleList()
        for channels, below in zip(levels, (*levels[1:], width), strict=True):
            self.input_blocks.extend(SparseResBlock(channels, width, channels) for _ in range(count - 1))
            self.input_blocks.append(SparseResBlock(channels, width, below, "down"))
        self.blocks = nn.ModuleList(
            ModulatedBlock(width, config.cond_channels, config.num_heads, config.mlp_ratio, config.qk_rms_norm)
            for _ in range(config.num_blocks)
        )
        for channels, below in zip(reversed(levels), (width, *reversed(levels[1:])), strict=True):
            self.out_blocks.append(SparseResBlock(2 * below, width, channels, "up"))
            self.out_blocks.extend(SparseResBlock(2 * channels, width, channels) for _ in range(count - 1))
        self.out_layer = nn.Linear(levels[0], config.out_channels)
        if not self.out_layer.weight.is_meta:
            start_quiet(self)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor, layout: SparseLayout) -> Tensor:
        """Predict the velocity.

        Args:
            x: [n, in_channels] at the voxels of ``layout``.
            t: [samples] time in 0..1000.
            condition: [samples, M, cond_channels].

        Returns:
            [n, out_channels] in the dtype of ``x``.
        """
        dtype = body_dtype(self.blocks)
        time, condition = self.t_embedder(t).to(dtype), condition.to(dtype)
        h = self.input_layer(x).to(dtype)
        layouts, stored = [layout], []
        for block in self.input_blocks:
            h, layout = block(h, time, layout)
            stored.append(h)
            if block.resample:
                layouts.append(layout)
        h = h + position_embedding(layout.coords[:, 1:], h.shape[1]).to(dtype)
        for block in self.blocks:
            h = block(h, time, condition, layout)
        layouts.pop()
        for block in self.out_blocks:
            fine = layouts.pop() if block.resample else None
            h, layout = block(torch.cat([h, stored.pop()], 1), time, layout, fine)
        return self.out_layer(F.layer_norm(h.to(x.dtype), h.shape[-1:], eps=OUTER_EPS))
