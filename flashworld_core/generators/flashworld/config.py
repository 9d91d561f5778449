"""`FlashWorldConfig`: every size of a FlashWorld model, and the one place where its channel order is written down."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from ...errors import FlashWorldError
from ...models.wan_vae_blocks import WanVaeConfig

RAYMAP_CHANNELS = 6


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes of the transformer before FlashWorld's widening: keyword arguments of diffusers' ``WanTransformer3DModel``.

    Raises:
        FlashWorldError: values that cannot belong to one network; the message names the field.
    """

    num_attention_heads: int
    attention_head_dim: int
    num_layers: int
    ffn_dim: int
    text_dim: int
    in_channels: int = 16
    out_channels: int = 16
    patch_size: tuple[int, int, int] = (1, 2, 2)
    freq_dim: int = 256
    cross_attn_norm: bool = True
    qk_norm: str | None = "rms_norm_across_heads"
    eps: float = 1e-6
    image_dim: int | None = None
    added_kv_proj_dim: int | None = None
    rope_max_seq_len: int = 1024
    pos_embed_seq_len: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "patch_size", tuple(self.patch_size))
        for name in ("num_attention_heads", "attention_head_dim", "num_layers", "ffn_dim", "text_dim"):
            _positive(f"transformer.{name}", getattr(self, name))
        for name in ("image_dim", "added_kv_proj_dim"):
            if getattr(self, name) is not None:
                raise _wrong(f"transformer.{name} must be absent: FlashWorld has no image branch")
        if self.patch_size[:1] != (1,) or len(self.patch_size) != 3:
            raise _wrong(f"transformer.patch_size must be (1, rows, columns), got {self.patch_size}")

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.num_attention_heads * self.attention_head_dim


@dataclasses.dataclass(frozen=True)
class FlashWorldConfig:
    """Sizes and constants of one FlashWorld model.

    Attributes:
        transformer: sizes of the transformer; a mapping becomes one.
        vae: sizes of the VAE; a mapping becomes one.
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

    transformer: TransformerConfig
    vae: WanVaeConfig
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
        for name, kind in (("transformer", TransformerConfig), ("vae", WanVaeConfig)):
            value = getattr(self, name)
            if isinstance(value, Mapping):
                object.__setattr__(self, name, _from_mapping(kind, value, f"{name}."))
            elif not isinstance(value, kind):
                raise _wrong(f"{name} must be a dictionary, got {type(value).__name__}")
        for name in ("scale_range", "timestep_indices"):  # lists from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("feature_channels", "text_length", "num_points", "views", "height", "width"):
            _positive(name, getattr(self, name))
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

    # --- sizes ---------------------------------------------------------------------------------------------

    @property
    def latent_channels(self) -> int:
        """C, channels of the VAE's latents."""
        return self.vae.z_dim

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Frames, rows and columns of latent pixels per transformer token."""
        return self.transformer.patch_size

    @property
    def max_positions(self) -> int:
        """Length of the rotary tables: the most frames, token rows or token columns the transformer takes."""
        return self.transformer.rope_max_seq_len

    @property
    def pixel_patch(self) -> int:
        """Side of the pixel block the VAE folds into channels before its first convolution."""
        return self.vae.pixel_patch

    @property
    def head_factor(self) -> int:
        """Rows (and columns) of the Gaussian head's grid per latent row (and column)."""
        return self.vae.trunk_factor

    @property
    def spatial_factor(self) -> int:
        """Image pixels per latent pixel, along each axis."""
        return self.vae.spatial_factor

    @property
    def size_multiple(self) -> tuple[int, int]:
        """(rows, columns): image heights and widths must be multiples of these."""
        return self.spatial_factor * self.patch_size[1], self.spatial_factor * self.patch_size[2]

    @property
    def sh_coefficients(self) -> int:
        """K, spherical-harmonic coefficients per color."""
        return (self.sh_degree + 1) ** 2

    @property
    def point_channels(self) -> int:
        """Head channels per Gaussian: 3 K colors, 2 ray offset, depth, opacity, 3 scales, 4 quaternion."""
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
                f"The image size {width}x{height} does not fit the model: use a width that is a multiple "
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
        """Head channels of one Gaussian by name, in order. ``sh`` is coefficient-major: channel 3 k + color."""
        return _slices(sh=3 * self.sh_coefficients, uv_offset=2, depth=1, opacity=1, scales=3, quats=4)

    # --- JSON ----------------------------------------------------------------------

    def to_dict(self) -> dict:
        """All fields as plain values (tuples stay tuples); `from_dict` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> FlashWorldConfig:
        """A config from `to_dict`'s fields; fields left out take their defaults.

        Raises:
            FlashWorldError: unknown or missing fields, or values that cannot belong to one model.
        """
        return _from_mapping(cls, values)

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


def _from_mapping(kind: type, values: Mapping, prefix: str = ""):
    """``kind(**values)``; the message of what does not fit names the fields."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(map(str, set(values) - set(fields))):
        raise _wrong(f"unknown fields {', '.join(prefix + name for name in unknown)}; known are {', '.join(fields)}")
    needed = (name for name, field in fields.items() if field.default is dataclasses.MISSING)
    if missing := sorted(set(needed) - set(values)):
        raise _wrong(f"fields {', '.join(prefix + name for name in missing)} are missing")
    for name, value in values.items():
        _check_type(prefix + name, fields[name].type, value)
    try:
        return kind(**values)
    except (TypeError, KeyError) as error:
        raise _wrong(f"a field has the wrong type ({error})") from error


def _check_type(name: str, annotation: str, value) -> None:
    """Refuse a number of JSON that is none, or that no network could be built with."""
    items = value if isinstance(value, (list, tuple)) and annotation.startswith("tuple") else (value,)
    for item in items:
        if item is None and "None" in annotation or annotation in ("TransformerConfig", "WanVaeConfig"):
            continue
        number = isinstance(item, (int, float)) and not isinstance(item, bool)
        if "bool" in annotation:
            fits, wanted = isinstance(item, bool), "true or false"
        elif "float" in annotation:
            fits, wanted = number and abs(item) < 1e9, "a number"
        elif "int" in annotation:
            fits, wanted = number and isinstance(item, int) and 0 <= item < 1 << 31, "a whole number below 2^31"
        else:
            fits, wanted = isinstance(item, str), "text"
        if not fits:
            raise _wrong(f"{name} must be {wanted}, got {repr(item)[:40]}")


def _slices(**widths: int) -> dict[str, slice]:
    layout, start = {}, 0
    for name, width in widths.items():
        layout[name] = slice(start, start + width)
        start += width
    return layout


def _positive(name: str, value):
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong(f"{name} must be a positive whole number, got {value!r}")


def _wrong(message: str) -> FlashWorldError:
    return FlashWorldError(f"The model config does not work: {message}.")
