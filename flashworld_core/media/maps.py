"""Depth and normals on disk as numbers: NumPy files, one compressed file, or 16-bit pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from .export import save_json, save_npy, save_npz, save_png16

Form = Literal["npy", "png16", "npz", "none"]
STEPS = 65535  # values of a 16-bit picture above 0, which means that nothing is there


def save_depth(folder: Path, depth: Tensor, form: Form) -> None:
    """Write depth maps as numbers.

    Args:
        folder: where; it is made.
        depth: [V, H, W] in world units, 0 where nothing is.
        form: npy: ``0000.npy`` ..., float32. npz: ``depth.npz``, float32 under ``depth``. png16: ``0000_16bit.png``
            ..., of which a value times ``world_units_per_step`` in ``scale.json`` is the depth, to half a step; one
            scale for all views. none: nothing.
    """
    array = depth.detach().float().cpu().numpy()
    if form == "npy":
        for i, view in enumerate(array):
            save_npy(folder / f"{i:04d}.npy", view)
    elif form == "npz":
        save_npz(folder / "depth.npz", depth=array)
    elif form == "png16":
        step = float(array.max(initial=0.0)) / STEPS or 1.0
        for i, view in enumerate(array):
            steps = np.rint(view.astype(np.float64) / step)
            # What is there is at least one step: 0 means that nothing is.
            steps = np.where(view > 0, np.clip(steps, 1, STEPS), 0)
            save_png16(folder / f"{i:04d}_16bit.png", steps.astype(np.uint16))
        save_json(folder / "scale.json", {"world_units_per_step": step, "nothing": 0})


def save_normals(folder: Path, normals: Tensor, form: Form) -> None:
    """Write normal maps as numbers.

    Args:
        folder: where; it is made.
        normals: [V, H, W, 3] unit vectors in the camera frame (x right, y down, z forward), 0 where nothing is.
        form: npz: ``normal.npz``, float32 under ``normal``. png16: ``0000_16bit.png`` ..., red x, green y, blue z, of
            which a value v stands for (v - 32768) / 32767, gray 32768 for zero. npy and none: nothing.
    """
    array = normals.detach().float().cpu().numpy()
    if form == "npz":
        save_npz(folder / "normal.npz", normal=array)
    elif form == "png16":
        for i, view in enumerate(array):
            values = np.rint(view.astype(np.float64).clip(-1, 1) * 32767) + 32768
            save_png16(folder / f"{i:04d}_16bit.png", values.astype(np.uint16))
