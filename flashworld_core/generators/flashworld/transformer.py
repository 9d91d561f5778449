"""FlashWorld's multi-view diffusion transformer: diffusers' Wan transformer with a wider first and last layer."""

from __future__ import annotations

import dataclasses
import math

import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed, WanTransformer3DModel
from torch import Tensor, nn

from ...errors import FlashWorldError
from .config import FlashWorldConfig
from .inference import Attention, FlashWorldBlock, TextKeys, modulated_norm, text_keys


class FlashWorldTransformer(WanTransformer3DModel):
    """Wan's transformer over all latent pixels of all views, with FlashWorld's channels.

    Parameter names and shapes are the checkpoint's ``transformer`` ones. Everything diffusers offers its own class
    (gradient checkpointing, attention backends, regional compilation) works on this one.

    Attributes:
        attention: computes the blocks' attention where no gradient is kept; None leaves it to diffusers' dispatcher,
            which takes torch's own unless `set_attention_backend` chose another.
    """

    attention: Attention | None = None
    _repeated_blocks = ["FlashWorldBlock"]  # what diffusers compiles, and keeps together
    _no_split_modules = ["FlashWorldBlock"]

    def __init__(self, config: FlashWorldConfig):
        super().__init__(**dataclasses.asdict(config.transformer))
        width = config.transformer.width
        patch = config.patch_size
        self.flashworld = config
        for block in self.blocks:
            block.__class__ = FlashWorldBlock  # the same parameters
        self.patch_embedding = nn.Conv3d(config.input_channels, width, kernel_size=patch, stride=patch)
        self.proj_out = nn.Linear(width, math.prod(patch) * config.output_channels)
        # The rotary tables are no parameters: a model built on the meta device would be left without them.
        with torch.device("cpu"):
            self.rope = WanRotaryPosEmbed(config.transformer.attention_head_dim, patch, config.max_positions)

    def forward(self, hidden_states: Tensor, timestep: Tensor, text: Tensor | TextKeys) -> tuple[Tensor, Tensor]:
        """One denoising pass.

        Args:
            hidden_states: [B, 3 C + 6 + F, T, h, w], channels as in ``FlashWorldConfig.input_layout``.
            timestep: [B], one number per sample on the 0..1000 scale, float32.
            text: [B, L, D] text embedding; padding rows are zero vectors and are attended to like any other. Or what
                `text_keys` made of it.

        Returns:
            velocity [B, C, T, h, w] float32 and features [B, F, T, h, w] in the compute dtype.

        Raises:
            FlashWorldError: inputs whose shapes do not fit the model.
        """
        self._check(hidden_states, timestep, text)
        dtype = self.patch_embedding.weight.dtype
        hidden_states = hidden_states.to(dtype)
        if isinstance(text, list) or self._runs_fast(hidden_states):
            output = self._infer(hidden_states, timestep, text)
        else:
            # Single precision for the time: half precision cannot tell the steps of the sinusoid apart.
            output = super().forward(hidden_states, timestep.float(), text.to(dtype), return_dict=False)[0]
        layout = self.flashworld.output_layout
        return output[:, layout["velocity"]].float(), output[:, layout["features"]]

    @torch.no_grad()
    def text_keys(self, text: Tensor) -> Tensor | TextKeys:
        """What the blocks make of a text embedding [1, L, D], for every step of a generation."""
        if not self._runs_fast(text):
            return text
        dtype = self.patch_embedding.weight.dtype
        return text_keys(self.blocks, self.condition_embedder.text_embedder(text.to(dtype)))

    def _runs_fast(self, sample: Tensor) -> bool:
        """Whether a pass over one sample takes the way of `inference`."""
        fused = getattr(self.blocks[0].attn1, "fused_projections", False)
        autocast = torch.is_autocast_enabled(sample.device.type if sample.device.type != "meta" else "cpu")
        return not (torch.is_grad_enabled() or self.training or autocast or fused) and len(sample) == 1

    def _infer(self, hidden_states: Tensor, timestep: Tensor, text: Tensor | TextKeys) -> Tensor:
        """`WanTransformer3DModel.forward` of one sample without gradients."""
        keys = text if isinstance(text, list) else self.text_keys(text)
        rotary = self.rope(hidden_states)
        x = self.patch_embedding(hidden_states)
        grid = x.shape[2:]
        x = x.flatten(2).transpose(1, 2).contiguous()
        embedder = self.condition_embedder
        time = embedder.time_embedder(embedder.timesteps_proj(timestep.float())).to(x.dtype)
        modulation = embedder.time_proj(embedder.act_fn(time)).unflatten(1, (6, -1))
        for block, key in zip(self.blocks, keys, strict=True):
            x = block(x, key, modulation, rotary, self.attention)
        shift, scale = (self.scale_shift_table.to(time.device) + time[:, None])[0]
        x = self.proj_out(modulated_norm(self.norm_out, x, scale, shift))
        x = x.unflatten(2, (*self.flashworld.patch_size, -1)).unflatten(1, grid)
        # [1, T, h, w, pt, ph, pw, C] to [1, C, T pt, h ph, w pw]
        return x.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def _check(self, hidden_states: Tensor, timestep: Tensor, text: Tensor | TextKeys):
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
        if isinstance(text, list):
            return
        if text.ndim != 3 or text.shape[0] != batch or text.shape[2] != width or tuple(timestep.shape) != (batch,):
            raise FlashWorldError(
                f"Expected timestep [{batch}] and text [{batch}, L, {width}], "
                f"got {list(timestep.shape)} and {list(text.shape)}."
            )
