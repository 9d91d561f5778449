"""Voxels' latents to 3D Gaussians, in TRELLIS's asset frame."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...gaussians import Gaussians
from ...models.sparse import SparseLayout
from .blocks import KEEP_FLOAT32, OUTER_EPS, WindowBlock, body_dtype, position_embedding
from .config import GaussianDecoderConfig

CHANNELS = {"_xyz": 3, "_features_dc": 3, "_scaling": 3, "_rotation": 4, "_opacity": 1}  # per Gaussian, in this order


def offset_perturbation(count: int, voxel_size: float) -> Tensor:
    """[count, 3] added to the offsets before their tanh, so that the Gaussians of a voxel begin spread out.

    The points of a Hammersley set in a cube, as the inverse of what the decoder makes of offsets.
    """
    numbers = torch.arange(count, dtype=torch.float64)
    points = torch.stack([numbers / count, _radical_inverse(numbers, 2), _radical_inverse(numbers, 3)], 1)
    return torch.atanh((2 * points - 1) / voxel_size).float()


def _radical_inverse(numbers: Tensor, base: int) -> Tensor:
    """The digits of whole numbers mirrored at the point: the van der Corput sequence."""
    result, factor = torch.zeros_like(numbers), 1.0
    while bool((numbers > 0).any()):
        factor /= base
        result += factor * (numbers % base)
        numbers = numbers // base
    return result


class GaussianDecoder(nn.Module):
    """Transformer with windowed attention over voxels, to ``num_gaussians`` Gaussians for each."""

    _keep_in_fp32_modules = KEEP_FLOAT32

    def __init__(self, config: GaussianDecoderConfig):
        super().__init__()
        self.config = config
        width = config.model_channels
        self.input_layer = nn.Linear(config.latent_channels, width)
        self.blocks = nn.ModuleList(
            WindowBlock(width, config.num_heads, config.mlp_ratio) for _ in range(config.num_blocks)
        )
        self.out_layer = nn.Linear(width, config.num_gaussians * sum(CHANNELS.values()))
        if config.perturb_offset:
            # Made on the CPU whatever the default device is: a file brings its own.
            with torch.device("cpu"):
                points = offset_perturbation(config.num_gaussians, config.voxel_size)
            self.register_buffer("offset_perturbation", points.to(self.out_layer.weight.device))

    def forward(self, x: Tensor, layout: SparseLayout) -> Tensor:
        """[n, latent_channels] to [n, num_gaussians * 14] in the dtype of ``x``."""
        config, dtype = self.config, body_dtype(self.blocks)
        h = self.input_layer(x)
        h = (h + position_embedding(layout.coords[:, 1:], h.shape[1])).to(dtype)
        for i, block in enumerate(self.blocks):
            shift = config.window_size // 2 * (i % 2)
            h = block(h, layout.windows(config.window_size, shift))
        return self.out_layer(F.layer_norm(h.to(x.dtype), h.shape[-1:], eps=OUTER_EPS))

    def activate(self, raw: Tensor, coords: Tensor) -> Gaussians:
        """Turn what `forward` made of one object's voxels into Gaussians.

        Args:
            raw: [n, num_gaussians * 14].
            coords: [n, 3] voxel coordinates.

        Returns:
            n * num_gaussians Gaussians in the asset frame: the cube [-0.5, 0.5]^3, z up.
        """
        config, count = self.config, self.config.num_gaussians
        parts = raw.float().split([count * width for width in CHANNELS.values()], 1)
        rates = dict(config.rates)
        values = {
            name: part.reshape(-1, count, width) * rates.get(name, 1.0)
            for part, (name, width) in zip(parts, CHANNELS.items(), strict=True)
        }
        offset = values["_xyz"] + (self.offset_perturbation if config.perturb_offset else 0)
        reach = 0.5 * config.voxel_size / config.resolution
        centers = (coords.float() + 0.5)[:, None] / config.resolution
        means = centers + offset.tanh() * reach - 0.5
        start = math.log(math.expm1(config.scaling_bias))
        scales = (F.softplus(values["_scaling"] + start) ** 2 + config.filter_3d**2).sqrt()
        turn = values["_rotation"] + torch.tensor([1.0, 0.0, 0.0, 0.0], device=raw.device)
        opacity = values["_opacity"] + math.log(config.opacity_bias / (1 - config.opacity_bias))
        return Gaussians(
            means.flatten(0, 1),
            F.normalize(turn.flatten(0, 1), dim=-1),
            scales.flatten(0, 1),
            opacity.sigmoid().flatten(),
            values["_features_dc"].reshape(-1, 1, 3),
        )
