"""`Manifest`: what a model says about itself, as ``config.json`` in a folder and in a safetensors file's metadata."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from ..errors import FlashWorldError
from ..formats.files import parse_json
from . import DTYPES

FORMAT_VERSION = 1
METADATA_KEY = "flashworld"  # of a safetensors file's metadata; holds the manifest as JSON

# Names of a model folder's parts, the first that is there counts.
WEIGHT_NAMES = ("model.safetensors", "model.ckpt")
VAE_NAMES = ("vae.safetensors", "vae", "wan2.2_vae.safetensors", "Wan2.2_VAE.pth")
TEXT_FOLDERS = ("text_encoder",)
TEXT_FILES = "umt5_xxl*.safetensors"


def find_beside(folder: Path, names: tuple[str, ...]) -> Path | None:
    """Find a model's part beside it: the first of ``names`` that exists in ``folder``."""
    return next((folder / name for name in names if (folder / name).exists()), None)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What belongs to a model beside its tensors.

    Attributes:
        generator: name of the generator the model belongs to, e.g. "flashworld".
        config: sizes, constants and the model's name; the generator parses it.
        license: the weights' license in one line.
        compute_dtype: the dtype to run in where none is asked for, if it is not the stored one: weights may be
            stored in half precision to be small and still be meant for single precision.
        notes: free JSON values (how it was trained, figures).
    """

    generator: str
    config: dict
    license: str = ""
    compute_dtype: str | None = None
    notes: dict = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        content = {
            "generator": self.generator,
            "format_version": FORMAT_VERSION,
            "license": self.license,
            **({"compute_dtype": self.compute_dtype} if self.compute_dtype else {}),
            "config": self.config,
            **({"notes": self.notes} if self.notes else {}),
        }
        text = json.dumps(content, indent=1)
        # One line per list of numbers: the file is for people too.
        return re.sub(r"\[[^\[\]{}]*\]", lambda match: " ".join(match[0].split()), text) + "\n"

    @staticmethod
    def recognizes(text: str) -> bool:
        """Whether ``text`` is for `from_json` to judge: not if it is a JSON object that speaks of other things."""
        try:
            content = parse_json(text, "")
        except FlashWorldError:
            return True
        return not isinstance(content, dict) or "generator" in content or "config" in content

    @classmethod
    def from_json(cls, text: str, source: str) -> Manifest:
        """The inverse of `to_json`.

        Args:
            text: the JSON.
            source: where it came from, for messages.

        Raises:
            FlashWorldError: not JSON, not a manifest, of a later format, or without a config.
        """
        content = parse_json(text, source)
        if not isinstance(content, dict) or not isinstance(content.get("generator"), str):
            raise FlashWorldError(f'{source} is not a model manifest (it names no "generator").')
        version = content.get("format_version", FORMAT_VERSION)
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise FlashWorldError(f"{source} has format version {version}; this program knows {FORMAT_VERSION}.")
        compute = content.get("compute_dtype")
        if compute is not None and compute not in DTYPES.values():
            raise FlashWorldError(f"{source}: compute_dtype {compute!r} is none of {', '.join(DTYPES.values())}.")
        values = content.get("config")
        if not isinstance(values, dict):
            raise FlashWorldError(f"{source} holds no config.")
        notes = content.get("notes")
        return cls(
            content["generator"],
            values,
            str(content.get("license", "")),
            compute,
            notes if isinstance(notes, dict) else {},
        )

    def metadata(self) -> dict[str, str]:
        """The manifest as safetensors metadata."""
        return {"format": "pt", METADATA_KEY: self.to_json()}
