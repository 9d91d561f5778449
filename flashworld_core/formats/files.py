"""Writing a file so that a failure or a stop leaves what was there before; JSON by anyone; exact numbers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ..errors import FlashWorldError

_TEMPORARY = re.compile(r"\..{1,100}\.[0-9a-f]{12}\.tmp")
_ABANDONED_SECONDS = 60.0  # between making a temporary file and locking it a process may sleep for a while


@contextlib.contextmanager
def atomic_writer(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A binary file that takes its real name only when the block ends without an exception.

    The bytes go to a temporary name in the same folder, which is renamed over ``path`` at the end and removed
    on any exception. A symbolic link keeps pointing where it points: its target is replaced.
    The data is not forced to the disk (no fsync), so it can still be lost in a power cut. The temporary file is locked
    while it is written: those without a lock, which killed processes left in the folder, are removed.

    Args:
        path: where the file shall be.

    Raises:
        FlashWorldError: the folder is missing or not writable, the disk is full, ``path`` is a folder or anything
            else that is no regular file.
    """
    target = check_writable(path)
    temporary = target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with open(temporary, "xb") as stream:
            _try_lock(stream)
            yield stream
        check_writable(target)  # what lies there may have changed meanwhile
        os.replace(temporary, target)
        for record in _records:
            record.append(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FlashWorldError(f"{target} could not be written: {reason}. What was there is unchanged.") from error
    finally:
        # Gone already after a successful rename.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        _remove_abandoned(target.parent)


_records: list[list[Path]] = []


@contextlib.contextmanager
def record_written(record: list[Path]) -> Iterator[None]:
    """Append to ``record`` every file that `atomic_writer` completes inside, whoever writes it."""
    _records.append(record)
    try:
        yield
    finally:
        del _records[next(i for i, other in enumerate(_records) if other is record)]


def check_writable(path: str | os.PathLike) -> Path:
    """The real path of a file to write, after what can be said before there is anything to write.

    Raises:
        FlashWorldError: its folder is not there or not writable, or it is anything but a regular file.
    """
    try:
        target = Path(os.path.realpath(path))
        mode = target.stat().st_mode if os.path.lexists(target) else stat.S_IFREG
        folder = target.parent.is_dir()
    except (OSError, ValueError) as error:  # a null character, a name too long, a loop of links
        reason = getattr(error, "strerror", None) or error
        raise FlashWorldError(f"{str(path)[:200]!r} cannot be the name of a file: {reason}.") from None
    if stat.S_ISDIR(mode):
        raise FlashWorldError(f"{target} is a folder; give a file name.")
    if not stat.S_ISREG(mode):
        raise FlashWorldError(f"{target} is a device or pipe, not an ordinary file; give another name.")
    if not folder:
        raise FlashWorldError(f"The folder {target.parent} does not exist; create it first.")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise FlashWorldError(f"The folder {target.parent} is not writable; give another place.")
    return target


def _try_lock(stream: BinaryIO) -> bool:
    """Lock an open file until it is closed; whether nobody else has it locked. True where there are no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows, which removes no open file anyway
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return False
    return True


def _remove_abandoned(folder: Path) -> None:
    """Remove temporary files of ours whose process is gone."""
    newest = time.time() - _ABANDONED_SECONDS
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not _TEMPORARY.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                continue
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < newest:
                    with open(entry.path, "rb") as stream:
                        abandoned = _try_lock(stream)
                    if abandoned:
                        os.unlink(entry.path)


def parse_json(text: str | bytes, source: str) -> object:
    """The values in a JSON text by anyone.

    Args:
        source: where the text is from, for the message.

    Raises:
        FlashWorldError: no JSON, nested too deep, or a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise FlashWorldError(f"{source} is not usable JSON: it is nested too deep.") from None
    except ValueError as error:
        raise FlashWorldError(f"{source} is not JSON: {str(error)[:200]}.") from None


def check_member(info: zipfile.ZipInfo, archive_bytes: int, where: str) -> None:
    """Refuse a record of a ZIP that says it is longer than the archive: Python takes that much memory to read it.

    Raises:
        FlashWorldError: damaged, or made to fill the memory.
    """
    stored = info.file_size if info.compress_type == zipfile.ZIP_STORED else 0
    if info.header_offset + max(info.compress_size, stored) > archive_bytes:
        raise FlashWorldError(f"{where}: {info.filename[:100]!r} reaches past the end of the file, which is damaged.")


def exact(values: Tensor) -> list[float]:
    """The entries of a tensor as the shortest floats that give its dtype back exactly."""
    digits = 9 if values.dtype != torch.float64 else 17
    return [float(f"{value:.{digits}g}") + 0.0 for value in values.detach().double().flatten().tolist()]


def check_folder(path: str | os.PathLike) -> None:
    """See that an output folder can be made and written to, before the work whose results go there. Makes nothing.

    Raises:
        FlashWorldError: a file of that name or above it, or no permission.
    """
    folder = Path(path)
    there = next((place for place in (folder, *folder.absolute().parents) if place.exists()), Path(os.sep))
    if not there.is_dir():
        raise FlashWorldError(f"{folder} cannot be a folder: {there} is a file; choose another name.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise FlashWorldError(f"{folder} cannot be written to: no permission for {there}; choose another folder.")
