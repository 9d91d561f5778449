"""Writing a file so that a failure or a stop leaves what was there before."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ..errors import FlashWorldError


@contextlib.contextmanager
def atomic_writer(path: str | os.PathLike, function: str) -> Iterator[BinaryIO]:
    """A binary file that takes its real name only when the block ends without an exception.

    The bytes go to a temporary name in the same folder, which is renamed over ``path`` at the end and removed
    on any exception. A symbolic link keeps pointing where it points: its target is replaced.
    The data is not forced to the disk (no fsync), so it can still be lost in a power cut.

    Args:
        path: where the file shall be.
        function: name of the public function, for the message.

    Raises:
        FlashWorldError: the folder is missing or not writable, the disk is full, ``path`` is a folder.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise FlashWorldError(f"{function}: {target} is a folder; give a file name.")
    if not target.parent.is_dir():
        raise FlashWorldError(f"{function}: the folder {target.parent} does not exist; create it first.")
    temporary = target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with open(temporary, "xb") as stream:
            yield stream
        os.replace(temporary, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FlashWorldError(f"{function}: could not write {target}: {reason}. Nothing was changed.") from error
    finally:
        # Gone already after a successful rename.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def exact(values: Tensor) -> list[float]:
    """The entries of a tensor as the shortest floats that give its dtype back exactly."""
    digits = 9 if values.dtype != torch.float64 else 17
    return [float(f"{value:.{digits}g}") + 0.0 for value in values.detach().double().flatten().tolist()]
