"""Structure latents that are written down: each cell of the latent cube holds the 8 voxels it stands for.

Where an autoencoder would cost more than it saves: a decoder of the published layout with fixed weights. The latents
say which voxels the object fills, which is smoother than its surface alone and so easier to learn; the decoder's last
convolution keeps the filled voxels that have a neighbor (of 26) outside.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...errors import FlashWorldError
from ...generators.trellis.config import StructureVaeConfig
from ...generators.trellis.structure_vae import StructureDecoder

CHANNELS = (8, 2)
# s = 1 in filled voxels, -1 outside, 0 beyond the cube: 26 s - (sum of s over 26 neighbors) - 0.5 is above 0 exactly in
# filled voxels with a neighbor that is not filled.
_CENTER, _NEIGHBOR, _BIAS = 26.0, -1.0, -0.5


def bit_latents(occupancy: Tensor) -> Tensor:
    """[B, 1, R, R, R] of 0 and 1 to [B, 8, R/2, R/2, R/2] of -1 and 1: channel 4 a + 2 b + c is voxel (a, b, c)."""
    b, _, r, *_ = occupancy.shape
    cells = occupancy.reshape(b, r // 2, 2, r // 2, 2, r // 2, 2).permute(0, 2, 4, 6, 1, 3, 5)
    return 2 * cells.reshape(b, 8, r // 2, r // 2, r // 2) - 1


def filled_latents(surface: Tensor) -> Tensor:
    """`bit_latents` of what a surface [B, 1, R, R, R] encloses."""
    return bit_latents(filled(surface))


def filled(surface: Tensor) -> Tensor:
    """Voxels an object fills: [B, 1, R, R, R] of its surface, and whatever the outside does not reach through faces."""
    outside = torch.zeros_like(surface)
    grown = torch.nn.functional.pad(outside, (1,) * 6, value=1.0)  # the flood begins beyond the cube
    free = torch.nn.functional.pad(1 - surface, (1,) * 6, value=1.0)
    while True:
        wider = grown.clone()
        for axis in (2, 3, 4):
            for step in (1, -1):
                wider = torch.maximum(wider, grown.roll(step, axis))
        wider = wider * free
        if torch.equal(wider, grown):
            return 1 - grown[..., 1:-1, 1:-1, 1:-1]
        grown = wider


@torch.no_grad()
def bit_decoder(config: StructureVaeConfig, mean: float, std: float) -> StructureDecoder:
    """The decoder of latents (`bit_latents` - mean) / std.

    The residual blocks add nothing. The convolution before the last level makes of each voxel's value v two channels,
    v and -v; the norm over both leaves their signs, and the last convolution compares those of neighbors.

    Raises:
        FlashWorldError: a config of other channels.
    """
    if config.channels != CHANNELS or config.latent_channels != CHANNELS[0]:
        raise FlashWorldError(f"Written-down latents need 8 latent channels and channels {list(CHANNELS)}.")
    decoder = StructureDecoder(config)
    for module in decoder.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    eye = torch.eye(CHANNELS[0])
    decoder.input_layer.weight[:, :, 1, 1, 1] = eye
    up = next(block for block in decoder.blocks if hasattr(block, "conv")).conv
    up.weight[:, :, 1, 1, 1] = torch.cat([eye, -eye])
    up.bias[:] = torch.cat([torch.full((8,), mean / std), torch.full((8,), -mean / std)])
    # SiLU makes of (1, -1) two numbers whose difference is 1.
    pair, last = torch.tensor([1.0, -1.0]), decoder.out_layer[-1]
    last.weight[0] = _NEIGHBOR * pair[:, None, None, None]
    last.weight[0, :, 1, 1, 1] = _CENTER * pair
    last.bias.fill_(_BIAS)
    return decoder.eval().requires_grad_(False)
