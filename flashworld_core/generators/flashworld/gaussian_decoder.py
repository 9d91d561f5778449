"""The 3DGS decoder: from a frame's features and latents to its Gaussians."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import FlashWorldError
from ...models.wan_vae import DecoderBody
from ...models.wan_vae_blocks import FrameConv
from .cameras import camera_rays
from .config import FlashWorldConfig

# The head is trained with these factors on weight and bias: slow view-dependent color, very slow ray offsets.
_RATE = {"sh": 0.5, "uv_offset": 0.01}
_INITIAL_OPACITY = 0.1
_INITIAL_SCALE = 1.0  # pixels of the head's grid


class GaussianHead(nn.Module):
    """3x3 convolution to the raw Gaussian channels, with fixed per-channel factors on weight and bias.

    Parameters: ``gs_proj.weight``, ``gs_proj.bias``; buffer ``lrs_mul``.
    """

    def __init__(self, config: FlashWorldConfig, in_channels: int):
        super().__init__()
        self.gs_proj = nn.Conv2d(in_channels, config.gaussian_channels, 3, padding=1)
        self.register_buffer("lrs_mul", head_multipliers(config).to(self.gs_proj.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, h_g, w_g] -> [N, P (11 + 3 K), h_g, w_g] float32."""
        weight = self.gs_proj.weight * self.lrs_mul[:, None, None, None]
        return F.conv2d(x, weight, self.gs_proj.bias * self.lrs_mul, padding=1).float()


def head_multipliers(config: FlashWorldConfig) -> Tensor:
    """[P (11 + 3 K)] factors on the head's weight and bias: 1, but 0.5 for SH above degree 0, 0.01 for ray offsets."""
    with torch.device("cpu"):
        point, layout = torch.ones(config.point_channels), config.point_layout
        point[layout["sh"]][3:] = _RATE["sh"]
        point[layout["uv_offset"]] = _RATE["uv_offset"]
        return point.repeat(config.num_points)


def head_initial_bias(config: FlashWorldConfig) -> Tensor:
    """[P (11 + 3 K)] bias, after the factors, of an untrained head.

    Gray, depth 1, opacity 0.1, one pixel wide, not rotated.
    """
    with torch.device("cpu"):
        point, layout = torch.zeros(config.point_channels), config.point_layout
        low, high = config.scale_range
        point[layout["opacity"]] = _logit(_INITIAL_OPACITY)
        point[layout["scales"]] = _logit(min(max((_INITIAL_SCALE - low) / (high - low), 1e-3), 1 - 1e-3))
        point[layout["quats"].start] = 1.0
        return point.repeat(config.num_points)


class GaussianDecoder(nn.Module):
    """FlashWorld's 3DGS decoder, frame by frame.

    A Wan VAE decoder without its last convolution, fed with the predicted latents and, through ``extra_conv_in``, with
    the transformer's features; a Gaussian head on top. Parameter names are the checkpoint's ``recon_decoder`` ones.
    """

    def __init__(self, config: FlashWorldConfig):
        super().__init__()
        self.config = config
        self.post_quant_conv = FrameConv(config.latent_channels, config.latent_channels, 1)
        self.decoder = DecoderBody(config.vae, conv_out=False)
        self.extra_conv_in = FrameConv(config.feature_channels, self.decoder.conv_in.out_channels, 3)
        self.gs_head = GaussianHead(config, self.decoder.norm_out.gamma.shape[0])
        self.reset_head()

    @torch.no_grad()
    def reset_head(self) -> None:
        """The state training starts from: features without effect, every Gaussian as in `head_initial_bias`."""
        nn.init.zeros_(self.extra_conv_in.weight)
        nn.init.zeros_(self.extra_conv_in.bias)
        nn.init.zeros_(self.gs_head.gs_proj.weight)
        bias = head_initial_bias(self.config) / head_multipliers(self.config)
        self.gs_head.gs_proj.bias.copy_(bias)

    def load_vae_decoder(self, state_dict: dict[str, Tensor]) -> None:
        """Start from a trained VAE decoder: its ``decoder.*`` and ``post_quant_conv.*``, trimmed or not.

        The output convolution has no place here and is skipped; entries of other parts are ignored.

        Raises:
            FlashWorldError: decoder tensors that are missing or of another shape.
        """
        own = {name for name in self.state_dict() if name.startswith(("decoder.", "post_quant_conv."))}
        kept = {
            name: tensor
            for name, tensor in state_dict.items()
            if name.startswith(("decoder.", "post_quant_conv.")) and not name.startswith("decoder.conv_out.")
        }
        if missing := sorted(own - set(kept)):
            raise FlashWorldError(
                f"GaussianDecoder.load_vae_decoder: {len(missing)} tensors are missing, first {missing[0]!r}: "
                "give the state dict of a Wan 2.2 VAE of the config's sizes."
            )
        try:
            self.load_state_dict(kept, strict=False)
        except RuntimeError as error:
            raise FlashWorldError(
                f"GaussianDecoder.load_vae_decoder: the VAE does not have the config's sizes: {error}"
            ) from error

    def forward(self, features: Tensor, latents: Tensor) -> Tensor:
        """Raw head output.

        Args:
            features: [N, F, h, w], the transformer's feature maps, one frame each.
            latents: [N, C, h, w], predicted latents, un-normalized.

        Returns:
            [N, P (11 + 3 K), h_g, w_g] float32; `gaussians_from_raw` turns it into Gaussians.

        Raises:
            FlashWorldError: inputs of other shapes.
        """
        expected = (latents.shape[0], self.config.feature_channels, *latents.shape[2:])
        if latents.ndim != 4 or latents.shape[1] != self.config.latent_channels or tuple(features.shape) != expected:
            raise FlashWorldError(
                f"Latents must be [N, {self.config.latent_channels}, h, w] and features "
                f"[N, {self.config.feature_channels}, h, w], got {list(latents.shape)} and {list(features.shape)}."
            )
        dtype = self.extra_conv_in.weight.dtype
        features = features.to(dtype).contiguous(memory_format=torch.channels_last)
        latents = latents.to(dtype).contiguous(memory_format=torch.channels_last)
        return self.gs_head(self.decoder(self.post_quant_conv(latents), residual=self.extra_conv_in(features)))

    def gaussians_from_raw(self, raw: Tensor, cameras: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The module function `gaussians_from_raw` with this model's numbers."""
        return gaussians_from_raw(raw, cameras, num_points=self.config.num_points, scale_range=self.config.scale_range)


def gaussians_from_raw(
    raw: Tensor, cameras: Tensor, *, num_points: int = 2, scale_range: tuple[float, float] = (0.0, 16.0)
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Activate the head's output and place the Gaussians along the cameras' rays. Differentiable.

    Args:
        raw: [N, P (11 + 3 K), h_g, w_g], one frame per camera.
        cameras: [N, 11] camera vectors in FlashWorld's normalized OpenGL frame.
        num_points: P.
        scale_range: smallest and largest scale in pixels of the head's grid.

    Returns:
        (means [..., 3], quats [..., 4] wxyz unit, scales [..., 3], opacities [...], sh [..., K, 3]), each with leading
        dimensions [N, P, h_g, w_g], so that flattening them gives the order frame, point, row, column. Same frame and
        units as ``cameras``.

    Raises:
        FlashWorldError: a channel count no spherical-harmonic degree explains, or another number of cameras.
    """
    n, channels, rows, columns = raw.shape
    coefficients, rest = divmod(channels // num_points - 11, 3)
    if channels % num_points or rest or coefficients not in (1, 4, 9, 16) or tuple(cameras.shape) != (n, 11):
        raise FlashWorldError(
            f"{channels} channels with {num_points} points per pixel and cameras of shape "
            f"{list(cameras.shape)} do not fit: expected {num_points} x (11 + 3 K) channels and [{n}, 11] cameras."
        )
    raw = raw.float().unflatten(1, (num_points, -1)).movedim(2, -1)  # [N, P, rows, columns, 11 + 3 K]
    sh, uv_offset, depth, opacity, scale, quat = raw.split([3 * coefficients, 2, 1, 1, 3, 4], dim=-1)

    depth = depth.exp()
    origins, directions = camera_rays(cameras.float(), rows, columns, uv_offset)
    means = origins[:, None, None, None] + depth * directions

    # The focal lengths stand in the numerator where a pixel's footprint has them in the denominator: the published
    # weights are trained with this form.
    focal = cameras[:, None, None, None, 7:9].float()
    pixel = torch.linalg.vector_norm(focal / focal.new_tensor([columns, rows]), dim=-1, keepdim=True) * depth
    low, high = scale_range
    scales = (low + (high - low) * scale.sigmoid()) * pixel
    return means, F.normalize(quat, dim=-1), scales, opacity.sigmoid()[..., 0], sh.unflatten(-1, (coefficients, 3))


def _logit(probability: float) -> float:
    return math.log(probability / (1.0 - probability))
