"""Memory of a generation: live tensor bytes of a network pass on the meta device, and plans by stage."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Collection

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..errors import FlashWorldError

# Releases whose GPU kernels normalize in one pass; the CPU's take several, with copies in single precision.
_FUSED_RMS_NORM = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 9)


class FusedKernels(TorchFunctionMode):
    """Operators as a device runs them: one kernel that allocates its result.

    Attention does not make the matrix of scores; its result lies in memory as [B, tokens, heads, d]. RMS norms make no
    copies, unless ``device_type`` is the CPU or torch older than their kernel.

    Args:
        device_type: whose kernels are meant.
    """

    def __init__(self, device_type: str = "cuda"):
        super().__init__()
        self._fuse_norms = device_type != "cpu" and _FUSED_RMS_NORM

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            query = args[0] if args else kwargs["query"]
            value = args[2] if len(args) > 2 else kwargs["value"]
            *batch, heads, tokens, _ = query.shape
            return query.new_empty(*batch, tokens, heads, value.shape[-1]).transpose(-3, -2)
        if function is F.rms_norm and self._fuse_norms:
            return torch.empty_like(args[0] if args else kwargs["input"])
        return function(*args, **kwargs)


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of every storage made inside, for as long as it lives."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):  # not made in here, or counted already
                self._count(tensor.untyped_storage(), new=False)
        result = function(*args, **kwargs)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage(), new=tensor.device.type == "meta")
        return result

    def _count(self, storage: torch.UntypedStorage, new: bool) -> None:
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes() if new else 0
        self.live += self._sizes[key]
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live -= self._sizes.pop(key)


def peak_bytes(function: Callable[[], object], device_type: str = "cuda") -> int:
    """Largest number of bytes that tensors made inside ``function`` occupy at one time, its results included.

    Args:
        function: runs on the meta device; what exists before the call (weights, inputs) is not counted.
        device_type: whose kernels are meant.

    Workspaces inside kernels and what an allocator loses to fragmentation are not seen.
    """
    with torch.no_grad(), _LiveBytes() as counter, FusedKernels(device_type):
        result = function()
        peak = counter.peak
        del result
    return peak


_MARGIN = 0.1  # of the free memory that `largest_chunk` leaves alone


@dataclasses.dataclass(frozen=True)
class StageMemory:
    """Bytes of one stage while it runs.

    Attributes:
        stage: stage name, as in `stages.StageName`.
        weights: the network's parameters and buffers.
        activations: largest sum of what the network makes while it runs.
        held: what the sampler keeps meanwhile: latents, features, Gaussians, renders.
    """

    stage: str
    weights: int
    activations: int
    held: int

    @property
    def peak(self) -> int:
        """Bytes with this stage's weights alone loaded."""
        return self.weights + self.activations + self.held


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Bytes per stage of one generation; see `memory_plan`.

    Attributes:
        stages: in the order they run.
        views, height, width, dtype, device_type, views_per_chunk: what was planned for.
        stored: the 8-bit type of the transformer's layers; None: they are in ``dtype``.
        renderer: the rendering backend planned for; empty where there is no choice.
    """

    stages: tuple[StageMemory, ...]
    views: int
    height: int
    width: int
    dtype: torch.dtype
    device_type: str
    views_per_chunk: int
    stored: torch.dtype | None = None
    renderer: str = ""

    @property
    def precision(self) -> str:
        """The types in words."""
        words = str(self.dtype).removeprefix("torch.")
        return words if self.stored is None else f"{words} with {str(self.stored).removeprefix('torch.')} layers"

    def __getitem__(self, stage: str) -> StageMemory:
        return next(s for s in self.stages if s.stage == stage)

    def peak(self, resident: Collection[str] | None = None) -> int:
        """Bytes at the worst moment of the generation proper.

        Args:
            resident: stages whose weights stay loaded all the time; the others' come and go (`stages.OffloadStages`).
                None: every network but the text encoder, which counts only where it is named here: it runs before all
                else, maybe on another device, and is done then.
        """
        names = [s.stage for s in self.stages]
        if resident is None:
            resident = [s.stage for s in self.stages if s.weights and s.stage != "text"]
        if unknown := sorted(set(resident) - set(names)):
            raise FlashWorldError(f"There are no stages {unknown}; there are {names}.")
        kept = sum(s.weights for s in self.stages if s.stage in resident)
        return max(
            kept + s.activations + s.held + (0 if s.stage in resident else s.weights)
            for s in self.stages
            if s.stage != "text" or s.stage in resident
        )

    def table(self) -> str:
        """The plan as text, in GB (1e9 bytes)."""
        lines = [
            f"{self.views} views of {self.height}x{self.width}, {self.precision}, {self.device_type}"
            f"{self.renderer and f', rendered by {self.renderer}'}, {self.views_per_chunk} views a chunk",
            f"{'stage':<12}{'weights':>9}{'activations':>13}{'held':>8}{'sum':>8}  (GB)",
        ]
        lines += [
            f"{s.stage:<12}{s.weights / 1e9:>9.2f}{s.activations / 1e9:>13.2f}{s.held / 1e9:>8.2f}{s.peak / 1e9:>8.2f}"
            for s in self.stages
        ]
        lines.append(
            f"peak {self.peak() / 1e9:.2f} with the networks loaded, {self.peak(()) / 1e9:.2f} one at a time, GB"
        )
        return "\n".join(lines)


def largest_chunk(
    plan: Callable[[int], MemoryPlan],
    free_bytes: int,
    largest: int,
    *,
    resident: Collection[str] | None = None,
) -> int:
    """Choose the largest number of views per chunk whose plan fits into ``free_bytes``.

    Args:
        plan: the memory plan for a number of views per chunk.
        free_bytes: memory available to everything the plan names, weights included. A tenth of it is left alone.
        largest: the number to begin with.
        resident: as in `MemoryPlan.peak`.

    Raises:
        FlashWorldError: not even one view at a time fits; the message says what is missing.
    """
    for chunk in range(largest, 0, -1):
        needed = plan(chunk).peak(resident)
        if needed <= (1 - _MARGIN) * free_bytes:
            return chunk
    raise FlashWorldError(
        f"One view at a time needs {needed / 1e9:.1f} GB, but {free_bytes / 1e9:.1f} GB are free; use a lower "
        "precision, fewer views, a smaller image, or let stages come and go (OffloadStages)."
    )
