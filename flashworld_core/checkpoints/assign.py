"""Stored tensors into modules: everything is checked by name and shape first, then copied one tensor at a time.

A module built on the meta device owns no memory; each tensor goes from the file straight to the wanted dtype and
device, so a load needs the finished module and one tensor besides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import FlashWorldError, check_stop

Shape = tuple[int, ...]


def check_names_and_shapes(
    expected: Mapping[str, Shape], found: Mapping[str, Shape], what: str, path: Path, fits: Callable | None = None
) -> None:
    """Refuse a file whose tensors are not the module's.

    Args:
        expected: shapes by name the module has.
        found: shapes by name the file has.
        what: which part, for the message ("transformer").
        path: which file, for the message.
        fits: ``fits(expected_shape, found_shape)``; default equality.

    Raises:
        FlashWorldError: names the first missing, unexpected and differently shaped tensors.
    """
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    fits = fits or (lambda a, b: a == b)
    misshaped = [
        f"{name} {list(found[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and not fits(shape, found[name])
    ]
    parts = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshaped))
        if names
    ]
    if parts:
        raise FlashWorldError(f"the tensors of {path} do not fit the {what}: {'; '.join(parts)}.")


def expected_shapes(module: nn.Module) -> dict[str, Shape]:
    """Names and shapes of a module's state dict, a tensor with two names under its first."""
    names: dict[int, str] = {}
    state = module.state_dict(keep_vars=True)
    for name, tensor in state.items():
        names.setdefault(id(tensor), name)
    return {name: tuple(state[name].shape) for name in names.values()}


def target_dtype(
    name: str, stored: torch.dtype, wanted: torch.dtype | None, keep_float32: tuple[str, ...]
) -> torch.dtype:
    """The dtype a tensor is loaded in.

    Whole numbers stay what they are; 8-bit floats, which no layer computes with, become bfloat16. Half precision is
    not applied to the tensors whose dotted names contain one of ``keep_float32``: the network computes with those in
    single precision.
    """
    if not stored.is_floating_point:
        return stored
    dtype = wanted or (torch.bfloat16 if stored.itemsize == 1 else stored)
    if dtype in (torch.float16, torch.bfloat16) and not set(keep_float32).isdisjoint(name.split(".")):
        return torch.float32
    return dtype


def single_precision_names(module: nn.Module) -> tuple[str, ...]:
    """Name parts of the tensors a network wants in float32 even when it runs in half precision."""
    return tuple(getattr(module, "_keep_in_fp32_modules", None) or ())


def cast(module: nn.Module, dtype: torch.dtype | None = None, device: str | torch.device | None = None) -> None:
    """Move a module's parameters and buffers and/or change their precision, in place.

    What the module wants in float32 (`single_precision_names`) keeps it.
    """
    keep = single_precision_names(module)
    fixed = fixed_names(module)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        wanted = tensor.dtype if name in fixed else target_dtype(name, tensor.dtype, dtype, keep)
        tensor.data = tensor.data.to(device, wanted)


def fixed_names(module: nn.Module) -> set[str]:
    """Names of the tensors whose type belongs to their layer (``fixed_dtypes``): 8-bit weights and their scales."""
    return {
        f"{path}.{leaf}" if path else leaf
        for path, layer in module.named_modules()
        for leaf in getattr(layer, "fixed_dtypes", ())
    }


def assign(
    module: nn.Module,
    read: Callable[[str], Tensor],
    *,
    dtype: torch.dtype | None,
    device: str | torch.device,
    keep_float32: tuple[str, ...] = (),
    should_stop: Callable[[], bool] | None = None,
) -> None:
    """Fill a meta-device module tensor by tensor.

    Args:
        module: every parameter and persistent buffer is replaced; names and shapes must have been checked.
        read: returns the stored tensor of a state-dict name, mapped or not, on the CPU.
        dtype: floating-point type; None keeps each tensor's own.
        device: where the tensors go.
        keep_float32: see `target_dtype`.
        should_stop: asked before every tensor.

    Raises:
        FlashWorldError: whole, boolean or complex numbers where the module has floating-point ones.
        Cancelled: ``should_stop`` answered True.
    """
    filled: dict[int, Tensor] = {}
    fixed = fixed_names(module)
    for name, old in module.state_dict(keep_vars=True).items():
        check_stop(should_stop)
        tensor = filled.get(id(old))
        if tensor is None:
            stored = read(name)
            if old.is_floating_point() and not stored.dtype.is_floating_point:
                raise FlashWorldError(f"{name} is stored as {stored.dtype}, not as floating-point numbers.")
            wanted = old.dtype if name in fixed else target_dtype(name, stored.dtype, dtype, keep_float32)
            tensor = stored.to(device=device, dtype=wanted)
            tensor = nn.Parameter(tensor, requires_grad=False) if isinstance(old, nn.Parameter) else tensor
            filled[id(old)] = tensor
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, tensor)
