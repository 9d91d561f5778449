"""How much work a generation is, counted from the networks themselves: for progress, and for the time it will take."""

from __future__ import annotations

import dataclasses
import functools

import torch

from ...runtime.work import count_operations
from .config import FlashWorldConfig

# What rendering one Gaussian into one view costs, in operations of a network that would take as long. Measured: see
# `runtime.speed`.
GAUSSIAN_OPERATIONS = 20_000


@dataclasses.dataclass(frozen=True)
class Work:
    """Floating-point operations of the parts of a generation.

    Attributes:
        transformer: of one pass over all views.
        decoder, encoder, renderer: of one view.
        views, steps: how many there are.
    """

    transformer: int
    decoder: int
    encoder: int
    renderer: int
    views: int
    steps: int

    @property
    def total(self) -> int:
        """Of the whole generation; the last step is not rendered and encoded."""
        per_step = self.transformer + self.views * self.decoder
        return self.steps * per_step + (self.steps - 1) * self.views * (self.renderer + self.encoder)


@functools.lru_cache(maxsize=32)
def work_of(config: FlashWorldConfig, views: int, height: int, width: int, steps: int) -> Work:
    """Count the work of a generation.

    Args:
        config: the model.
        views, height, width, steps: what is generated.
    """
    from ...models.wan_vae import FrameEncoder
    from .gaussian_decoder import GaussianDecoder
    from .transformer import FlashWorldTransformer

    rows, columns = config.latent_size(height, width)
    with torch.device("meta"):
        transformer, decoder = FlashWorldTransformer(config), GaussianDecoder(config)
        encoder = FrameEncoder(config.vae)
        x = torch.empty(1, config.input_channels, views, rows, columns)
        text = torch.empty(1, config.text_length, config.transformer.text_dim)
        features = torch.empty(1, config.feature_channels, rows, columns)
        latents = torch.empty(1, config.latent_channels, rows, columns)
        time, images = torch.empty(1), torch.empty(1, 3, height, width)
    transformer.to("meta")  # the rotary tables are made on the CPU
    head = config.head_grid(height, width)
    return Work(
        count_operations(lambda: transformer(x, time, text)),
        count_operations(lambda: decoder(features, latents)),
        count_operations(lambda: encoder.moments(images)),
        config.num_points * head[0] * head[1] * views * GAUSSIAN_OPERATIONS,
        views,
        steps,
    )
