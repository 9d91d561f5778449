"""The files of a SOG scene, from a ZIP or a folder: none outside it, none larger than it may be."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ...errors import FlashWorldError
from ..files import check_member
from .rows import check_expansion

_META_LIMIT = 8 << 20  # bytes; 15 kB is usual


class SogBundle:
    """The files beside a meta.json, in a ZIP or a folder; a context manager.

    Raises:
        FlashWorldError: neither, or no meta.json in it.
    """

    def __init__(self, path: str | os.PathLike):
        path = Path(path)
        self.where, self._zip, self._folder = path.name, None, None
        if path.is_dir() or path.name == "meta.json":
            self._folder = path if path.is_dir() else path.parent
            if not (self._folder / "meta.json").is_file():
                raise FlashWorldError(f"{path.name}: the folder holds no meta.json, so no SOG scene.")
            self.size = sum(entry.stat().st_size for entry in self._folder.iterdir() if entry.is_file())
            return
        self.size = os.path.getsize(path)
        try:
            self._zip = zipfile.ZipFile(path)
            names = [n for n in self._zip.namelist() if PurePosixPath(n).name == "meta.json"]
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise FlashWorldError(f"{self.where}: the ZIP cannot be read ({error}).") from None
        if not names:
            self._zip.close()
            kind = (
                "a streamed SOG of many parts (lod-meta.json)"
                if self._has("lod-meta.json")
                else "a ZIP without meta.json"
            )
            raise FlashWorldError(f"{self.where}: is {kind}; a SOG scene has a meta.json and its pictures.")
        self._prefix = str(PurePosixPath(min(names, key=len)).parent / "x")[:-1].removeprefix("./")

    def __enter__(self) -> SogBundle:
        return self

    def __exit__(self, *_):
        if self._zip is not None:
            self._zip.close()

    def meta(self) -> dict:
        """The content of meta.json."""
        try:
            content = json.loads(self.read("meta.json", _META_LIMIT))
        except (ValueError, RecursionError) as error:
            raise FlashWorldError(f"{self.where}: meta.json cannot be read ({str(error)[:100]}).") from None
        if not isinstance(content, dict):
            raise FlashWorldError(f"{self.where}: meta.json is no JSON object.")
        return content

    def read(self, name: str, limit: int | None = None) -> bytes:
        """A file of the bundle; no name leads out of it.

        Raises:
            FlashWorldError: a name that does, a missing or damaged file, or one larger than ``limit``.
        """
        plain = PurePosixPath(name)
        if not name or plain.is_absolute() or ".." in plain.parts or "\\" in name or ":" in name or "\0" in name:
            raise FlashWorldError(f"{self.where}: the file name {name[:80]!r} leaves its folder.")
        if self._zip is None:
            target = (self._folder / name).resolve()
            if not target.is_relative_to(self._folder.resolve()) or not target.is_file():
                raise FlashWorldError(f"{self.where}: {name[:80]!r} is missing, or a link to another folder.")
            if limit is not None and target.stat().st_size > limit:
                raise FlashWorldError(f"{self.where}: {name} is too large.")
            return target.read_bytes()
        known = self._zip.NameToInfo
        info = known.get(self._prefix + name) or known.get(name)
        if info is None:
            raise FlashWorldError(f"{self.where}: {name[:80]!r} is missing in the ZIP.")
        if limit is not None and info.file_size > limit:
            raise FlashWorldError(f"{self.where}: {name} is too large.")
        check_member(info, self.size, self.where)
        check_expansion(8 * info.file_size, self.size, f"{self.where}: {name[:80]}")
        try:
            return self._zip.read(info)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise FlashWorldError(f"{self.where}: {name[:80]!r} in the ZIP is damaged ({str(error)[:80]}).") from None

    def _has(self, name: str) -> bool:
        return any(PurePosixPath(n).name == name for n in self._zip.namelist())
