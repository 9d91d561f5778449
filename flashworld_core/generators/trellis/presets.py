"""Sizes of known TRELLIS models: the published image-large one, the embedded one, and one for tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ...errors import FlashWorldError
from ...models.dinov2 import Dinov2Config
from .config import CONFIGS, GaussianDecoderConfig, SlatFlowConfig, StructureFlowConfig, StructureVaeConfig

OFFICIAL_LICENSE = "MIT (TRELLIS, Microsoft)"
DISTILLED_LICENSE = "MIT (TRELLIS, Microsoft); few-step weights: see the license of MDT-dist (Apache-2.0 code)"
STEPS, DISTILLED_STEPS = 25, 2  # of each flow
GUIDANCE = 5.0  # of each flow, between noise levels 0.5 and 1
# fmt: off
_SLAT_MEAN = (-2.1687545776367188, -0.004347046371549368, -0.13352349400520325, -0.08418072760105133,
              -0.5271206498146057, 0.7238689064979553, -1.1414450407028198, 1.2039363384246826)
_SLAT_STD = (2.377650737762451, 2.386378288269043, 2.124418020248413, 2.1748552322387695,
             2.663944721221924, 2.371192216873169, 2.6217446327209473, 2.684523105621338)
# fmt: on


@dataclasses.dataclass(frozen=True)
class TrellisConfig:
    """Sizes and constants of a whole model.

    Attributes:
        structure_flow, structure_decoder, slat_flow, gaussian_decoder: sizes of the networks; mappings become records.
        image_encoder: sizes of DINOv2.
        slat_mean, slat_std: what latents of the second flow are scaled by before they are decoded.
        steps: default (structure, SLAT) steps.
        guidance: default (structure, SLAT) guidance.
        guidance_interval: noise levels between which it acts.
        shift: of both schedules.
        distilled: whether the flows were made for few steps.
        preview_size: pixels of a view of a result.
        model_id: the model's name.
    """

    structure_flow: StructureFlowConfig
    structure_decoder: StructureVaeConfig
    slat_flow: SlatFlowConfig
    gaussian_decoder: GaussianDecoderConfig
    image_encoder: Dinov2Config = Dinov2Config()
    slat_mean: tuple[float, ...] = _SLAT_MEAN
    slat_std: tuple[float, ...] = _SLAT_STD
    steps: tuple[int, int] = (STEPS, STEPS)
    guidance: tuple[float, float] = (GUIDANCE, GUIDANCE)
    guidance_interval: tuple[float, float] = (0.5, 1.0)
    shift: float = 3.0
    distilled: bool = False
    preview_size: int = 512
    model_id: str = "trellis-image-large"

    def __post_init__(self):
        for name, record in (*CONFIGS.items(), ("image_encoder", Dinov2Config)):
            value = getattr(self, name)
            if isinstance(value, Mapping):
                try:
                    object.__setattr__(self, name, record(**value))
                except TypeError as error:
                    raise FlashWorldError(f"The config's {name} does not fit: {error}.") from None
        for name in ("slat_mean", "slat_std", "steps", "guidance", "guidance_interval"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("slat_mean", "slat_std"):
            if len(getattr(self, name)) != self.slat_flow.in_channels:
                raise FlashWorldError(f"The config's {name} needs {self.slat_flow.in_channels} numbers.")
        grid = self.structure_flow.resolution * 2 ** (len(self.structure_decoder.channels) - 1)
        pairs = (
            (self.structure_flow.in_channels, self.structure_decoder.latent_channels, "structure latent channels"),
            (self.slat_flow.in_channels, self.gaussian_decoder.latent_channels, "voxel latent channels"),
            (self.structure_flow.cond_channels, self.image_encoder.hidden_size, "condition channels"),
            (self.slat_flow.cond_channels, self.image_encoder.hidden_size, "condition channels"),
            (grid, self.slat_flow.resolution, "voxels along a side"),
            (grid, self.gaussian_decoder.resolution, "voxels along a side"),
        )
        for one, other, what in pairs:
            if one != other:
                raise FlashWorldError(f"The config's networks do not belong together: {one} and {other} {what}.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrellisConfig:
        """The config of a manifest.

        Raises:
            FlashWorldError: names or values no model has.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise FlashWorldError(f"The config of the TRELLIS model does not fit: {error}.") from None

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    @property
    def resolution(self) -> int:
        """Voxels along a side of the cube."""
        return self.slat_flow.resolution


def official_config(distilled: bool = False) -> TrellisConfig:
    """The published image-large model; distilled weights are the same networks with other defaults."""
    flow = {"in_channels": 8, "out_channels": 8, "model_channels": 1024, "cond_channels": 1024, "num_blocks": 24,
            "num_heads": 16, "qk_rms_norm": True}  # fmt: skip
    steps = DISTILLED_STEPS if distilled else STEPS
    return TrellisConfig(
        StructureFlowConfig(resolution=16, **flow),
        StructureVaeConfig(latent_channels=8, channels=(512, 128, 32), num_res_blocks=2),
        SlatFlowConfig(resolution=64, io_block_channels=(128,), **flow),
        GaussianDecoderConfig(resolution=64, model_channels=768, latent_channels=8, num_blocks=12, num_heads=12,
                              num_gaussians=32),
        steps=(steps, steps),
        distilled=distilled,
        model_id="trellis-image-large-mdt" if distilled else "trellis-image-large",
    )  # fmt: skip


def tiny_config(slat_mean: tuple[float, ...] = (0.0,) * 6, slat_std: tuple[float, ...] = (1.0,) * 6) -> TrellisConfig:
    """`trellis-tiny`: 16^3 voxels with 6 latent channels, images of 64 pixels, made for 2 + 2 steps."""
    return TrellisConfig(
        StructureFlowConfig(resolution=8, in_channels=8, out_channels=8, model_channels=96, cond_channels=96,
                            num_blocks=4, num_heads=4, patch_size=2, qk_rms_norm=True),
        StructureVaeConfig(latent_channels=8, channels=(8, 2), num_res_blocks=1, num_res_blocks_middle=0),
        SlatFlowConfig(resolution=16, in_channels=6, out_channels=6, model_channels=64, cond_channels=96,
                       num_blocks=2, num_heads=4, io_block_channels=(16,), qk_rms_norm=True),
        GaussianDecoderConfig(resolution=16, model_channels=48, latent_channels=6, num_blocks=2, num_heads=4,
                              num_gaussians=4, window_size=4, scaling_bias=0.02, opacity_bias=0.5),
        Dinov2Config(hidden_size=96, num_hidden_layers=3, num_attention_heads=4, image_size=64, patch_size=16),
        slat_mean=slat_mean,
        slat_std=slat_std,
        steps=(DISTILLED_STEPS, DISTILLED_STEPS),
        guidance=(0.0, 0.0),
        distilled=True,
        preview_size=128,
        model_id="trellis-tiny",
    )  # fmt: skip


def nano_config() -> TrellisConfig:
    """The smallest model whose parts all do something: for tests."""
    tiny = tiny_config()
    return dataclasses.replace(
        tiny,
        structure_flow=dataclasses.replace(
            tiny.structure_flow, resolution=4, patch_size=1, model_channels=48, cond_channels=24, num_blocks=2
        ),
        structure_decoder=dataclasses.replace(tiny.structure_decoder, channels=(16, 8, 4), num_res_blocks_middle=1),
        slat_flow=dataclasses.replace(
            tiny.slat_flow, model_channels=48, cond_channels=24, num_blocks=1, io_block_channels=(8,)
        ),
        gaussian_decoder=dataclasses.replace(
            tiny.gaussian_decoder, model_channels=24, num_blocks=1, num_heads=2, num_gaussians=2
        ),
        image_encoder=dataclasses.replace(
            tiny.image_encoder, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=32
        ),
        preview_size=48,
        model_id="trellis-nano",
    )
