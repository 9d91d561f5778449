"""`Critic`: the fake score network, and the head on its last tokens that tells real latents from made ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...generators.flashworld.config import FlashWorldConfig
from ...generators.flashworld.transformer import FlashWorldTransformer

_HEAD_WIDTH = 256
_STAGES = (1, 2, 1, 2)  # strides of the residual blocks


class LogitHead(nn.Module):
    """Tokens of each view to a map of logits: 1x1 convolution, four residual 3x3 blocks, 1x1 convolution.

    Two of the blocks halve the map, so that a logit sees a good part of its view. Computed in float32.

    Args:
        in_channels: width of the tokens.
        width: of the convolutions.
    """

    def __init__(self, in_channels: int, width: int = _HEAD_WIDTH):
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, width, 1)
        self.blocks = nn.ModuleList(_Block(width, stride) for stride in _STAGES)
        self.norm_out = nn.GroupNorm(8, width)
        self.conv_out = nn.Conv2d(width, 1, 1)

    def forward(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """[B, T h w, D] tokens of a (T, h, w) grid -> [B, T, h', w'] logits, float32."""
        views, rows, columns = grid
        batch = tokens.shape[0]
        with torch.autocast(tokens.device.type, enabled=False):
            x = tokens.float().reshape(batch * views, rows, columns, -1).permute(0, 3, 1, 2)
            x = self.conv_in(x)
            for block in self.blocks:
                x = block(x)
            x = self.conv_out(nn.functional.silu(self.norm_out(x)))
            return x.reshape(batch, views, *x.shape[-2:])


class _Block(nn.Module):
    def __init__(self, width: int, stride: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, stride, 1)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(nn.functional.silu(self.norm1(x)))
        y = self.conv2(nn.functional.silu(self.norm2(y)))
        shortcut = self.pool(x)
        return y + shortcut[..., : y.shape[-2], : y.shape[-1]]


class Critic(nn.Module):
    """The fake score D_F and its head H.

    One pass gives the velocity and the logits: a hook before the transformer's last projection hands out its input,
    the tokens after the final norm, without a copy of diffusers' forward. `forward` is the only entry, so that sharded
    parameters are gathered.
    """

    def __init__(self, config: FlashWorldConfig, head_width: int = _HEAD_WIDTH):
        super().__init__()
        self.config = config
        self.transformer = FlashWorldTransformer(config)
        self.head = LogitHead(config.transformer.width, head_width)
        self._tokens: list[Tensor] = []
        self.transformer.proj_out.register_forward_pre_hook(lambda module, inputs: self._tokens.append(inputs[0]))

    def forward(self, hidden_states: Tensor, timestep: Tensor, text: Tensor, logits: bool = False):
        """The transformer's velocity and features, and the logits [B, T, h', w'] where asked for (else None)."""
        self._tokens.clear()
        velocity, features = self.transformer(hidden_states, timestep, text)
        tokens = self._tokens.pop()
        if not logits:
            return velocity, features, None
        patch = self.config.patch_size
        grid = tuple(size // p for size, p in zip(hidden_states.shape[2:], patch, strict=True))
        return velocity, features, self.head(tokens, grid)
