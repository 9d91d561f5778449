"""Building blocks of the Wan 2.2 VAE for single frames, shared by the encoder, the decoder and the 3DGS decoder.

Wan's video VAE is causal: its 3x3x3 kernels look at two past frames and the present one. FlashWorld encodes and decodes
every frame alone, so the past is zero padding and only the last temporal slice of each kernel ever meets data. These
blocks therefore convolve in 2D, channels last. Parameters keep the names and shapes of the trimmed diffusers layout
([out, in, 1, 3, 3]); untrimmed checkpoints are trimmed while loading, and the temporal resampling convolutions, which a
first frame skips, are ignored.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import FlashWorldError

_HALF = (torch.float16, torch.bfloat16)
# The first releases with F.rms_norm squared and averaged half-precision inputs in half precision.
_RMS_NORM_UPCASTS = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 6)


@dataclasses.dataclass(frozen=True)
class WanVaeConfig:
    """Sizes of a Wan 2.2 VAE: the keyword arguments of diffusers' ``AutoencoderKLWan`` in its residual form.

    Attributes:
        base_dim, decoder_base_dim: channels that ``dim_mult`` multiplies, of encoder and decoder (None: the encoder's).
        z_dim: C, latent channels.
        latents_mean, latents_std: one number per latent channel.
        dim_mult: widths of the stages, fine to coarse.
        temperal_downsample: which stages halve time, in diffusers' spelling; irrelevant for single frames but for the
            parameters there are.
        patch_size: side of the pixel block folded into channels before the first convolution; None: 1.
        in_channels, out_channels: 3 * patch_size^2.
        scale_factor_spatial, scale_factor_temporal, clip_output: on record only.

    Raises:
        FlashWorldError: values that cannot belong to one network; the message names the field.
    """

    base_dim: int
    z_dim: int
    latents_mean: tuple[float, ...]
    latents_std: tuple[float, ...]
    decoder_base_dim: int | None = None
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attn_scales: tuple[float, ...] = ()
    temperal_downsample: tuple[bool, ...] = (False, True, True)
    dropout: float = 0.0
    is_residual: bool = False
    in_channels: int = 3
    out_channels: int = 3
    patch_size: int | None = None
    scale_factor_spatial: int = 8
    scale_factor_temporal: int = 4
    clip_output: bool = True

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):  # from JSON
                object.__setattr__(self, field.name, tuple(value))
        for name in ("base_dim", "z_dim", "num_res_blocks"):
            _positive(name, getattr(self, name))
        if not self.is_residual or self.attn_scales or self.dropout:
            raise _wrong("must be the Wan 2.2 form: is_residual true, no attn_scales, no dropout")
        if not self.dim_mult or len(self.temperal_downsample) != len(self.dim_mult) - 1:
            raise _wrong(
                f"temperal_downsample needs one entry fewer than dim_mult, got {self.temperal_downsample} and "
                f"{self.dim_mult}"
            )
        self._check_shortcuts()
        pixels = 3 * self.pixel_patch**2
        if self.in_channels != pixels or self.out_channels != pixels:
            raise _wrong(f"in_channels and out_channels must be 3 * patch_size^2 = {pixels}")
        for name in ("latents_mean", "latents_std"):
            if not isinstance(getattr(self, name), tuple) or len(getattr(self, name)) != self.z_dim:
                raise _wrong(f"{name} must hold z_dim = {self.z_dim} numbers")
        if not all(value > 0 for value in self.latents_std):
            raise _wrong("latents_std must be positive")

    def _check_shortcuts(self):
        """The parameter-free shortcuts deal channels out evenly; not every list of widths allows that."""
        multipliers, temporal = self.dim_mult, self.temperal_downsample
        last = len(multipliers) - 1
        down, up = (1, *multipliers), (multipliers[-1], *multipliers[::-1])
        for i in range(last + 1):
            factor = 1 if i == last else 8 if temporal[i] else 4
            if down[i] * factor % down[i + 1]:
                hint = ", repeat the multiplier before it" if i == last else ""
                raise _wrong(f"dim_mult {multipliers}: stage {i} cannot widen from {down[i]} to {down[i + 1]}{hint}")
            if i < last and up[i + 1] * (8 if temporal[::-1][i] else 4) % up[i]:
                raise _wrong(f"dim_mult {multipliers}: up block {i} cannot go from {up[i]} to {up[i + 1]}")

    @property
    def pixel_patch(self) -> int:
        """Side of the pixel block folded into channels before the first convolution."""
        return self.patch_size or 1

    @property
    def trunk_factor(self) -> int:
        """Rows (and columns) of the last convolution's grid per latent row (and column)."""
        return 2 ** (len(self.dim_mult) - 1)

    @property
    def spatial_factor(self) -> int:
        """Image pixels per latent pixel, along each axis."""
        return self.pixel_patch * self.trunk_factor


def _positive(name: str, value):
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong(f"{name} must be a positive whole number, got {value!r}")


def _wrong(message: str) -> FlashWorldError:
    return FlashWorldError(f"The VAE config does not work: {message}.")


class FrameConv(nn.Conv3d):
    """Wan's causal 3D convolution of a single frame: [N, in, h, w] -> [N, out, h, w], zero padded.

    The weight is [out, in, 1, k, k], so that names and shapes are the checkpoint's.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        padding = kernel_size // 2
        super().__init__(in_channels, out_channels, (1, kernel_size, kernel_size), padding=(0, padding, padding))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight[:, :, 0], self.bias, padding=self.padding[1:])

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        weight = state_dict.get(prefix + "weight")
        if weight is not None and weight.ndim == 5 and weight.shape[2] > 1:
            # A copy, not a view: a view would keep the two dead slices in memory.
            state_dict[prefix + "weight"] = weight[:, :, -1:].clone(memory_format=torch.contiguous_format)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class ChannelRMSNorm(nn.Module):
    """RMS normalization over the channels of [N, C, h, w], learned gain.

    Args:
        channels: C.
        trailing_dims: singleton dimensions of the stored gain after C (3 in Wan's video layers, 2 in image layers).
    """

    def __init__(self, channels: int, trailing_dims: int = 3):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *[1] * trailing_dims))

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype in _HALF and not _RMS_NORM_UPCASTS:
            return self.forward(x.float()).to(x.dtype)
        # The epsilon only catches all-zero pixels; it is below what single precision adds to anything else.
        gain = self.gamma.flatten().to(x.dtype)
        return F.rms_norm(x.movedim(1, -1), (x.shape[1],), gain, eps=1e-24).movedim(-1, 1)


def norm_silu(norm: ChannelRMSNorm, x: Tensor) -> Tensor:
    """SiLU of the normalized input, without a second copy where no gradient is kept."""
    return F.silu(norm(x), inplace=not torch.is_grad_enabled())


def _added(fresh: Tensor, other: Tensor) -> Tensor:
    """``fresh + other``, written over ``fresh``, which nobody else holds, where no gradient is kept."""
    return fresh + other if torch.is_grad_enabled() else fresh.add_(other)


class ResidualBlock(nn.Module):
    """Two normalized 3x3 convolutions beside a shortcut (1x1 convolution where the width changes)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.norm1 = ChannelRMSNorm(in_channels)
        self.conv1 = FrameConv(in_channels, out_channels, 3)
        self.norm2 = ChannelRMSNorm(out_channels)
        self.conv2 = FrameConv(out_channels, out_channels, 3)
        self.conv_shortcut = FrameConv(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(norm_silu(self.norm1, x))
        return _added(self.conv2(norm_silu(self.norm2, y)), self.conv_shortcut(x))


class SpatialAttention(nn.Module):
    """Single-head self-attention among the pixels of a frame, with residual."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = ChannelRMSNorm(channels, trailing_dims=2)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        qkv = self.to_qkv(self.norm(x)).permute(0, 2, 3, 1).reshape(n, 1, h * w, 3 * c)
        q, k, v = qkv.chunk(3, dim=-1)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj(y.reshape(n, h, w, c).permute(0, 3, 1, 2))


class MidBlock(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, channels: int):
        super().__init__()
        self.attentions = nn.ModuleList([SpatialAttention(channels)])
        self.resnets = nn.ModuleList([ResidualBlock(channels, channels), ResidualBlock(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class _Resample(nn.Module):
    """Holder of ``resample.1``; drops the temporal convolution a single frame never uses while loading."""

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        for name in ("time_conv.weight", "time_conv.bias"):
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class Downsample(_Resample):
    """[N, C, h, w] -> [N, C, h/2, w/2]: zeros on the right and at the bottom, 3x3 convolution of stride 2."""

    def __init__(self, channels: int):
        super().__init__()
        # Index 1 carries the convolution's official name; index 0 is the padding.
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(channels, channels, 3, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        return self.resample(x)


class Upsample(_Resample):
    """[N, C, h, w] -> [N, C, 2h, 2w]: nearest neighbors, then a 3x3 convolution.

    Computed without the enlarged picture. Each of the four output phases (even or odd row, even or odd column) sees
    only 2x2 distinct input pixels, so its kernel folds to 2x2: 16 multiplications per input pixel where the plain form
    needs 36.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.resample = nn.Sequential(nn.Upsample(scale_factor=2.0), nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """The enlarged ``x``; ``shortcut`` [N, C, h, w] is added to all four phases, as if enlarged too."""
        n, c, h, w = x.shape
        conv = self.resample[1]
        kernel = _fold_kernel(_fold_kernel(conv.weight, 2), 4)  # [out, in, row phase, 2, column phase, 2]
        kernel = kernel.permute(2, 4, 0, 1, 3, 5).reshape(4 * c, c, 2, 2)
        y = F.conv2d(x, kernel, conv.bias.repeat(4), padding=1)  # [N, 4 C, h + 1, w + 1]
        y = y.permute(0, 2, 3, 1).unflatten(-1, (2, 2, c))
        # Phase 0 looks at the pixel and its predecessor, phase 1 at the pixel and its successor.
        phases = [[y[:, i : i + h, j : j + w, i, j] for j in (0, 1)] for i in (0, 1)]
        added = None if shortcut is None else shortcut.permute(0, 2, 3, 1)
        if torch.is_grad_enabled():
            phases = [[phase if added is None else phase + added for phase in row] for row in phases]
            out = torch.stack([torch.stack(row, 3) for row in phases], 2)
        else:  # each number is moved once
            out = y.new_empty(n, h, 2, w, 2, c)
            for i, row in enumerate(phases):
                for j, phase in enumerate(row):
                    if added is None:
                        out[:, :, i, :, j] = phase
                    else:
                        torch.add(phase, added, out=out[:, :, i, :, j])
        return out.reshape(n, 2 * h, 2 * w, c).permute(0, 3, 1, 2)

    def reference(self, x: Tensor) -> Tensor:
        """`forward` as it is written down in the Wan VAE: the slow twin it is tested against."""
        return self.resample(x)


def _fold_kernel(kernel: Tensor, dim: int) -> Tensor:
    """Three taps along ``dim``, meant for nearest-enlarged pixels, become [phase, two taps] on the small ones."""
    a, b, c = kernel.unbind(dim)
    return torch.stack((torch.stack((a, b + c), dim), torch.stack((a + b, c), dim)), dim)


def average_shortcut(x: Tensor, out_channels: int, *, time_factor: int, space_factor: int) -> Tensor:
    """Parameter-free shortcut of a down block: [N, C, h, w] -> [N, out_channels, h/s, w/s].

    The values of each time x space block are listed behind their channel (time, row, column) and consecutive groups
    of the list are averaged. A lone frame is padded in front with ``time_factor - 1`` frames of zeros.
    """
    channels, s = x.shape[1], space_factor
    group = channels * time_factor * s * s // out_channels
    if group % (s * s) == 0:  # whole pixel blocks fall into one group: average them first
        x, block = (F.avg_pool2d(x, s) if s > 1 else x), 1
        group //= s * s
    else:
        x, block = F.pixel_unshuffle(x, s), s * s
    if time_factor > 1:
        x = x.unflatten(1, (channels, 1, block))
        x = F.pad(x, (0, 0, 0, 0, 0, 0, time_factor - 1, 0)).flatten(1, 3)
    return x if group == 1 else x.unflatten(1, (out_channels, group)).mean(2)


def duplicate_shortcut(x: Tensor, out_channels: int, *, time_factor: int) -> Tensor:
    """Parameter-free shortcut of an up block: [N, C, h, w] -> [N, out_channels, 2h, 2w].

    Every channel is repeated until there are ``out_channels`` x time x 2 x 2 of them, which are dealt out as output
    channel, time, row, column; a lone first frame keeps the last of the times.
    """
    n, channels, h, w = x.shape
    repeats = out_channels * time_factor * 4 // channels
    if (small := small_shortcut(x, out_channels, time_factor=time_factor)) is not None:
        return F.interpolate(small, scale_factor=2.0)
    x = x.permute(0, 2, 3, 1).unsqueeze(-1).expand(-1, -1, -1, -1, repeats)
    x = x.reshape(n, h, w, out_channels, time_factor, 2, 2)[..., -1, :, :]
    return x.permute(0, 1, 4, 2, 5, 3).reshape(n, 2 * h, 2 * w, out_channels).permute(0, 3, 1, 2)


def small_shortcut(x: Tensor, out_channels: int, *, time_factor: int) -> Tensor | None:
    """`duplicate_shortcut` before it is enlarged, [N, out_channels, h, w]; None where pixels of a 2x2 block differ."""
    copies, mixed = divmod(out_channels * time_factor * 4 // x.shape[1], 4 * time_factor)
    if mixed:
        return None
    return x if copies == 1 else x.repeat_interleave(copies, 1)  # an output channel shows one input channel


class DownBlock(nn.Module):
    """Residual blocks, optional halving of the resolution, averaged shortcut around all of it."""

    def __init__(self, in_channels: int, out_channels: int, num_res_blocks: int, *, down: bool, temporal: bool):
        super().__init__()
        self.out_channels = out_channels
        self.time_factor, self.space_factor = (2 if temporal else 1), (2 if down else 1)
        widths = [in_channels] + [out_channels] * num_res_blocks
        self.resnets = nn.ModuleList(ResidualBlock(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.downsampler = Downsample(out_channels) if down else None

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for resnet in self.resnets:
            y = resnet(y)
        if self.downsampler is not None:
            y = self.downsampler(y)
        shortcut = average_shortcut(x, self.out_channels, time_factor=self.time_factor, space_factor=self.space_factor)
        return y + shortcut if y is x else _added(y, shortcut)


class UpBlock(nn.Module):
    """One residual block more than a `DownBlock`; where it doubles the resolution, a duplicated shortcut around it."""

    def __init__(self, in_channels: int, out_channels: int, num_res_blocks: int, *, up: bool, temporal: bool):
        super().__init__()
        self.out_channels = out_channels
        self.time_factor = 2 if temporal else 1
        widths = [in_channels] + [out_channels] * (num_res_blocks + 1)
        self.resnets = nn.ModuleList(ResidualBlock(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.upsampler = Upsample(out_channels) if up else None

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for resnet in self.resnets:
            y = resnet(y)
        if self.upsampler is None:
            return y
        small = small_shortcut(x, self.out_channels, time_factor=self.time_factor)
        if small is not None:
            return self.upsampler(y, small)
        return _added(self.upsampler(y), duplicate_shortcut(x, self.out_channels, time_factor=self.time_factor))


def patchify(x: Tensor, patch: int) -> Tensor:
    """Fold p x p pixel blocks into channels: [N, C, h p, w p] -> [N, C p p, h, w], channel = (c p + column) p + row."""
    if patch == 1:
        return x
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // patch, patch, w // patch, patch).permute(0, 1, 5, 3, 2, 4)
    return x.reshape(n, c * patch * patch, h // patch, w // patch)


def unpatchify(x: Tensor, patch: int) -> Tensor:
    """The inverse of `patchify`."""
    if patch == 1:
        return x
    n, c, h, w = x.shape
    x = x.reshape(n, c // patch**2, patch, patch, h, w).permute(0, 1, 4, 3, 5, 2)
    return x.reshape(n, c // patch**2, h * patch, w * patch)
