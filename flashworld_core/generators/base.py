"""What every generator offers, which ones there are, and how a model is loaded by name or path."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from ..cameras import Cameras
from ..errors import FlashWorldError
from ..gaussians import Gaussians

ASSETS = Path(__file__).resolve().parent.parent / "assets"
EMBEDDED = {"tiny": ASSETS / "flashworld-tiny"}  # names that need no path; the folders ship with the package


@runtime_checkable
class Generator(Protocol):
    """A loaded model that turns a picture and/or a sentence, plus a camera path, into a scene.

    Attributes:
        generator: the family's name in the registry, e.g. "flashworld".
        model_id: which weights these are.
        license: the license of the weights in one line, to be shown where the model is loaded.
    """

    generator: str
    model_id: str
    license: str

    def generate(
        self,
        cameras: Cameras,
        *,
        image: Any = None,
        prompt: str = "",
        image_index: int = 0,
        seed: int = 0,
        steps: Any = None,
        views_per_chunk: int | None = None,
        progress: Callable | None = None,
        should_stop: Callable[[], bool] | None = None,
        on_step: Callable | None = None,
    ) -> Gaussians: ...

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> Generator: ...


@dataclasses.dataclass(frozen=True)
class Family:
    """One kind of generator: where its loader lives, imported on first use.

    Attributes:
        name: how a model folder's ``config.json`` names it under the key ``generator``.
        module: module path, relative to `flashworld_core.generators` if it begins with a dot.
        function: loader in that module, called as ``load(path, dtype=..., device=..., **options) -> Generator``;
            it refuses files it does not know with a `FlashWorldError`.
    """

    name: str
    module: str
    function: str = "load"

    def load(self, path: Path, **options) -> Generator:
        return getattr(import_module(self.module, __package__), self.function)(path, **options)


_FAMILIES: dict[str, Family] = {}


def register(family: Family) -> None:
    """Make a family known to `load_model`; a later one of the same name replaces the earlier."""
    _FAMILIES[family.name] = family


def families() -> dict[str, Family]:
    """The registered families by name."""
    return dict(_FAMILIES)


register(Family("flashworld", ".flashworld.checkpoint"))


def load_model(
    model: str | Path = "tiny",
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    **options,
) -> Generator:
    """Load a generator by name or path.

    Args:
        model: a name in `EMBEDDED` ("tiny"), or the path of a model folder or checkpoint file. The name wins: write
            "./tiny" for a folder called so.
        dtype: floating-point type of the networks; None keeps each file's own.
        device: where the networks go.
        options: what a family's loader takes besides, e.g. ``vae`` and ``text_encoder`` for FlashWorld's official
            checkpoint, which holds neither.

    Returns:
        A `Generator`, ready for `Generator.generate`.

    Raises:
        FlashWorldError: nothing of that name or path, an unknown family, or a file that is not a model of it.
    """
    path = EMBEDDED.get(str(model)) or Path(model).expanduser()
    if not path.exists():
        names = ", ".join(sorted(EMBEDDED))
        if str(model) in EMBEDDED:
            raise FlashWorldError(
                f"load_model: the embedded model {model!r} is missing from this installation ({path}); reinstall it."
            )
        raise FlashWorldError(f"load_model: no model {str(model)!r}: give an embedded name ({names}) or a path.")
    family = _FAMILIES.get(_family_name(path))
    if family is None:
        raise FlashWorldError(
            f"load_model: {path} is a model of {_family_name(path)!r}; this version knows {', '.join(_FAMILIES)}."
        )
    return family.load(path, dtype=dtype, device=device, **options)


def _family_name(path: Path) -> str:
    """The family a folder's config.json names; FlashWorld where nothing names one (its loader judges the file)."""
    manifest = path / "config.json"
    if not manifest.is_file():
        return "flashworld"
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FlashWorldError(f"load_model: {manifest} is not JSON: {error}.") from error
    return str(content.get("generator", "flashworld")) if isinstance(content, dict) else "flashworld"
