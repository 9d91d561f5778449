"""`FrameEncoder` and `FrameDecoder`: Wan's video VAE applied to single frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...errors import FlashWorldError
from .config import FlashWorldConfig
from .wan_vae_blocks import (
    ChannelRMSNorm,
    DownBlock,
    FrameConv,
    MidBlock,
    UpBlock,
    norm_silu,
    patchify,
    unpatchify,
)


class EncoderBody(nn.Module):
    """Patchified pixels [N, in, h 2^k, w 2^k] -> [N, 2 C, h, w], before the quantising convolution."""

    def __init__(self, config: FlashWorldConfig):
        super().__init__()
        multipliers = config.vae_value("dim_mult")
        temporal = (*config.vae_value("temperal_downsample"), False)
        widths = [config.vae["base_dim"] * m for m in (1, *multipliers)]
        last = len(multipliers) - 1
        self.conv_in = FrameConv(config.vae_value("in_channels"), widths[0], 3)
        self.down_blocks = nn.ModuleList(
            DownBlock(
                widths[i], widths[i + 1], config.vae_value("num_res_blocks"), down=i != last, temporal=temporal[i]
            )
            for i in range(len(multipliers))
        )
        self.mid_block = MidBlock(widths[-1])
        self.norm_out = ChannelRMSNorm(widths[-1])
        self.conv_out = FrameConv(widths[-1], 2 * config.latent_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(norm_silu(self.norm_out, self.mid_block(x)))


class DecoderBody(nn.Module):
    """Latents [N, C, h, w] -> [N, decoder_base_dim x dim_mult[0], h 2^k, w 2^k], up to the last SiLU.

    Without the output convolution this is the trunk of FlashWorld's 3DGS decoder.
    """

    def __init__(self, config: FlashWorldConfig, *, conv_out: bool):
        super().__init__()
        multipliers = config.vae_value("dim_mult")[::-1]
        temporal = (*config.vae_value("temperal_downsample")[::-1], False)
        base = config.vae.get("decoder_base_dim") or config.vae["base_dim"]
        widths = [base * m for m in (multipliers[0], *multipliers)]
        last = len(multipliers) - 1
        self.conv_in = FrameConv(config.latent_channels, widths[0], 3)
        self.mid_block = MidBlock(widths[0])
        self.up_blocks = nn.ModuleList(
            UpBlock(widths[i], widths[i + 1], config.vae_value("num_res_blocks"), up=i != last, temporal=temporal[i])
            for i in range(len(multipliers))
        )
        self.norm_out = ChannelRMSNorm(widths[-1])
        self.conv_out = FrameConv(widths[-1], config.vae_value("out_channels"), 3) if conv_out else None

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
    """Per-channel normalisation of latents, (z - mean) / std, and back. Holds no parameters and no buffers."""

    def __init__(self, config: FlashWorldConfig):
        super().__init__()
        self.mean, self.std = config.vae["latents_mean"], config.vae["latents_std"]

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

    def __init__(self, config: FlashWorldConfig):
        super().__init__(config)
        self.spatial_factor, self.patch = config.spatial_factor, config.pixel_patch
        self.encoder = EncoderBody(config)
        self.quant_conv = FrameConv(2 * config.latent_channels, 2 * config.latent_channels, 1)

    def moments(self, images: Tensor) -> Tensor:
        """Mean and log-variance of the posterior.

        Args:
            images: [N, 3, H, W] in [-1, 1].

        Returns:
            [N, 2 C, h, w]: C means, then C log-variances (not clamped), of un-normalised latents.

        Raises:
            FlashWorldError: images of another shape, or of a size the encoder cannot divide.
        """
        factor = self.spatial_factor
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % factor or images.shape[3] % factor:
            raise FlashWorldError(
                f"FrameEncoder: images must be [N, 3, H, W] with H and W multiples of {factor}, "
                f"got {list(images.shape)}."
            )
        x = patchify(images.to(self.quant_conv.weight.dtype), self.patch)
        return self.quant_conv(self.encoder(x.contiguous(memory_format=torch.channels_last)))

    def sample(self, moments: Tensor, noise: Tensor | None = None) -> Tensor:
        """Normalised latents [N, C, h, w], float32, of a posterior: mean + exp(logvar / 2) * noise.

        Args:
            moments: [N, 2 C, h, w] from `moments`.
            noise: [N, C, h, w] standard normal; None takes the mean.
        """
        mean, logvar = moments.float().chunk(2, dim=1)
        latents = mean if noise is None else mean + torch.exp(0.5 * logvar.clamp(-30.0, 20.0)) * noise
        return self.normalize(latents)

    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Normalised latents [N, C, h, w], float32, of images [N, 3, H, W] in [-1, 1]; ``noise`` as in `sample`."""
        return self.sample(self.moments(images), noise)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        return self.encode(images, noise)


class FrameDecoder(LatentNorm):
    """The Wan 2.2 VAE's decoder, frame by frame. Parameters: ``decoder.*`` and ``post_quant_conv.*`` as in diffusers.

    FlashWorld draws its pictures from Gaussians, so this decoder is not part of generation: it is what a VAE is trained
    with and what the 3DGS decoder starts from.
    """

    def __init__(self, config: FlashWorldConfig):
        super().__init__(config)
        self.patch = config.pixel_patch
        self.post_quant_conv = FrameConv(config.latent_channels, config.latent_channels, 1)
        self.decoder = DecoderBody(config, conv_out=True)

    def forward(self, latents: Tensor) -> Tensor:
        """Un-normalised latents [N, C, h, w] to images [N, 3, H, W], nominally in [-1, 1], not clamped."""
        latents = latents.to(self.post_quant_conv.weight.dtype).contiguous(memory_format=torch.channels_last)
        return unpatchify(self.decoder(self.post_quant_conv(latents)), self.patch)
