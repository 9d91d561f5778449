"""Compiling the repeated blocks of a network with torch's inductor, where the machine has what that needs."""

from __future__ import annotations

import importlib.util

import torch
from torch import nn

from ..errors import FlashWorldError
from ..text import get_logger

logger = get_logger(__name__)


def compile_blocks(network: nn.Module, device: str | torch.device) -> None:
    """Have a network's repeated blocks compiled when they first run: one compilation serves all of them.

    The first pass takes up to some minutes longer, later ones are faster. Numbers may differ in their last digits.

    Args:
        network: a diffusers model that names its repeated blocks.
        device: where it will run.

    Raises:
        FlashWorldError: the network has no such blocks, or this machine cannot compile: says what is missing.
    """
    if not getattr(network, "_repeated_blocks", None) or not hasattr(network, "compile_repeated_blocks"):
        raise FlashWorldError("This model has no blocks to compile; leave compile off.")
    _require_toolchain(torch.device(device))
    network.compile_repeated_blocks()
    logger.info("The first pass compiles the transformer's blocks and takes longer.")


def _require_toolchain(device: torch.device) -> None:
    """Compile a function of one line, which asks for all that a large one does."""
    if device.type != "cpu" and importlib.util.find_spec("triton") is None:
        raise FlashWorldError(
            "Compiling for a graphics card needs Triton, which is not installed: pip install triton (on Windows "
            "triton-windows), or leave compile off."
        )
    try:
        torch.compile(_one_line, dynamic=False)(torch.ones(8, device=device))
    except Exception as error:  # whatever dynamo, inductor, the compiler or the driver raise
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        needed = "a C++ compiler" if device.type == "cpu" else "Triton and a C compiler that works with it"
        raise FlashWorldError(
            f"The blocks cannot be compiled here ({reason.strip()[:200]}). That needs {needed}; install it, or leave "
            "compile off."
        ) from error


def _one_line(x):
    return (x * 2).tanh() + 1
