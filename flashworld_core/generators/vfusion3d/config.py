"""`VFusion3DConfig`: every size of a VFusion3D model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ...errors import FlashWorldError
from ...models.triplane import TriplaneConfig
from ...models.vit import VitConfig

CAMERA_NUMBERS = 16
IMAGE_SIZE = 512
MODEL_ID = "vfusion3d"
LICENSE = "VFusion3D weights: CC-BY-NC 4.0 (facebook/vfusion3d), no commercial use"


@dataclasses.dataclass(frozen=True)
class VFusion3DConfig:
    """Sizes of one model; the defaults are the published one's.

    Attributes:
        encoder: of the image encoder; a mapping becomes one.
        triplane: of transformer and decoder; a mapping becomes one.
        image_size: pixels along the side of what the encoder is given.
        model_id: the model's name.

    Raises:
        FlashWorldError: values that cannot belong to one model; the message names the field.
    """

    encoder: VitConfig = VitConfig()
    triplane: TriplaneConfig = TriplaneConfig()
    image_size: int = IMAGE_SIZE
    model_id: str = MODEL_ID

    def __post_init__(self):
        for name, kind in (("encoder", VitConfig), ("triplane", TriplaneConfig)):
            value = getattr(self, name)
            if isinstance(value, Mapping):
                object.__setattr__(self, name, _part(kind, value, name))
        for part in (self.encoder, self.triplane):
            if part.width % part.heads:
                raise _wrong(f"width {part.width} is no multiple of {part.heads} heads")
        if self.triplane.image_width != self.encoder.width:
            raise _wrong(f"triplane.image_width {self.triplane.image_width} is not encoder.width {self.encoder.width}")
        if not isinstance(self.image_size, int) or not self.encoder.patch <= self.image_size <= 8192:
            raise _wrong(f"image_size must lie between {self.encoder.patch} and 8192, got {self.image_size!r}")

    @classmethod
    def from_dict(cls, values: Mapping) -> VFusion3DConfig:
        """A config from `dataclasses.asdict`'s fields; fields left out take their defaults."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(map(str, set(values) - known)):
            raise _wrong(f"unknown fields {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        return cls(**values)


_LARGEST = 1 << 16  # of any size: keeps what is built from a stranger's file small until its tensors are compared


def _part(kind: type, values: Mapping, prefix: str):
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name, value in values.items():
        if name not in fields:
            raise _wrong(f"unknown field {prefix}.{str(name)[:40]}; known are {', '.join(fields)}")
        whole = fields[name].type == "int"
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        least = 0 if name == "modulation" else 1
        if not number or whole and not (isinstance(value, int) and least <= value <= _LARGEST):
            raise _wrong(f"{prefix}.{name} must be {'a whole number from 1 to 65536' if whole else 'a number'}")
    return kind(**values)


def _wrong(message: str) -> FlashWorldError:
    return FlashWorldError(f"The model config does not work: {message}.")
