"""How kernels are launched: block sizes, warps and registers, by what a device has room for.

A multiprocessor hides the latency of memory by having other warps to run, so that each kernel is to fill at least half
of its places for warps: `benchmarks/triton_compiled.md` has the figures.
"""

from __future__ import annotations

import contextlib

import torch

TILE = 8  # pixels; a generated Gaussian is a few pixels wide, and smaller tiles waste fewer pixels on it
CHUNK = 2  # list entries composited at once; more hide more latency and take more registers
BLOCK = 128  # Gaussians a program of the per-Gaussian kernels takes, one a thread
BLOCK_WARPS = 4
ENTRY_BLOCK = 256  # list entries a program of `list_tiles` takes
ROW_BLOCK = 32  # rows summed at once where a Gaussian has many
MOST_REGISTERS = 64  # of a thread: half the warps of a multiprocessor with 64 places and 65,536 registers


def tile_warps(capability: tuple[int, int] | None) -> int:
    """Warps a tile gets. ``capability`` is that of an NVIDIA device; None for others.

    One: a tile's sums then need no barrier. Multiprocessors of 8.6 and 8.7 hold 48 warps but only 16 programs: two.
    """
    return 2 if capability in ((8, 6), (8, 7)) else 1


def compiler_options(warps: int, capability: tuple[int, int] | None, tight: bool = False) -> dict:
    """Options of a launch or of a compilation ahead of time.

    Args:
        warps: of a program.
        capability: of an NVIDIA device; None for others.
        tight: a kernel that would take more than MOST_REGISTERS and fits into them without spilling. Before 8.0 it
            does not, and need not: such multiprocessors have as many registers for half as many warps.
    """
    # Fused multiply-add is asked for by name: Triton's default for it changes between versions.
    options = {"num_warps": warps, "enable_fp_fusion": True}
    if tight and capability is not None and capability >= (8, 0):
        options["maxnreg"] = MOST_REGISTERS
    return options


def capability_of(device: torch.device) -> tuple[int, int] | None:
    """Compute capability of an NVIDIA device; None for any other."""
    if device.type != "cuda" or torch.version.hip is not None:
        return None
    return torch.cuda.get_device_capability(device)


def current(device: torch.device):
    """Context that makes ``device`` the current one, on which Triton launches."""
    return contextlib.nullcontext() if device.type == "cpu" else getattr(torch, device.type).device(device)


def bytes_per_view(gaussians: int, width: int, height: int) -> int:
    """Working memory of one view in bytes, taking three tiles per Gaussian; with gradients about twice as much."""
    per_gaussian = 4 * 12 + 4 + 4 + 8 + 8 + 16  # record, depth, count, order, first entry, and their sort's buffers
    per_entry = 4 + 2 + 4 + 4 + 2 * (2 + 8)  # owner, key, two ids, and their sort's buffers
    return gaussians * (per_gaussian + 3 * per_entry) + 20 * width * height
