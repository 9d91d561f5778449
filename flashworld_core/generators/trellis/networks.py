"""The networks of a model by their names: in files of ours as prefixes, in a run as stages."""

from __future__ import annotations

from torch import nn

from ...models.dinov2 import ImageTokens
from .gaussian_decoder import GaussianDecoder
from .presets import TrellisConfig
from .slat_flow import SlatFlow
from .structure_flow import StructureFlow
from .structure_vae import StructureDecoder

FLOWS = ("structure_flow", "slat_flow")
IMAGE_ENCODER = "image_encoder"
# A part's class; its config has the part's name in `TrellisConfig`.
CLASSES = {
    "structure_flow": StructureFlow,
    "structure_decoder": StructureDecoder,
    "slat_flow": SlatFlow,
    "gaussian_decoder": GaussianDecoder,
    IMAGE_ENCODER: ImageTokens,
}
# Stage names of a run, in the order they run.
STAGES = {
    "encoder": IMAGE_ENCODER,
    "structure_flow": "structure_flow",
    "structure_decoder": "structure_decoder",
    "slat_flow": "slat_flow",
    "decoder": "gaussian_decoder",
}
TITLES = {name: name.replace("_", " ") for name in CLASSES}


def build(part: str, config: TrellisConfig) -> nn.Module:
    """A network with fresh weights (on the default device, which may be meta)."""
    return CLASSES[part](getattr(config, part))
