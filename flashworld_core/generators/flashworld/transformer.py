"""FlashWorld's multi-view diffusion transformer: diffusers' Wan transformer with a wider first and last layer."""

from __future__ import annotations

import dataclasses
import math

import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed, WanTransformer3DModel
from torch import Tensor, nn

from ...errors import FlashWorldError
from .config import FlashWorldConfig


class FlashWorldTransformer(WanTransformer3DModel):
    """Wan's transformer over all latent pixels of all views, with FlashWorld's channels.

    Parameter names and shapes are the checkpoint's ``transformer`` ones. Everything diffusers offers its own class
    (gradient checkpointing, attention backends, regional compilation) works on this one.
    """

    def __init__(self, config: FlashWorldConfig):
        super().__init__(**dataclasses.asdict(config.transformer))
        width = config.transformer.width
        patch = config.patch_size
        self.flashworld = config
        self.patch_embedding = nn.Conv3d(config.input_channels, width, kernel_size=patch, stride=patch)
        self.proj_out = nn.Linear(width, math.prod(patch) * config.output_channels)
        # The rotary tables are no parameters: a model built on the meta device would be left without them.
        with torch.device("cpu"):
            self.rope = WanRotaryPosEmbed(config.transformer.attention_head_dim, patch, config.max_positions)

    def forward(self, hidden_states: Tensor, timestep: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """One denoising pass.

        Args:
            hidden_states: [B, 3 C + 6 + F, T, h, w], channels as in ``FlashWorldConfig.input_layout``.
            timestep: [B], one number per sample on the 0..1000 scale, float32.
            text: [B, L, D] text embedding; padding rows are zero vectors and are attended to like any other.

        Returns:
            velocity [B, C, T, h, w] float32 and features [B, F, T, h, w] in the compute dtype.

        Raises:
            FlashWorldError: inputs whose shapes do not fit the model.
        """
        self._check(hidden_states, timestep, text)
        dtype = self.patch_embedding.weight.dtype
        # Single precision for the time: half precision cannot tell the steps of the sinusoid apart.
        output = super().forward(hidden_states.to(dtype), timestep.float(), text.to(dtype), return_dict=False)[0]
        layout = self.flashworld.output_layout
        return output[:, layout["velocity"]].float(), output[:, layout["features"]]

    def _check(self, hidden_states: Tensor, timestep: Tensor, text: Tensor):
        config = self.flashworld
        if hidden_states.ndim != 5 or hidden_states.shape[1] != config.input_channels:
            raise FlashWorldError(
                f"hidden_states must be [B, {config.input_channels}, T, h, w], got {list(hidden_states.shape)}."
            )
        batch, _, *size = hidden_states.shape
        if any(length % patch for length, patch in zip(size, config.patch_size, strict=True)):
            raise FlashWorldError(f"views and latent size {size} must be multiples of {config.patch_size}.")
        tokens = [length // patch for length, patch in zip(size, config.patch_size, strict=True)]
        if max(tokens) > config.max_positions:
            raise FlashWorldError(
                f"{tokens} (views, rows, columns of tokens) exceed the model's "
                f"{config.max_positions} positions; use fewer views or a smaller image."
            )
        width = config.transformer.text_dim
        if text.ndim != 3 or text.shape[0] != batch or text.shape[2] != width or tuple(timestep.shape) != (batch,):
            raise FlashWorldError(
                f"Expected timestep [{batch}] and text [{batch}, L, {width}], "
                f"got {list(timestep.shape)} and {list(text.shape)}."
            )
