"""The frame encoder from whatever file holds the Wan 2.2 VAE: diffusers' folder, single files, or our own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ...errors import FlashWorldError
from .assign import assign, check_names_and_shapes, expected_shapes
from .checkpoint_names import diffusers_vae_name, unwrapped
from .config import FlashWorldConfig
from .encoder import FrameEncoder
from .identify import identify, wrong_file
from .weights import WeightFile, open_weights

_KEPT = ("encoder.", "quant_conv.")
VAE_NAMES = ("vae.safetensors", "vae", "wan2.2_vae.safetensors", "Wan2.2_VAE.pth")


def load_frame_encoder(
    path: str | Path,
    config: FlashWorldConfig,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
) -> FrameEncoder:
    """The per-frame encoder with a VAE file's weights.

    Only the encoder is read. 3x3x3 kernels are cut to their last temporal slice, the only one a single frame meets,
    and the temporal resampling layers, which it skips, are left out.

    Args:
        path: a diffusers folder (``vae/``, or the pipeline's folder around it), ``wan2.2_vae.safetensors``,
            ``Wan2.2_VAE.pth``, or our trimmed ``vae.safetensors``.
        config: the sizes it must have.
        dtype: floating-point type; None keeps the file's.
        device: where it goes.

    Raises:
        FlashWorldError: not that VAE (the message says what it is), damaged, or of other sizes.
    """
    path = Path(path).expanduser()
    weights = open_weights(path / "vae" if (path / "vae").is_dir() else path)
    sources = encoder_names(weights)
    with torch.device("meta"):
        encoder = FrameEncoder(config)
    shapes = {name: weights.entries[source].shape for name, source in sources.items()}
    expected = expected_shapes(encoder)
    kind = identify(weights)
    if kind.name not in ("wan2.2 vae", "other") and expected.keys() - shapes.keys():
        raise wrong_file(weights, kind, "the Wan 2.2 VAE")
    check_names_and_shapes(expected, shapes, "VAE encoder", weights.path, fits=_fits)

    def read(name: str) -> Tensor:
        stored = weights.read(sources[name])
        if stored.shape == expected[name]:
            return stored
        # A copy, not a view, which would keep the two dead slices in memory.
        return stored[:, :, -1:].clone(memory_format=torch.contiguous_format)

    assign(encoder, read, dtype=dtype, device=device)
    return encoder.eval()


def encoder_names(weights: WeightFile) -> dict[str, str]:
    """The file's names of the encoder's tensors, by diffusers' name; temporal resampling left out."""
    prefix, names = unwrapped(list(weights.entries))
    by_name = {diffusers_vae_name(name): prefix + name for name in names}
    return {name: source for name, source in by_name.items() if name.startswith(_KEPT) and ".time_conv." not in name}


def _fits(expected: tuple[int, ...], found: tuple[int, ...]) -> bool:
    """Equal, or a kernel whose temporal side is still there."""
    if len(expected) != 5 or len(found) != 5 or expected[2] != 1 or found[2] < 1:
        return expected == found
    return expected[:2] + expected[3:] == found[:2] + found[3:]


def find_vae(folder: Path) -> Path | None:
    """The VAE beside a model: the first of `VAE_NAMES` in ``folder``."""
    return next((folder / name for name in VAE_NAMES if (folder / name).exists()), None)


def missing_vae(path: Path) -> FlashWorldError:
    """The error of a model without its VAE."""
    return FlashWorldError(
        f"load: {path} needs the Wan 2.2 VAE, which is not beside it; give vae=: the folder of "
        "Wan2.2-TI2V-5B-Diffusers, or ComfyUI's wan2.2_vae.safetensors."
    )
