"""ComfyUI's own VAE and CLIP sockets as parts of a FlashWorld model. Both are loaded and evicted by the host itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...flashworld_core.errors import FlashWorldError
from ...flashworld_core.generators.base import GeneratorInfo
from ...flashworld_core.models.wan_vae import LatentNorm
from ...flashworld_core.text import get_logger

logger = get_logger(__name__)

VAE_ADVICE = "connect Load VAE with wan2.2_vae.safetensors, or leave the vae input open"
CLIP_ADVICE = "connect Load CLIP with umt5_xxl and type wan, or leave the clip input open"


class SocketEncoder(nn.Module):
    """A VAE socket in the place of `encoder.FrameEncoder`.

    ComfyUI's VAE gives the mean of the posterior where FlashWorld draws a sample from it; the noise for that is
    drawn, so that a seed keeps its meaning, and not used.

    Args:
        vae: the socket's value.
        info: the model it must fit.

    Raises:
        FlashWorldError: another VAE than Wan 2.2's.
    """

    def __init__(self, vae: Any, info: GeneratorInfo):
        super().__init__()
        channels, factor = getattr(vae, "latent_channels", None), _spatial_factor(vae)
        if (channels, factor) != (info.vae.z_dim, info.vae.spatial_factor):
            raise FlashWorldError(
                f"the VAE on the vae input has {channels} channels and makes pictures {factor} times smaller, but "
                f"{info.model_id} needs {info.vae.z_dim} and {info.vae.spatial_factor}"
                + (f" (the Wan 2.2 VAE): {VAE_ADVICE}." if info.vae.z_dim == 48 else "; leave the input open.")
            )
        self._vae, self._norm = [vae], LatentNorm(info.vae)  # in a list: not ours to register or move

    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Normalized latents [N, C, h, w], float32, of images [N, 3, H, W] in [-1, 1]; ``noise`` is not used."""
        latents = []
        for picture in images.float().mul(0.5).add(0.5).permute(0, 2, 3, 1):
            # One image at a time: ComfyUI treats a batch as a video and downsamples it in time.
            raw = self._vae[0].encode(picture[None].contiguous())
            latents.append(raw.reshape(raw.shape[1], *raw.shape[-2:]))
        return self._norm.normalize(torch.stack(latents).float()).to(images.device)

    forward = encode


def _spatial_factor(vae: Any) -> int | None:
    """Pixels per latent of a VAE socket."""
    factor = getattr(vae, "spacial_compression_encode", None)
    value = factor() if callable(factor) else None
    return int(value) if isinstance(value, (int, float)) else None


class SocketText:
    """A CLIP socket in the place of `text.TextEncoder`.

    Args:
        clip: the socket's value.
        info: the model it must fit.
    """

    def __init__(self, clip: Any, info: GeneratorInfo):
        self._clip, self._info = clip, info

    def encode(self, prompts: str) -> Tensor:
        """[1, L, D] float32 on the CPU.

        Raises:
            FlashWorldError: another text encoder than the model's.
        """
        # The host reads (word:1.2) as a weight; a prompt here means what it says, as with the model's own encoder.
        literal = re.sub(r"([()])", r"\\\1", self._info.text.prompt_prefix + prompts)
        tokens = self._clip.tokenize(literal)
        return conditioning_rows(self._clip.encode_from_tokens_scheduled(tokens), self._info, "clip", CLIP_ADVICE)


def conditioning_rows(
    conditioning: Any,
    info: GeneratorInfo,
    socket: str,
    advice: str,
    notify: Callable[[str], None] = logger.warning,
) -> Tensor:
    """[1, L, D] float32 on the CPU from a CONDITIONING, at most as many rows as the model takes.

    Args:
        conditioning: ``[[tensor [1, rows, D], {...}], ...]``; of several, the first counts.
        info: the model it is for.
        socket, advice: the input's name and what to connect, for messages.
        notify: told if there are more texts than the one that is used.

    Raises:
        FlashWorldError: not a conditioning, or another width than the model's.
    """
    try:
        rows = conditioning[0][0]
        width = rows.shape[2]
    except (TypeError, IndexError, KeyError, AttributeError) as error:
        raise FlashWorldError(f"the {socket} input holds no text embedding; {advice}.") from error
    expected = info.text.text_dim
    if width != expected:
        raise FlashWorldError(
            f"the text encoder on the {socket} input gives {width} numbers per word, but {info.model_id} needs "
            f"{expected}" + (f" (UMT5-XXL): {advice}." if expected == 4096 else "; leave the input open.")
        )
    if len(conditioning) > 1 or len(rows) > 1:
        notify(f"The {socket} input holds several texts; only the first is used.")
    return rows[:1, : info.text.text_length].detach().float().cpu()
