"""Writing safetensors one tensor at a time, so that a file can be larger than the memory.

The library's own writer wants every tensor at once; converting the published checkpoint with it would hold all
5.2 billion parameters. The format is a length, a JSON header and the bytes: the header needs only shapes and dtypes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import BinaryIO

import torch
from torch import Tensor

from ..errors import check_stop
from .open import SAFETENSORS_DTYPES

_NAMES = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}
ALIGNMENT = 8


def nbytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Bytes of a tensor."""
    return math.prod(shape) * dtype.itemsize


def write_safetensors(
    stream: BinaryIO,
    tensors: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
    read: Callable[[str], Tensor],
    metadata: Mapping[str, str],
    *,
    progress: Callable[..., None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> None:
    """Write a safetensors file.

    Args:
        stream: binary file, at its beginning.
        tensors: shape and dtype by name.
        read: the tensor of a name; asked for once each, converted to the dtype promised, and let go.
        metadata: text by name, for the header.
        progress: ``progress(tensors_done, tensors_total)`` after each.
        should_stop: asked before each.

    Raises:
        Cancelled: ``should_stop`` answered True.
    """
    # Wide types first keeps every tensor aligned to its own size, which readers that map the file rely on.
    order = sorted(tensors, key=lambda name: (-tensors[name][1].itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name in order:
        shape, dtype = tensors[name]
        end = offset + nbytes(shape, dtype)
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    stream.write(len(text).to_bytes(8, "little"))
    stream.write(text)
    for done, name in enumerate(order, 1):
        check_stop(should_stop)
        shape, dtype = tensors[name]
        tensor = read(name).to(device="cpu", dtype=dtype)
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} is {list(tensor.shape)}, promised {list(shape)}")
        if tensor.numel():
            stream.write(memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy()))
        if progress is not None:
            progress(done, len(order))
