"""A tensor that is computed when it is first used.

An output of a node that is costly and mostly not connected can be one: it has its shape and type at once and its
numbers when some operation asks for them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class DeferredTensor(Tensor):
    """Make one with `defer`. Whatever is done with it is done with the real tensor, which is then kept."""

    @staticmethod
    def __new__(cls, make: Callable[[], Tensor], shape: tuple[int, ...], dtype: torch.dtype):
        self = torch.empty(shape, dtype=dtype, device="meta").as_subclass(cls)
        self._make, self._made = make, None
        return self

    def __init__(self, *_):
        super().__init__()

    def made(self) -> Tensor:
        """The real tensor."""
        if self._made is None:
            with torch._C.DisableTorchFunctionSubclass():
                self._made = self._make()
            self._make = None
        return self._made

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function in _FREE:
            with torch._C.DisableTorchFunctionSubclass():
                return function(*args, **(kwargs or {}))
        if function == Tensor.device.__get__:  # where it will be
            return torch.device("cpu")
        return function(*_real(args), **_real(kwargs or {}))

    def __reduce_ex__(self, protocol):
        return self.made().__reduce_ex__(protocol)


# What is known without the numbers.
_FREE = {
    Tensor.shape.__get__,
    Tensor.dtype.__get__,
    Tensor.ndim.__get__,
    Tensor.size,
    Tensor.dim,
    Tensor.numel,
    Tensor.nelement,
    Tensor.element_size,
    Tensor.is_floating_point,
    Tensor.__len__,
}


def defer(make: Callable[[], Tensor], shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """A CPU tensor of this shape and type whose numbers ``make`` gives when they are first needed.

    An error that ``make`` raises comes up there, in the node that uses the tensor.
    """
    return DeferredTensor(make, shape, dtype)


def _real(value):
    if isinstance(value, DeferredTensor):
        return value.made()
    if isinstance(value, (list, tuple)):
        kind = type(value)
        parts = [_real(item) for item in value]
        return kind(*parts) if hasattr(value, "_fields") else kind(parts)
    if isinstance(value, dict):
        return {key: _real(item) for key, item in value.items()}
    return value
