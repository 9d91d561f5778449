"""Peak memory of a network pass without running it: live tensor bytes while it runs on the meta device."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _FusedKernels(TorchFunctionMode):
    """Attention as a device runs it: one kernel that allocates its result, not the matrix of scores."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            query = args[0] if args else kwargs["query"]
            value = args[2] if len(args) > 2 else kwargs["value"]
            return query.new_empty(*query.shape[:-1], value.shape[-1])
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


def peak_bytes(function: Callable[[], object]) -> int:
    """Largest number of bytes that tensors made inside ``function`` occupy at one time, its results included.

    Args:
        function: runs on the meta device; what exists before the call (weights, inputs) is not counted.

    Workspaces inside kernels and what an allocator loses to fragmentation are not seen.
    """
    with torch.no_grad(), _LiveBytes() as counter, _FusedKernels():
        result = function()
        peak = counter.peak
        del result
    return peak
