"""Where the host renders: its graphics card if the fast renderer runs there and the scene fits, else the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import comfy.model_management as management
import torch

from ...flashworld_core.gaussians import Gaussians

Result = TypeVar("Result")

_WORKING = 3  # times the scene's own bytes: the scene, its colours per view, sorting buffers


def on_render_device(scene: Gaussians, work: Callable[[torch.device], Result], warn: Callable[[str], None]) -> Result:
    """``work(device)`` on the host's CUDA device, after it made room there; on the CPU where there is none.

    Args:
        scene: what will be rendered; `work` brings it to the device.
        work: begun anew on the CPU if the device runs out of memory.
        warn: told in that case, in words for the user.
    """
    from ...flashworld_core.rendering.render import has_backend

    device = management.get_torch_device()
    if device.type != "cuda" or not has_backend("gsplat"):
        return work(torch.device("cpu"))
    tensors = (scene.means, scene.quats, scene.scales, scene.opacities, scene.sh)
    management.free_memory(_WORKING * 4 * sum(tensor.numel() for tensor in tensors), device)
    try:
        return work(device)
    except Exception as error:
        from . import memory  # late: it brings the generator's libraries

        if not memory.is_out_of_memory(error):
            raise
    # Outside of the except block: the error holds on to every tensor of the failed run.
    management.soft_empty_cache()
    warn("The graphics card has too little memory for this scene; rendering on the CPU, which takes longer.")
    return work(torch.device("cpu"))


def free_main_memory() -> int:
    """Bytes of main memory the host could still use."""
    return int(management.get_free_memory(torch.device("cpu")))
