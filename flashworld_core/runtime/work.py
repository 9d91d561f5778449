"""The work inside a network pass: counted beforehand on the meta device, and done in pieces that can be stopped.

A pass over many large views takes minutes on a CPU, and one attention of it can take most of them. `in_pieces` cuts
long operations so that a user who cancels waits for a piece, not for the pass, and progress moves meanwhile. What it
counts is what `count_operations` counted, so the progress ends where it was said to end.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..progress import Progress

PIECE = 8e9  # operations that may run between two questions: some tenths of a second on two CPU cores
UNIT = 1e6  # operations in one unit of progress
_REPORT_SECONDS = 0.1  # between two reports from inside a pass
_ROWS = 64  # pieces of attention are multiples of what CPU kernels take at a time


def _attention_operations(query: Tensor, key: Tensor, value: Tensor, *_, **__) -> int:
    return 2 * math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _linear_operations(input: Tensor, weight: Tensor, *_, **__) -> int:
    return 2 * input.numel() * weight.shape[0]


def _convolution_operations(result: Tensor, weight: Tensor) -> int:
    return 2 * result.numel() * math.prod(weight.shape[1:])


_ATTENTION, _LINEAR = F.scaled_dot_product_attention, F.linear
_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)


class _Watched(TorchFunctionMode):
    """Tells ``done(operations)`` after every attention, linear layer and convolution inside, the long ones in pieces.

    Args:
        done: may raise, which ends the pass.
        meta: only count: attention is replaced by an empty result of its shape.
    """

    def __init__(self, done: Callable[[int], None], meta: bool = False):
        super().__init__()
        self._done, self._meta = done, meta

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is _ATTENTION:
            return self._attention(*args, **kwargs)
        if function is _LINEAR:
            return self._linear(*args, **kwargs)
        result = function(*args, **kwargs)
        if function in _CONVOLUTIONS:
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            self._done(_convolution_operations(result, weight))
        return result

    def _attention(self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **options) -> Tensor:
        work = _attention_operations(query, key, value)
        if self._meta:
            self._done(work)
            return query.new_empty(*query.shape[:-1], value.shape[-1])
        rows = query.shape[-2]
        # A causal mask depends on where a row stands, and dropout on how often numbers are drawn.
        pieces = 1 if is_causal or dropout_p else _pieces(work, rows)
        if pieces == 1:
            result = _ATTENTION(
                query, key, value, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal, **options
            )
            self._done(work)
            return result
        step = -(-rows // pieces // _ROWS) * _ROWS
        parts = []
        for start in range(0, rows, step):
            part = query[..., start : start + step, :]
            by_row = attn_mask is not None and attn_mask.shape[-2] != 1
            mask = attn_mask[..., start : start + step, :] if by_row else attn_mask
            parts.append(_ATTENTION(part, key, value, attn_mask=mask, **options))
            self._done(_attention_operations(part, key, value))
        return torch.cat(parts, dim=-2)

    def _linear(self, input, weight, bias=None) -> Tensor:
        work = _linear_operations(input, weight)
        pieces = 1 if self._meta or input.ndim < 2 else _pieces(work, input.shape[-2])
        if pieces == 1:
            result = _LINEAR(input, weight, bias)
            self._done(work)
            return result
        parts = []
        for part in input.chunk(pieces, dim=-2):
            parts.append(_LINEAR(part, weight, bias))
            self._done(_linear_operations(part, weight))
        return torch.cat(parts, dim=-2)


def _pieces(work: float, rows: int) -> int:
    """Into how many pieces work over ``rows`` is cut; it depends on sizes alone, so results do not depend on speed."""
    return max(1, min(math.ceil(work / PIECE), rows // _ROWS))


def count_operations(function: Callable[[], object]) -> int:
    """Count the floating-point operations of attention, linear layers and convolutions in ``function``.

    Args:
        function: runs on the meta device. A multiplication with its addition counts as two.
    """
    total = 0

    def done(operations: int) -> None:
        nonlocal total
        total += operations

    with torch.no_grad(), _Watched(done, meta=True):
        function()
    return total


def units(operations: float) -> int:
    """Units of `Progress` for work of that many operations, at least one."""
    return max(1, round(operations / UNIT))


@contextlib.contextmanager
def in_pieces(progress: Progress, work: int, device: torch.device, network: object = None) -> Iterator[None]:
    """Do a network pass of ``work`` units, telling ``progress`` how far it is and asking it whether to stop.

    On a CPU this happens inside long operations too, which are cut for it (equal up to rounding, and always cut
    alike); on other devices, which work behind the program's back, and where parts of ``network`` are compiled,
    which nothing can look into, before and after the pass.

    Raises:
        Cancelled: progress wants to stop. What was advanced stays; the caller sets ``progress.done`` back if it tries
            again.
    """
    begin, told, operations = progress.done, time.monotonic(), 0

    def done(more: int) -> None:
        nonlocal told, operations
        operations += more
        progress.check()
        if time.monotonic() - told > _REPORT_SECONDS:
            told = time.monotonic()
            progress.done = begin
            progress.advance(min(int(operations / UNIT), work))

    progress.check()
    if device.type == "cpu" and not _is_compiled(network):
        with _Watched(done):
            yield
    else:
        yield
    progress.done = begin
    progress.advance(work)


def _is_compiled(network: object) -> bool:
    """Whether `nn.Module.compile` was called on a part of it."""
    if not isinstance(network, torch.nn.Module):
        return False
    return any(getattr(module, "_compiled_call_impl", None) is not None for module in network.modules())
