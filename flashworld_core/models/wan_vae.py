"""`FrameEncoder` and `FrameDecoder`: Wan's video VAE applied to single frames."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoints.assign import assign, check_names_and_shapes, expected_shapes
from ..checkpoints.identify import identify, wrong_file
from ..checkpoints.manifest import VAE_NAMES, find_beside
from ..checkpoints.open import WeightFile, open_weights, unwrapped
from ..errors import FlashWorldError
from .wan_vae_blocks import (
    ChannelRMSNorm,
    DownBlock,
    FrameConv,
    MidBlock,
    UpBlock,
    WanVaeConfig,
    norm_silu,
    patchify,
    unpatchify,
)


class EncoderBody(nn.Module):
    """Patchified pixels [N, in, h 2^k, w 2^k] -> [N, 2 C, h, w], before the quantizing convolution."""

    def __init__(self, config: WanVaeConfig):
        super().__init__()
        multipliers = config.dim_mult
        temporal = (*config.temperal_downsample, False)
        widths = [config.base_dim * m for m in (1, *multipliers)]
        last = len(multipliers) - 1
        self.conv_in = FrameConv(config.in_channels, widths[0], 3)
        self.down_blocks = nn.ModuleList(
            DownBlock(widths[i], widths[i + 1], config.num_res_blocks, down=i != last, temporal=temporal[i])
            for i in range(len(multipliers))
        )
        self.mid_block = MidBlock(widths[-1])
        self.norm_out = ChannelRMSNorm(widths[-1])
        self.conv_out = FrameConv(widths[-1], 2 * config.z_dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(norm_silu(self.norm_out, self.mid_block(x)))


class DecoderBody(nn.Module):
    """Latents [N, C, h, w] -> [N, decoder_base_dim x dim_mult[0], h 2^k, w 2^k], up to the last SiLU.

    Without the output convolution this is the trunk of FlashWorld's 3DGS decoder.
    """

    def __init__(self, config: WanVaeConfig, *, conv_out: bool):
        super().__init__()
        multipliers = config.dim_mult[::-1]
        temporal = (*config.temperal_downsample[::-1], False)
        base = config.decoder_base_dim or config.base_dim
        widths = [base * m for m in (multipliers[0], *multipliers)]
        last = len(multipliers) - 1
        self.conv_in = FrameConv(config.z_dim, widths[0], 3)
        self.mid_block = MidBlock(widths[0])
        self.up_blocks = nn.ModuleList(
            UpBlock(widths[i], widths[i + 1], config.num_res_blocks, up=i != last, temporal=temporal[i])
            for i in range(len(multipliers))
        )
        self.norm_out = ChannelRMSNorm(widths[-1])
        self.conv_out = FrameConv(widths[-1], config.out_channels, 3) if conv_out else None

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """``residual`` [N, width, h, w] is added after the first convolution."""
        x = self.conv_in(x)
        if residual is not None:
            x = x + residual
        x = self.mid_block(x)
        for block in self.up_blocks:
            x = block(x)
        x = norm_silu(self.norm_out, x)
        return x if self.conv_out is None else self.conv_out(x)


class LatentNorm(nn.Module):
    """Per-channel normalization of latents, (z - mean) / std, and back. Holds no parameters and no buffers."""

    def __init__(self, config: WanVaeConfig):
        super().__init__()
        self.mean, self.std = config.latents_mean, config.latents_std

    def _statistics(self, latents: Tensor, channel_dim: int) -> tuple[Tensor, Tensor]:
        shape = [1] * latents.ndim
        shape[channel_dim] = -1
        return latents.new_tensor(self.mean).view(shape), latents.new_tensor(self.std).view(shape)

    def normalize(self, latents: Tensor, channel_dim: int = 1) -> Tensor:
        """Raw VAE latents [..., C, ...] to the zero-mean, unit-variance latents the transformer sees."""
        mean, std = self._statistics(latents, channel_dim)
        return (latents - mean) / std

    def unnormalize(self, latents: Tensor, channel_dim: int = 1) -> Tensor:
        """The inverse of `normalize`."""
        mean, std = self._statistics(latents, channel_dim)
        return latents * std + mean


class FrameEncoder(LatentNorm):
    """The Wan 2.2 VAE's encoder, frame by frame. Parameters: ``encoder.*`` and ``quant_conv.*`` as in diffusers.

    Loads the untrimmed video VAE ([o, i, 3, 3, 3] kernels, temporal convolutions) as well as its own state dict.
    """

    def __init__(self, config: WanVaeConfig):
        super().__init__(config)
        self.spatial_factor, self.patch = config.spatial_factor, config.pixel_patch
        self.encoder = EncoderBody(config)
        self.quant_conv = FrameConv(2 * config.z_dim, 2 * config.z_dim, 1)

    def moments(self, images: Tensor) -> Tensor:
        """Mean and log-variance of the posterior.

        Args:
            images: [N, 3, H, W] in [-1, 1].

        Returns:
            [N, 2 C, h, w]: C means, then C log-variances (not clamped), of un-normalized latents.

        Raises:
            FlashWorldError: images of another shape, or of a size the encoder cannot divide.
        """
        factor = self.spatial_factor
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % factor or images.shape[3] % factor:
            raise FlashWorldError(
                f"Images must be [N, 3, H, W] with H and W multiples of {factor}, got {list(images.shape)}."
            )
        x = patchify(images.to(self.quant_conv.weight.dtype), self.patch)
        return self.quant_conv(self.encoder(x.contiguous(memory_format=torch.channels_last)))

    def sample(self, moments: Tensor, noise: Tensor | None = None) -> Tensor:
        """Normalized latents [N, C, h, w], float32, of a posterior: mean + exp(logvar / 2) * noise.

        Args:
            moments: [N, 2 C, h, w] from `moments`.
            noise: [N, C, h, w] standard normal; None takes the mean.
        """
        mean, logvar = moments.float().chunk(2, dim=1)
        latents = mean if noise is None else mean + torch.exp(0.5 * logvar.clamp(-30.0, 20.0)) * noise
        return self.normalize(latents)

    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Normalized latents [N, C, h, w], float32, of images [N, 3, H, W] in [-1, 1]; ``noise`` as in `sample`."""
        return self.sample(self.moments(images), noise)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        return self.encode(images, noise)


class FrameDecoder(LatentNorm):
    """The Wan 2.2 VAE's decoder, frame by frame. Parameters: ``decoder.*`` and ``post_quant_conv.*`` as in diffusers.

    FlashWorld draws its pictures from Gaussians, so this decoder is not part of generation: it is what a VAE is trained
    with and what the 3DGS decoder starts from.
    """

    def __init__(self, config: WanVaeConfig):
        super().__init__(config)
        self.patch = config.pixel_patch
        self.post_quant_conv = FrameConv(config.z_dim, config.z_dim, 1)
        self.decoder = DecoderBody(config, conv_out=True)

    def forward(self, latents: Tensor) -> Tensor:
        """Un-normalized latents [N, C, h, w] to images [N, 3, H, W], nominally in [-1, 1], not clamped."""
        latents = latents.to(self.post_quant_conv.weight.dtype).contiguous(memory_format=torch.channels_last)
        return unpatchify(self.decoder(self.post_quant_conv(latents)), self.patch)


_KEPT = ("encoder.", "quant_conv.")


def load_frame_encoder(
    path: str | Path,
    config: WanVaeConfig,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
) -> FrameEncoder:
    """The per-frame encoder with a VAE file's weights.

    Only the encoder is read. 3x3x3 kernels are cut to their last temporal slice, the only one a single frame meets,
    and the temporal resampling layers, which it skips, are left out.

    Args:
        path: a diffusers folder (``vae/``, or the pipeline's folder around it), ``wan2.2_vae.safetensors``,
            ``Wan2.2_VAE.pth``, or our trimmed ``vae.safetensors``.
        config: the sizes it must have.
        dtype: floating-point type; None keeps the file's.
        device: where it goes.

    Raises:
        FlashWorldError: not that VAE (the message says what it is), damaged, or of other sizes.
    """
    path = Path(path).expanduser()
    weights = open_weights(path / "vae" if (path / "vae").is_dir() else path)
    sources = encoder_names(weights)
    with torch.device("meta"):
        encoder = FrameEncoder(config)
    shapes = {name: weights.entries[source].shape for name, source in sources.items()}
    expected = expected_shapes(encoder)
    kind = identify(weights)
    if kind.name not in ("wan2.2 vae", "other") and expected.keys() - shapes.keys():
        raise wrong_file(weights, kind, "the Wan 2.2 VAE")
    check_names_and_shapes(expected, shapes, "VAE encoder", weights.path, fits=_fits)

    def read(name: str) -> Tensor:
        stored = weights.read(sources[name])
        if stored.shape == expected[name]:
            return stored
        # A copy, not a view, which would keep the two dead slices in memory.
        return stored[:, :, -1:].clone(memory_format=torch.contiguous_format)

    assign(encoder, read, dtype=dtype, device=device)
    return encoder.eval()


def encoder_names(weights: WeightFile) -> dict[str, str]:
    """The file's names of the encoder's tensors, by diffusers' name; temporal resampling left out."""
    prefix, names = unwrapped(list(weights.entries))
    by_name = {diffusers_vae_name(name): prefix + name for name in names}
    return {name: source for name, source in by_name.items() if name.startswith(_KEPT) and ".time_conv." not in name}


def _fits(expected: tuple[int, ...], found: tuple[int, ...]) -> bool:
    """Equal, or a kernel whose temporal side is still there."""
    if len(expected) != 5 or len(found) != 5 or expected[2] != 1 or found[2] < 1:
        return expected == found
    return expected[:2] + expected[3:] == found[:2] + found[3:]


def find_vae(folder: Path) -> Path | None:
    """Find the VAE beside a model: the first of `VAE_NAMES` in ``folder``."""
    return find_beside(folder, VAE_NAMES)


def missing_vae(path: Path) -> FlashWorldError:
    """The error of a model without its VAE."""
    return FlashWorldError(
        f"{path} needs the Wan 2.2 VAE, which is not beside it; give vae=: the folder of "
        "Wan2.2-TI2V-5B-Diffusers, or ComfyUI's wan2.2_vae.safetensors."
    )


_VAE_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^conv1\.", "quant_conv."),
        (r"^conv2\.", "post_quant_conv."),
        (r"^(encoder|decoder)\.conv1\.", r"\1.conv_in."),
        (r"\.head\.0\.gamma$", ".norm_out.gamma"),
        (r"\.head\.2\.", ".conv_out."),
        (r"\.middle\.0\.", ".mid_block.resnets.0."),
        (r"\.middle\.1\.", ".mid_block.attentions.0."),
        (r"\.middle\.2\.", ".mid_block.resnets.1."),
        # Within a stage residual blocks come first; the resampler has the number after the last of them.
        (r"\.downsamples\.(\d+)\.downsamples\.\d+\.(resample|time_conv)\.", r".down_blocks.\1.downsampler.\2."),
        (r"\.upsamples\.(\d+)\.upsamples\.\d+\.(resample|time_conv)\.", r".up_blocks.\1.upsampler.\2."),
        (r"\.downsamples\.(\d+)\.downsamples\.(\d+)\.", r".down_blocks.\1.resnets.\2."),
        (r"\.upsamples\.(\d+)\.upsamples\.(\d+)\.", r".up_blocks.\1.resnets.\2."),
        (r"\.residual\.0\.gamma$", ".norm1.gamma"),
        (r"\.residual\.2\.", ".conv1."),
        (r"\.residual\.3\.gamma$", ".norm2.gamma"),
        (r"\.residual\.6\.", ".conv2."),
        (r"\.shortcut\.", ".conv_shortcut."),
    )
)


def diffusers_vae_name(name: str) -> str:
    """A VAE tensor's name in diffusers, from its name in ``Wan2.2_VAE.pth`` or ``wan2.2_vae.safetensors``.

    Names that are diffusers' already come back unchanged.
    """
    for pattern, replacement in _VAE_RULES:
        name = pattern.sub(replacement, name)
    return name
