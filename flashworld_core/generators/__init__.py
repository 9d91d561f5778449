"""Generators: models that make scenes. `base` names what they have in common; each has a folder of its own."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FlashWorldError

if TYPE_CHECKING:
    import torch

    from ..progress import Progress
    from .base import Generator, ModelFile

# name: "module:function" that opens a model of it, ``function(path) -> ModelFile``; imported on first use
GENERATORS = {
    "flashworld": ".flashworld.open:open_model",
    "trellis": ".trellis.open:open_model",
    "vfusion3d": ".vfusion3d.open:open_model",
}
# name: "module:function" of published models whose sizes are known without a file, ``function() -> ModelFile``
PUBLISHED = {
    "official": ".flashworld.open:published_model",
    "trellis-official": ".trellis.open:published_model",
}
ASSETS = Path(__file__).resolve().parent.parent / "assets"
# names that need no path; the folders ship with the package
EMBEDDED = {"tiny": ASSETS / "flashworld-tiny", "trellis-tiny": ASSETS / "trellis-tiny"}


def model_path(model: str | Path) -> Path:
    """Find where a model is: an embedded name takes precedence over a file or folder of the same name.

    Raises:
        FlashWorldError: nothing of that name or path.
    """
    path = EMBEDDED.get(str(model)) or Path(model).expanduser()
    if path.exists():
        return path
    if str(model) in EMBEDDED:
        raise FlashWorldError(f"The embedded model {model!r} is missing from this installation ({path}); reinstall it.")
    raise FlashWorldError(f"There is no model {str(model)!r}: give an embedded name ({', '.join(EMBEDDED)}) or a path.")


def open_model(model: str | Path = "tiny") -> ModelFile:
    """Open a model by name or path; only headers are read.

    Args:
        model: a name in `EMBEDDED` ("tiny"), the path of a model folder or checkpoint file, or a name in `PUBLISHED`
            to plan with: such a model cannot be loaded.

    Raises:
        FlashWorldError: nothing of that name or path, an unknown generator, or a file that is not a model.
    """
    from ..checkpoints.identify import generator_of

    if str(model) in PUBLISHED:
        return _function(PUBLISHED[str(model)])()
    path = model_path(model)
    name = generator_of(path)
    if name not in GENERATORS:
        raise FlashWorldError(f"{path} is a model of {name!r}; this version knows {', '.join(GENERATORS)}.")
    return _function(GENERATORS[name])(path)


def _function(entry: str) -> Any:
    module, _, name = entry.partition(":")
    return getattr(import_module(module, __package__), name)


def load_model(
    model: str | Path = "tiny",
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    **parts: Any,
) -> Generator:
    """Load a generator by name or path.

    Args:
        model: as in `open_model`.
        dtype: floating-point type of the networks; None takes the one the model wants, else each file's own.
        device: where the networks go.
        progress: counts tensors.
        parts: ``vae`` and ``text_encoder``, or ``image_encoder``: files, folders or ready objects, for checkpoints that
            bring none.

    Returns:
        A `base.Generator`.

    Raises:
        FlashWorldError: as `open_model`; parts the model does not take; files that do not fit or are damaged.
    """
    return open_model(model).load(
        dtype=dtype, device=device, progress=progress, parts={k: v for k, v in parts.items() if v is not None}
    )
