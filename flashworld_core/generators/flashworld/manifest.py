"""`Manifest`: what a model says about itself, as ``config.json`` in a folder and in a safetensors file's metadata."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re

from ...errors import FlashWorldError
from .config import FlashWorldConfig

GENERATOR = "flashworld"
FORMAT_VERSION = 1
METADATA_KEY = "flashworld"  # of a safetensors file's metadata; holds the manifest as JSON
OFFICIAL_LICENSE = "FlashWorld weights: see the licence at huggingface.co/imlixinyang/FlashWorld (research use)"
COMPUTE_DTYPES = ("float32", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What belongs to a model beside its tensors.

    Attributes:
        config: sizes, constants and the model's name.
        license: their licence in one line.
        compute_dtype: the dtype to run in where none is asked for, if it is not the stored one: weights may be
            stored in half precision to be small and still be meant for single precision.
        notes: free JSON values (how it was trained, figures).
    """

    config: FlashWorldConfig
    license: str = ""
    compute_dtype: str | None = None
    notes: dict = dataclasses.field(default_factory=dict)

    @classmethod
    def official(cls) -> Manifest:
        """The published model, whose checkpoint says nothing about itself."""
        return cls(FlashWorldConfig.official(), OFFICIAL_LICENSE)

    def to_json(self) -> str:
        content = {
            "generator": GENERATOR,
            "format_version": FORMAT_VERSION,
            "license": self.license,
            **({"compute_dtype": self.compute_dtype} if self.compute_dtype else {}),
            "config_sha256": config_hash(self.config),
            "config": self.config.to_dict(),
            **({"notes": self.notes} if self.notes else {}),
        }
        text = json.dumps(content, indent=1)
        # One line per list of numbers: the file is for people too.
        return re.sub(r"\[[^\[\]{}]*\]", lambda match: " ".join(match[0].split()), text) + "\n"

    @staticmethod
    def recognises(text: str) -> bool:
        """Whether ``text`` is for `from_json` to judge: not if it is a JSON object that speaks of other things."""
        try:
            content = json.loads(text)
        except ValueError:
            return True
        return not isinstance(content, dict) or "generator" in content or "config" in content

    @classmethod
    def from_json(cls, text: str, source: str) -> Manifest:
        """The inverse of `to_json`.

        Args:
            text: the JSON.
            source: where it came from, for messages.

        Raises:
            FlashWorldError: not JSON, not a FlashWorld manifest, of a later format, or with a config changed by hand
                without its hash (remove ``config_sha256`` to change a config on purpose).
        """
        try:
            content = json.loads(text)
        except ValueError as error:
            raise FlashWorldError(f"load: {source} is not JSON: {error}.") from error
        if not isinstance(content, dict) or content.get("generator") != GENERATOR:
            raise FlashWorldError(f'load: {source} is not a FlashWorld manifest ("generator" is not "{GENERATOR}").')
        version = content.get("format_version", FORMAT_VERSION)
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise FlashWorldError(f"load: {source} has format version {version}; this program knows {FORMAT_VERSION}.")
        compute = content.get("compute_dtype")
        if compute is not None and compute not in COMPUTE_DTYPES:
            raise FlashWorldError(f"load: {source}: compute_dtype {compute!r} is none of {', '.join(COMPUTE_DTYPES)}.")
        values = content.get("config")
        if not isinstance(values, dict):
            raise FlashWorldError(f"load: {source} holds no config.")
        config = FlashWorldConfig.from_dict(values)
        stated = content.get("config_sha256")
        if stated is not None and stated != config_hash(config):
            raise FlashWorldError(
                f"load: the config in {source} is not the one it was written with (its config_sha256 differs); "
                "restore it, or remove config_sha256 to change it on purpose."
            )
        notes = content.get("notes")
        return cls(
            config,
            str(content.get("license", "")),
            compute,
            notes if isinstance(notes, dict) else {},
        )

    def metadata(self) -> dict[str, str]:
        """The manifest as safetensors metadata."""
        return {"format": "pt", METADATA_KEY: self.to_json()}


def config_hash(config: FlashWorldConfig) -> str:
    """SHA-256 of a config's canonical JSON, hexadecimal."""
    return hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode()).hexdigest()
