"""What a pickle asks for, before any of it is run.

Torch's own restricted reader refuses code, but it calls what it allows while it reads: ``bytearray(2**31)`` takes two
gigabytes before anyone can look at the result. Here the operations are listed, not carried out.
"""

from __future__ import annotations

import pickletools
from typing import BinaryIO

_STORAGES = "Float Double Half BFloat16 Long Int Short Char Byte Bool ComplexFloat ComplexDouble QInt8 QUInt8 QInt32"
_ALLOWED = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_parameter_with_state",
    "torch._utils _rebuild_qtensor",
    "torch._utils _rebuild_meta_tensor_no_storage",
    "torch._utils _rebuild_sparse_tensor",
    "torch._tensor _rebuild_from_type_v2",
    "torch.nn.parameter Parameter",
    "torch Tensor",
    "torch Size",
    "torch device",
    "torch.serialization _get_layout",
    "_codecs encode",
    "__builtin__ set",
    "builtins set",
    *(f"torch {name}Storage" for name in _STORAGES.split()),
    *(f"torch.storage {name}" for name in ("UntypedStorage", "TypedStorage")),
}
_DTYPES = ("float", "bfloat", "double", "half", "int", "uint", "long", "short", "bool", "complex", "qint", "quint")


_MEMO = ("BINPUT", "LONG_BINPUT", "PUT", "BINGET", "LONG_BINGET", "GET", "PROTO", "FRAME")


def largest_storage(stream: BinaryIO, pickles: int) -> int:
    """The most numbers a torch file of the old kind says one of its storages has; torch takes memory for as many.

    Args:
        stream, pickles: as for `refused_object`; all of them must be there.

    Raises:
        Exception: of any kind, for what is no pickle.
    """
    largest, numbers = 0, []
    for _ in range(pickles):
        for operation, argument, _ in pickletools.genops(stream):
            if operation.name == "MARK":
                numbers = []
            elif isinstance(argument, int) and operation.name not in _MEMO:
                numbers.append(argument)
            elif operation.name == "BINPERSID":
                largest = max(largest, *numbers, 0)
    return largest


def refused_object(stream: BinaryIO, pickles: int) -> str | None:
    """The first object that is asked for and not allowed, as "module.name"; None if there is none.

    Args:
        stream: at the beginning of a pickle.
        pickles: how many follow one another at most.

    Damage is left to the reader: what cannot be parsed ends the search.
    """
    try:
        for _ in range(pickles):
            for operation, argument, _ in pickletools.genops(stream):
                if operation.name in ("GLOBAL", "INST") and not _allowed(str(argument)):
                    return str(argument).replace(" ", ".")
                if operation.name == "STACK_GLOBAL":  # torch writes none
                    return "its own choice"
    except Exception:  # any: it parses what anyone wrote
        return None
    return None


def _allowed(name: str) -> bool:
    module, _, word = name.partition(" ")
    return name in _ALLOWED or (module == "torch" and word.startswith(_DTYPES))
