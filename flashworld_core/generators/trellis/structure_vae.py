"""Occupied voxels and their latent: the decoder that generation uses, and the encoder that training does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import KEEP_FLOAT32, OUTER_EPS
from .config import StructureVaeConfig


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of [B, C, X, Y, Z], in float32."""

    def __init__(self, channels: int):
        super().__init__(channels, OUTER_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1).float()).movedim(-1, 1).to(x.dtype).contiguous()


class _ResBlock(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.norm2 = _ChannelNorm(channels), _ChannelNorm(channels)
        self.conv1, self.conv2 = (nn.Conv3d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class _Up(nn.Module):
    """Convolution to 8 times the channels, which become places of twice the resolution."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv3d(in_channels, 8 * out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        b, c, *size = x.shape
        x = x.reshape(b, c // 8, 2, 2, 2, *size).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return x.reshape(b, c // 8, *(2 * s for s in size))


class _Down(nn.Module):
    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def _levels(config: StructureVaeConfig, resample: type[nn.Module]) -> nn.ModuleList:
    blocks: list[nn.Module] = []
    for i, channels in enumerate(config.channels):
        blocks += [_ResBlock(channels) for _ in range(config.num_res_blocks)]
        if i + 1 < len(config.channels):
            blocks.append(resample(channels, config.channels[i + 1]))
    return nn.ModuleList(blocks)


class StructureDecoder(nn.Module):
    """Latent cube to occupancy logits at 2^(levels - 1) times its resolution."""

    _keep_in_fp32_modules = KEEP_FLOAT32

    def __init__(self, config: StructureVaeConfig):
        super().__init__()
        self.config = config
        first, last = config.channels[0], config.channels[-1]
        self.input_layer = nn.Conv3d(config.latent_channels, first, 3, padding=1)
        self.middle_block = nn.Sequential(*(_ResBlock(first) for _ in range(config.num_res_blocks_middle)))
        self.blocks = _levels(config, _Up)
        self.out_layer = nn.Sequential(
            _ChannelNorm(last), nn.SiLU(), nn.Conv3d(last, config.out_channels, 3, padding=1)
        )

    def forward(self, latent: Tensor) -> Tensor:
        """[B, latent_channels, r, r, r] to logits [B, 1, R, R, R]; above 0 a voxel is occupied."""
        h = self.input_layer(latent)
        h = self.middle_block(h.to(_body_dtype(self)))
        for block in self.blocks:
            h = block(h)
        return self.out_layer(h.to(latent.dtype))


class StructureEncoder(nn.Module):
    """Occupancy to the mean and logarithm of the variance of its latent."""

    _keep_in_fp32_modules = KEEP_FLOAT32

    def __init__(self, config: StructureVaeConfig):
        super().__init__()
        self.config = config
        first, last = config.channels[0], config.channels[-1]
        self.input_layer = nn.Conv3d(config.out_channels, first, 3, padding=1)
        self.blocks = _levels(config, _Down)
        self.middle_block = nn.Sequential(*(_ResBlock(last) for _ in range(config.num_res_blocks_middle)))
        self.out_layer = nn.Sequential(
            _ChannelNorm(last), nn.SiLU(), nn.Conv3d(last, 2 * config.latent_channels, 3, padding=1)
        )

    def forward(self, occupancy: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 1, R, R, R] to two [B, latent_channels, r, r, r]."""
        h = self.input_layer(occupancy).to(_body_dtype(self))
        for block in self.blocks:
            h = block(h)
        return self.out_layer(self.middle_block(h).to(occupancy.dtype)).chunk(2, 1)


def _body_dtype(network: nn.Module) -> torch.dtype:
    """The precision of the layers between the first and the last, which stay in float32."""
    inner = (layer.weight.dtype for part in (network.middle_block, network.blocks) for layer in part.modules()
             if isinstance(layer, nn.Conv3d))  # fmt: skip
    return next(inner, torch.float32)


def occupied(logits: Tensor) -> Tensor:
    """Coordinates [n, 4] (batch entry, x, y, z) of the voxels whose logit is above 0, in that order."""
    return torch.nonzero(logits[:, 0] > 0)
