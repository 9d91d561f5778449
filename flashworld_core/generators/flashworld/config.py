"""`FlashWorldConfig`: every size of a FlashWorld model, and the one place where its channel order is written down."""

from __future__ import annotations

import dataclasses
import json

from ...errors import FlashWorldError
from .official_sizes import OFFICIAL_TRANSFORMER, OFFICIAL_VAE

RAYMAP_CHANNELS = 6

# What diffusers itself assumes where a dictionary is silent, for the keys this package reads.
_TRANSFORMER_DEFAULTS = {"patch_size": (1, 2, 2), "rope_max_seq_len": 1024}
_VAE_DEFAULTS = {
    "dim_mult": (1, 2, 4, 4),
    "num_res_blocks": 2,
    "attn_scales": (),
    "temperal_downsample": (False, True, True),
    "dropout": 0.0,
    "is_residual": False,
    "in_channels": 3,
    "out_channels": 3,
    "patch_size": None,
}


@dataclasses.dataclass(frozen=True)
class FlashWorldConfig:
    """Sizes and constants of one FlashWorld model.

    Attributes:
        transformer: keyword arguments of diffusers' ``WanTransformer3DModel`` before FlashWorld's widening
            (``in_channels`` and ``out_channels`` are the base model's).
        vae: keyword arguments of diffusers' ``AutoencoderKLWan`` (Wan 2.2 form: residual), including
            ``latents_mean`` and ``latents_std``, one number per latent channel.
        feature_channels: F, width of the feature map the transformer hands to the 3DGS decoder.
        text_length: tokens of the padded text, end token included.
        num_points: P, Gaussians per pixel of the head's grid.
        sh_degree: degree of the Gaussians' spherical harmonics, 0..3.
        scale_range: smallest and largest Gaussian scale in pixels of the head's grid.
        timestep_indices: indices into the 1000-entry noise schedule, one per step, noisiest first.
        shift: shift of the flow-matching schedule.
        views, height, width: what the model was trained on: T frames of H x W pixels.
        prompt_prefix: put before every prompt.
        model_id: the model's name, for reports and file headers.

    Raises:
        FlashWorldError: values that cannot belong to one model; the message names the field.
    """

    transformer: dict
    vae: dict
    feature_channels: int = 1024
    text_length: int = 512
    num_points: int = 2
    sh_degree: int = 2
    scale_range: tuple[float, float] = (0.0, 16.0)
    timestep_indices: tuple[int, ...] = (0, 250, 500, 750)
    shift: float = 3.0
    views: int = 24
    height: int = 480
    width: int = 704
    prompt_prefix: str = "[Static] "
    model_id: str = "flashworld"

    def __post_init__(self):
        # Lists from JSON become tuples, so that two configs compare equal whatever file they came from.
        for name in ("transformer", "vae"):
            value = getattr(self, name)
            if not isinstance(value, dict):
                raise _wrong(f"{name} must be a dictionary, got {type(value).__name__}")
            object.__setattr__(self, name, {key: _tupled(item) for key, item in value.items()})
        for name in ("scale_range", "timestep_indices"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check()

    def _check(self):
        for name in ("num_attention_heads", "attention_head_dim", "num_layers", "ffn_dim", "text_dim"):
            _positive(f"transformer.{name}", self.transformer.get(name))
        for name in ("base_dim", "z_dim", "num_res_blocks"):
            _positive(f"vae.{name}", self.vae_value(name))
        for name in ("feature_channels", "text_length", "num_points", "views", "height", "width"):
            _positive(name, getattr(self, name))
        for name in ("image_dim", "added_kv_proj_dim"):
            if self.transformer.get(name) is not None:
                raise _wrong(f"transformer.{name} must be absent: FlashWorld has no image branch")
        if self.patch_size[0] != 1 or len(self.patch_size) != 3:
            raise _wrong(f"transformer.patch_size must be (1, rows, columns), got {self.patch_size}")
        if not self.vae_value("is_residual") or self.vae_value("attn_scales") or self.vae_value("dropout"):
            raise _wrong("vae must be the Wan 2.2 form: is_residual true, no attn_scales, no dropout")
        multipliers, temporal = self.vae_value("dim_mult"), self.vae_value("temperal_downsample")
        if not multipliers or len(temporal) != len(multipliers) - 1:
            raise _wrong(
                f"vae.temperal_downsample needs one entry fewer than vae.dim_mult, got {temporal} and {multipliers}"
            )
        self._check_shortcuts(multipliers, temporal)
        pixels = 3 * self.pixel_patch**2
        if self.vae_value("in_channels") != pixels or self.vae_value("out_channels") != pixels:
            raise _wrong(f"vae.in_channels and out_channels must be 3 * patch_size^2 = {pixels}")
        for name in ("latents_mean", "latents_std"):
            values = self.vae.get(name)
            if values is None or len(values) != self.latent_channels:
                raise _wrong(f"vae.{name} must hold z_dim = {self.latent_channels} numbers")
        if not all(value > 0 for value in self.vae["latents_std"]):
            raise _wrong("vae.latents_std must be positive")
        if self.sh_degree not in range(4):
            raise _wrong(f"sh_degree must be 0, 1, 2 or 3, got {self.sh_degree}")
        if len(self.scale_range) != 2 or not 0 <= self.scale_range[0] < self.scale_range[1]:
            raise _wrong(
                f"scale_range must be (smallest, largest) with 0 <= smallest < largest, got {self.scale_range}"
            )
        if not self.timestep_indices or any(not 0 <= index < 1000 for index in self.timestep_indices):
            raise _wrong(f"timestep_indices must lie in 0..999, got {self.timestep_indices}")
        if any(later <= index for index, later in zip(self.timestep_indices, self.timestep_indices[1:], strict=False)):
            raise _wrong(f"timestep_indices must increase (noisiest first), got {self.timestep_indices}")
        if not self.shift > 0:
            raise _wrong(f"shift must be positive, got {self.shift}")

    @staticmethod
    def _check_shortcuts(multipliers: tuple[int, ...], temporal: tuple[bool, ...]):
        """The VAE's parameter-free shortcuts deal channels out evenly; not every list of widths allows that."""
        last = len(multipliers) - 1
        down, up = (1, *multipliers), (multipliers[-1], *multipliers[::-1])
        for i in range(last + 1):
            factor = 1 if i == last else 8 if temporal[i] else 4
            if down[i] * factor % down[i + 1]:
                hint = ", repeat the multiplier before it" if i == last else ""
                raise _wrong(
                    f"vae.dim_mult {multipliers}: stage {i} cannot widen from {down[i]} to {down[i + 1]}{hint}"
                )
            if i < last and up[i + 1] * (8 if temporal[::-1][i] else 4) % up[i]:
                raise _wrong(f"vae.dim_mult {multipliers}: up block {i} cannot go from {up[i]} to {up[i + 1]}")

    def vae_value(self, name: str):
        """Entry ``name`` of `vae`, or the value diffusers assumes where it is silent."""
        return self.vae.get(name, _VAE_DEFAULTS.get(name))

    # --- sizes ---------------------------------------------------------------------------------------------

    @property
    def latent_channels(self) -> int:
        """C, channels of the VAE's latents."""
        return self.vae["z_dim"]

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Frames, rows and columns of latent pixels per transformer token."""
        return self.transformer.get("patch_size", _TRANSFORMER_DEFAULTS["patch_size"])

    @property
    def max_positions(self) -> int:
        """Length of the rotary tables: the most frames, token rows or token columns the transformer takes."""
        return self.transformer.get("rope_max_seq_len", _TRANSFORMER_DEFAULTS["rope_max_seq_len"])

    @property
    def pixel_patch(self) -> int:
        """Side of the pixel block the VAE folds into channels before its first convolution."""
        return self.vae_value("patch_size") or 1

    @property
    def head_factor(self) -> int:
        """Rows (and columns) of the Gaussian head's grid per latent row (and column)."""
        return 2 ** (len(self.vae_value("dim_mult")) - 1)

    @property
    def spatial_factor(self) -> int:
        """Image pixels per latent pixel, along each axis."""
        return self.pixel_patch * self.head_factor

    @property
    def size_multiple(self) -> tuple[int, int]:
        """(rows, columns): image heights and widths must be multiples of these."""
        return self.spatial_factor * self.patch_size[1], self.spatial_factor * self.patch_size[2]

    @property
    def sh_coefficients(self) -> int:
        """K, spherical-harmonic coefficients per colour."""
        return (self.sh_degree + 1) ** 2

    @property
    def point_channels(self) -> int:
        """Head channels per Gaussian: 3 K colours, 2 ray offset, depth, opacity, 3 scales, 4 quaternion."""
        return 11 + 3 * self.sh_coefficients

    @property
    def gaussian_channels(self) -> int:
        """Channels of the head: all points of one pixel."""
        return self.num_points * self.point_channels

    @property
    def input_channels(self) -> int:
        """Channels of the transformer's assembled input, 3 C + 6 + F."""
        return 3 * self.latent_channels + RAYMAP_CHANNELS + self.feature_channels

    @property
    def output_channels(self) -> int:
        """Channels of the transformer's output, C + F."""
        return self.latent_channels + self.feature_channels

    def latent_size(self, height: int | None = None, width: int | None = None) -> tuple[int, int]:
        """(h, w) of the latents of an image of ``height`` x ``width`` pixels (default: the config's own size).

        Raises:
            FlashWorldError: a size that is not a multiple of what the networks divide it by.
        """
        height = self.height if height is None else height
        width = self.width if width is None else width
        rows, columns = self.size_multiple
        if height < 1 or width < 1 or height % rows or width % columns:
            raise FlashWorldError(
                f"FlashWorldConfig: image size {width}x{height} does not fit the model: use a width that is a multiple "
                f"of {columns} and a height that is a multiple of {rows}."
            )
        return height // self.spatial_factor, width // self.spatial_factor

    def head_grid(self, height: int | None = None, width: int | None = None) -> tuple[int, int]:
        """(h_g, w_g) of the Gaussian head's grid for an image of ``height`` x ``width`` pixels."""
        rows, columns = self.latent_size(height, width)
        return rows * self.head_factor, columns * self.head_factor

    # --- channel order ------------------------------------------------------------------------------------

    @property
    def input_layout(self) -> dict[str, slice]:
        """Channels of the transformer's input by name, in order.

        ``noisy`` current noisy latents, ``raymap`` rays of each latent pixel, ``condition`` the clean image latent at
        the conditioned frame (zero elsewhere), ``feedback_features`` and ``feedback_latents`` the previous step's
        features and re-encoded renders (zero at the first step).
        """
        latent, features = self.latent_channels, self.feature_channels
        return _slices(
            noisy=latent, raymap=RAYMAP_CHANNELS, condition=latent, feedback_features=features, feedback_latents=latent
        )

    @property
    def output_layout(self) -> dict[str, slice]:
        """Channels of the transformer's output by name, in order: ``velocity``, ``features``."""
        return _slices(velocity=self.latent_channels, features=self.feature_channels)

    @property
    def point_layout(self) -> dict[str, slice]:
        """Head channels of one Gaussian by name, in order. ``sh`` is coefficient-major: channel 3 k + colour."""
        return _slices(sh=3 * self.sh_coefficients, uv_offset=2, depth=1, opacity=1, scales=3, quats=4)

    # --- the official model and JSON ----------------------------------------------------------------------

    @classmethod
    def official(cls) -> FlashWorldConfig:
        """The published model: 24 views of 480 x 704 pixels, 5.03 billion transformer parameters."""
        return cls(transformer=dict(OFFICIAL_TRANSFORMER), vae=dict(OFFICIAL_VAE))

    def to_dict(self) -> dict:
        """All fields as plain values (tuples stay tuples); `from_dict` is the inverse."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, values: dict) -> FlashWorldConfig:
        """A config from `to_dict`'s fields; fields left out take their defaults.

        Raises:
            FlashWorldError: unknown or missing fields, or values that cannot belong to one model.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise _wrong(f"unknown fields {unknown}; known are {sorted(known)}")
        if missing := sorted({"transformer", "vae"} - set(values)):
            raise _wrong(f"fields {missing} are missing")
        try:
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise _wrong(f"a field has the wrong type ({error})") from error

    def to_json(self) -> str:
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> FlashWorldConfig:
        """The inverse of `to_json`.

        Raises:
            FlashWorldError: text that is not JSON, or not a FlashWorld config.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise _wrong(f"not JSON ({error})") from error
        if not isinstance(values, dict):
            raise _wrong(f"a JSON object was expected, got {type(values).__name__}")
        return cls.from_dict(values)


def _slices(**widths: int) -> dict[str, slice]:
    layout, start = {}, 0
    for name, width in widths.items():
        layout[name] = slice(start, start + width)
        start += width
    return layout


def _tupled(value):
    return tuple(_tupled(item) for item in value) if isinstance(value, (list, tuple)) else value


def _positive(name: str, value):
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong(f"{name} must be a positive whole number, got {value!r}")


def _wrong(message: str) -> FlashWorldError:
    return FlashWorldError(f"FlashWorldConfig: {message}.")
