"""Structure latents that are written down: each cell of the latent cube holds the 8 voxels it stands for.

Where an autoencoder would cost more than it saves: a decoder of the published layout with fixed weights, which finds
every voxel exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...errors import FlashWorldError
from ...generators.trellis.config import StructureVaeConfig
from ...generators.trellis.structure_vae import StructureDecoder

CHANNELS = (8, 2)
_LOGIT = 4.0  # scale of the logits, which are then about plus or minus this


def bit_latents(occupancy: Tensor) -> Tensor:
    """[B, 1, R, R, R] of 0 and 1 to [B, 8, R/2, R/2, R/2] of -1 and 1: channel 4 a + 2 b + c is voxel (a, b, c)."""
    b, _, r, *_ = occupancy.shape
    cells = occupancy.reshape(b, r // 2, 2, r // 2, 2, r // 2, 2).permute(0, 2, 4, 6, 1, 3, 5)
    return 2 * cells.reshape(b, 8, r // 2, r // 2, r // 2) - 1


@torch.no_grad()
def bit_decoder(config: StructureVaeConfig, mean: float, std: float) -> StructureDecoder:
    """The decoder of latents (`bit_latents` - mean) / std.

    The residual blocks add nothing. The convolution before the last level makes of each voxel's value v two channels,
    v and -v; the norm over both leaves their signs, and their difference is the logit.

    Raises:
        FlashWorldError: a config of other channels.
    """
    if config.channels != CHANNELS or config.latent_channels != CHANNELS[0]:
        raise FlashWorldError(f"Written-down latents need 8 latent channels and channels {list(CHANNELS)}.")
    decoder = StructureDecoder(config)
    for name, module in decoder.named_modules():
        if isinstance(module, nn.Conv3d):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    eye = torch.eye(CHANNELS[0])
    decoder.input_layer.weight[:, :, 1, 1, 1] = eye
    up = next(block for block in decoder.blocks if hasattr(block, "conv")).conv
    up.weight[:, :, 1, 1, 1] = torch.cat([eye, -eye])
    up.bias[:] = torch.cat([torch.full((8,), mean / std), torch.full((8,), -mean / std)])
    decoder.out_layer[-1].weight[0, :, 1, 1, 1] = torch.tensor([_LOGIT, -_LOGIT])
    return decoder.eval().requires_grad_(False)
