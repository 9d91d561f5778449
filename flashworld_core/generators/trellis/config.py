"""Sizes of a TRELLIS model: one record for each network, with the argument names of the published files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ...errors import FlashWorldError

_IGNORED = ("use_fp16", "pe_mode", "attn_mode", "scaling_activation")
_REQUIRED = {"pe_mode": "ape", "attn_mode": "swin", "scaling_activation": "softplus"}
_MAX_SIZE = 1 << 16


def _positive(record: Any, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MAX_SIZE:
            raise FlashWorldError(f"The config's {name} must be a whole number from 1 to {_MAX_SIZE}, got {value!r}.")


def _heads(record: Any) -> None:
    if record.model_channels % record.num_heads:
        raise FlashWorldError(
            f"The config's model_channels {record.model_channels} are not a multiple of its num_heads "
            f"{record.num_heads}."
        )


@dataclasses.dataclass(frozen=True)
class StructureFlowConfig:
    """Sizes of the structure flow; latents are [in_channels, resolution^3]."""

    resolution: int
    in_channels: int
    out_channels: int
    model_channels: int
    cond_channels: int
    num_blocks: int
    num_heads: int
    mlp_ratio: float = 4
    patch_size: int = 1
    qk_rms_norm: bool = False

    def __post_init__(self):
        _positive(self, "resolution", "in_channels", "out_channels", "model_channels", "cond_channels", "num_blocks",
                  "num_heads", "patch_size")  # fmt: skip
        _heads(self)
        if self.resolution % self.patch_size:
            raise FlashWorldError(f"A resolution of {self.resolution} cannot be cut into patches of {self.patch_size}.")


@dataclasses.dataclass(frozen=True)
class StructureVaeConfig:
    """Sizes of the structure's encoder or decoder; ``channels`` are listed from its input to its output."""

    latent_channels: int
    channels: tuple[int, ...]
    num_res_blocks: int
    num_res_blocks_middle: int = 2
    out_channels: int = 1

    def __post_init__(self):
        object.__setattr__(self, "channels", tuple(self.channels))
        _positive(self, "latent_channels", "num_res_blocks", "out_channels")
        if not self.channels:
            raise FlashWorldError("The config's channels of the structure decoder are empty.")


@dataclasses.dataclass(frozen=True)
class SlatFlowConfig:
    """Sizes of the flow over voxels' latents; ``resolution`` is that of the voxels."""

    resolution: int
    in_channels: int
    out_channels: int
    model_channels: int
    cond_channels: int
    num_blocks: int
    num_heads: int
    io_block_channels: tuple[int, ...]
    mlp_ratio: float = 4
    patch_size: int = 2
    num_io_res_blocks: int = 2
    qk_rms_norm: bool = False

    def __post_init__(self):
        object.__setattr__(self, "io_block_channels", tuple(self.io_block_channels or ()))
        _positive(self, "resolution", "in_channels", "out_channels", "model_channels", "cond_channels", "num_blocks",
                  "num_heads", "num_io_res_blocks")  # fmt: skip
        _heads(self)
        if 2 ** len(self.io_block_channels) != self.patch_size or not self.io_block_channels:
            raise FlashWorldError(
                f"A patch_size of {self.patch_size} needs io_block_channels for each halving, got "
                f"{list(self.io_block_channels)}."
            )


@dataclasses.dataclass(frozen=True)
class GaussianDecoderConfig:
    """Sizes and constants of the Gaussian decoder.

    Attributes:
        voxel_size: reach of a Gaussian's offset, in voxels, as the width of a cube.
        filter_3d: smallest scale, in the asset frame.
        filter_2d: low-pass filter of renderings, in square pixels.
        scaling_bias, opacity_bias: scale and opacity of an output of 0.
        rates: factors on the outputs by name, other than 1; a mapping becomes pairs.
    """

    resolution: int
    model_channels: int
    latent_channels: int
    num_blocks: int
    num_heads: int
    num_gaussians: int
    mlp_ratio: float = 4
    window_size: int = 8
    voxel_size: float = 1.5
    perturb_offset: bool = True
    filter_3d: float = 0.0009
    filter_2d: float = 0.1
    scaling_bias: float = 0.004
    opacity_bias: float = 0.1
    rates: tuple[tuple[str, float], ...] = (("_rotation", 0.1),)

    def __post_init__(self):
        rates = self.rates.items() if isinstance(self.rates, Mapping) else self.rates
        object.__setattr__(self, "rates", tuple(sorted((str(k), float(v)) for k, v in rates if v != 1)))
        _positive(self, "resolution", "model_channels", "latent_channels", "num_blocks", "num_heads", "num_gaussians",
                  "window_size")  # fmt: skip
        _heads(self)


CONFIGS = {
    "structure_flow": StructureFlowConfig,
    "structure_decoder": StructureVaeConfig,
    "slat_flow": SlatFlowConfig,
    "gaussian_decoder": GaussianDecoderConfig,
}
_REPRESENTATION = {"2d_filter_kernel_size": "filter_2d", "3d_filter_kernel_size": "filter_3d", "lr": "rates"}


def config_from_args(part: str, args: Mapping[str, Any]):
    """A network's config from the arguments of a published file.

    Args:
        part: a key of `CONFIGS`.
        args: by the published names; the Gaussian decoder's may nest ``representation_config``.

    Raises:
        FlashWorldError: names no network here has, or missing ones.
    """
    values = dict(args)
    inner = values.pop("representation_config", None) or {}
    if part == "gaussian_decoder":
        values |= {_REPRESENTATION.get(name, name): value for name, value in inner.items()}
    for name, wanted in _REQUIRED.items():
        if values.get(name, wanted) != wanted:
            raise FlashWorldError(f"The config's {name} is {values[name]!r}; only {wanted!r} is known here.")
    values = {name: value for name, value in values.items() if name not in _IGNORED}
    try:
        return CONFIGS[part](**values)
    except TypeError as error:
        raise FlashWorldError(f"The config of the {part.replace('_', ' ')} does not fit: {error}.") from None
