"""A VAE encoder that starts as the principal components of its pixel blocks, exactly linear.

An encoder trained from random weights needs many thousand updates before it keeps as much of a picture as the linear
code of the same length does. This one starts there: the residual branches add nothing, the strided convolutions gather
a block's pixels and project them, and what the network cannot switch off is made linear. Its parameter-free shortcuts
are taken off again in the convolutions beside them; the last normalization sees a constant channel so large that it
divides by nearly the same number everywhere; and SiLU is undone by pairs, silu(a) - silu(-a) = a.
"""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import FlashWorldError
from ...models.wan_vae import FrameEncoder
from ...models.wan_vae_blocks import DownBlock, ResidualBlock, SpatialAttention, WanVaeConfig, average_shortcut

_CONSTANT = 300.0
_LOG_VARIANCE = -12.0  # the posterior is all but its mean


@dataclasses.dataclass(frozen=True)
class Components:
    """Principal components of pixel blocks.

    Attributes:
        basis: [Z, 3, s, s], orthonormal, largest variance first.
        mean: [3, s, s].
        deviation: [Z] standard deviations of the coefficients.
    """

    basis: Tensor
    mean: Tensor
    deviation: Tensor


def principal_components(images: Tensor, size: int, count: int) -> Components:
    """The ``count`` components of the size x size blocks of images [N, 3, H, W].

    Raises:
        FlashWorldError: more components than a block has numbers, or fewer blocks than components.
    """
    blocks = F.unfold(images, size, stride=size).transpose(1, 2).reshape(-1, 3 * size * size)
    if count > min(blocks.shape):
        raise FlashWorldError(
            f"{count} latent channels need blocks of as many numbers and as many blocks; there are {blocks.shape[1]} "
            f"numbers a block and {blocks.shape[0]} blocks."
        )
    mean = blocks.mean(0)
    centered = blocks - mean
    variance, vectors = torch.linalg.eigh(centered.T.double() @ centered.double() / len(blocks))
    order = variance.argsort(descending=True)[:count]
    basis = vectors[:, order].T.float()
    return Components(basis.reshape(-1, 3, size, size), mean.reshape(3, size, size), variance[order].sqrt().float())


@torch.no_grad()
def start_linear(encoder: FrameEncoder, config: WanVaeConfig, components: Components) -> None:
    """Set an encoder's weights so that its mean is the components' coefficients.

    Raises:
        FlashWorldError: a config whose widths cannot carry a block's pixels to where they are projected.
    """
    body = encoder.encoder
    for module in body.modules():
        if isinstance(module, ResidualBlock):
            module.conv2.weight.zero_(), module.conv2.bias.zero_()
        elif isinstance(module, SpatialAttention):
            module.proj.weight.zero_(), module.proj.bias.zero_()
    patch, count = config.pixel_patch, config.z_dim
    blocks = [block for block in body.down_blocks if block.downsampler is not None]
    # Which pixel of the block, (color, row, column), a channel carries.
    carried = [(c, row, column) for c in range(3) for column in range(patch) for row in range(patch)]
    cell = patch

    width = body.conv_in.weight.shape[0]
    _check_width(width, len(carried), "the first convolution")
    body.conv_in.weight.zero_(), body.conv_in.bias.zero_()
    for channel in range(len(carried)):
        body.conv_in.weight[channel, channel, 0, 1, 1] = 1
    for block in blocks[:-1]:
        _check_width(block.out_channels, 4 * len(carried), "a down block")
        gather = torch.zeros(4 * len(carried), _in_channels(block), 2, 2)
        following = []
        for channel, (color, y, x) in enumerate(carried):
            for row in range(2):
                for column in range(2):
                    gather[len(following), channel, row, column] = 1
                    following.append((color, y + row * cell, x + column * cell))
        _set_down_block(block, gather, torch.zeros(len(gather)))
        carried, cell = following, 2 * cell

    block = blocks[-1]
    _check_width(block.out_channels, 2 * count + 1, "the last down block")
    project = torch.zeros(2 * count + 1, _in_channels(block), 2, 2)
    for channel, (color, y, x) in enumerate(carried):
        for row in range(2):
            for column in range(2):
                project[:count, channel, row, column] = components.basis[:, color, y + row * cell, x + column * cell]
    project[count : 2 * count] = -project[:count]
    offset = -(components.basis * components.mean).sum((1, 2, 3))
    _set_down_block(block, project, torch.cat([offset, -offset, offset.new_tensor([_CONSTANT])]))

    # The block without a downsampler doubles all channels, the constant one too.
    body.norm_out.gamma.fill_(_CONSTANT / math.sqrt(body.norm_out.gamma.shape[0]))
    body.conv_out.weight.zero_(), body.conv_out.bias.zero_()
    encoder.quant_conv.weight.zero_(), encoder.quant_conv.bias.zero_()
    for channel in range(count):
        body.conv_out.weight[channel, channel, 0, 1, 1] = 1
        body.conv_out.weight[channel, count + channel, 0, 1, 1] = -1
        encoder.quant_conv.weight[channel, channel] = 1
    encoder.quant_conv.bias[count:] = _LOG_VARIANCE


def partly_whitened(deviation: Tensor, power: float = 0.5) -> list[float]:
    """Standard deviations to divide the coefficients by: deviation^power, scaled so that the mean variance is 1.

    Power 1 whitens: fine detail, which is nearly nothing in a picture, would count like its large shapes. Power 0 keeps
    the picture's own spectrum.
    """
    divisor = deviation**power
    return (divisor * (deviation / divisor).square().mean().sqrt()).tolist()


def _set_down_block(block: DownBlock, wanted: Tensor, bias: Tensor) -> None:
    """Make a down block compute ``wanted`` [out, in, 2, 2] on 2x2 cells: what its shortcut adds is taken off."""
    width_in, width_out = _in_channels(block), block.out_channels
    shortcut = block.resnets[0].conv_shortcut
    if hasattr(shortcut, "weight"):
        shortcut.weight.zero_(), shortcut.bias.zero_()
        for channel in range(width_in):
            shortcut.weight[channel, channel] = 1
    conv = block.downsampler.resample[1]
    conv.weight.zero_(), conv.bias.zero_()
    conv.weight[: len(wanted), :width_in, :2, :2] = wanted
    conv.bias[: len(bias)] = bias
    impulses = torch.eye(width_in * 4).reshape(-1, width_in, 2, 2)
    added = average_shortcut(impulses, width_out, time_factor=block.time_factor, space_factor=2)[:, :, 0, 0]
    conv.weight[:, :width_in, :2, :2] -= added.T.reshape(width_out, width_in, 2, 2)


def _in_channels(block: DownBlock) -> int:
    return block.resnets[0].conv1.weight.shape[1]


def _check_width(width: int, needed: int, where: str) -> None:
    if width < needed:
        raise FlashWorldError(
            f"The encoder cannot start linear: {where} is {width} channels wide and needs {needed}; widen vae.base_dim "
            "or vae.dim_mult."
        )
