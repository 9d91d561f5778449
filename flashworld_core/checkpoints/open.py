"""Weight files of every origin behind one face: names, shapes and dtypes first, tensors one at a time.

`open_weights` reads safetensors files, folders of safetensors shards, and torch files (zip archives read
memory-mapped with ``weights_only=True``). Nothing is copied or allocated until `WeightFile.read` is called,
and what it returns is mapped from the disk wherever the format allows.
"""

from __future__ import annotations

import dataclasses
import io
import mmap
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..errors import FlashWorldError, is_out_of_memory
from ..formats.files import check_member, parse_json
from ..text import get_logger
from .pickle_scan import largest_storage, refused_object

logger = get_logger(__name__)
SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
MAX_SAFETENSORS_HEADER = 100_000_000  # the format's own limit
MAX_PICKLE_BYTES = 256 * 2**20  # of a torch file's structure, not of its tensors
# Torch files from before the zip format cannot be mapped; they are read whole, so only small ones are.
MAX_LEGACY_BYTES = 4 * 2**30
MAX_ENTRIES = 200_000  # visited in a torch file: dictionaries may share their contents, over and over
# Torch files are refused below: reading them may corrupt memory (CVE-2026-24747), up to 2.5 even run code from
# them (CVE-2025-32434), in spite of weights_only=True.
SAFE_TORCH = (2, 10)
INDEX_NAMES = ("model.safetensors.index.json", "diffusion_pytorch_model.safetensors.index.json")
SINGLE_NAMES = ("model.safetensors", "diffusion_pytorch_model.safetensors", "pytorch_model.bin")

# What Python's zip reader raises for archives that lie about themselves.
_ZIP_DAMAGE = (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError, struct.error)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One stored tensor: its shape and dtype (None if torch has no such type) and how to read it."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None
    read: Callable[[], Tensor]


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """The tensors of a file or folder by name, unread.

    Attributes:
        path: where they came from.
        kind: "safetensors", "sharded safetensors" or "torch".
        entries: by name; nested dictionaries of a torch file are joined with dots.
        metadata: the text metadata of a safetensors file.
        top_level: names at the top of a torch file, for telling files apart.
        nbytes: size on disk.
    """

    path: Path
    kind: str
    entries: dict[str, Entry]
    metadata: dict[str, str]
    top_level: tuple[str, ...]
    nbytes: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self.entries.items()}

    def read(self, name: str) -> Tensor:
        """The tensor ``name`` on the CPU, mapped from the file where the format allows."""
        entry = self.entries[name]
        if entry.dtype is None:
            raise FlashWorldError(f"{self.path}: {name} has a number format this torch does not know.")
        try:
            return entry.read()
        except (RuntimeError, OSError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            raise FlashWorldError(f"{self.path}: {name} cannot be read: {error}") from error


def open_weights(path: str | Path) -> WeightFile:
    """Open a weight file or a folder of shards.

    Args:
        path: a ``.safetensors`` file, a torch file (``.ckpt``, ``.pt``, ``.pth``, ``.bin``), or a folder holding
            either a ``*.safetensors.index.json`` with its shards or one weight file. The content decides, not the
            extension.

    Raises:
        FlashWorldError: not there, not a weight file (the message says what it is), cut short, or a pickle that
            asks for anything but tensors and plain containers (nothing of it is executed).
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise FlashWorldError(f"no such file: {path}")
    kind = sniff(path)
    if kind == "safetensors":
        return _open_safetensors(path)
    if kind in ("torch", "legacy torch"):
        return _open_torch(path, legacy=kind == "legacy torch")
    raise FlashWorldError(f"{path} is {kind}.")


def sniff(path: Path) -> str:
    """What a file is by its first bytes: "safetensors", "torch", "legacy torch", or a sentence for an error."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(512)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if size == 0:
        return "an empty file; download it again"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself; fetch it with `git lfs pull` or download it"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page, not weights; the download needs a login or a direct link"
    if head.startswith(b"GGUF"):
        return "a GGUF file, which is not supported; use the safetensors or .ckpt weights"
    if head.startswith(b"PK"):
        if not zipfile.is_zipfile(path):
            return f"a torch file cut short (its end is missing at {size:,} bytes); download it again"
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except _ZIP_DAMAGE as error:
            return f"a damaged zip archive ({str(error)[:100]}); download it again"
        if any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
            return "torch"
        return "a zip archive, not weights; unpack it and give the weight file"
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_SAFETENSORS_HEADER:
        return "safetensors"
    if text.startswith((b"{", b"[")):
        return "a JSON text, not weights; give the weight file or the model's folder"
    if head.startswith(b"\x80") or head[257:262] == b"ustar":
        return "legacy torch"
    return "not a weight file (neither safetensors nor torch)"


def _open_folder(folder: Path) -> WeightFile:
    for name in INDEX_NAMES:
        if (folder / name).is_file():
            return _open_sharded(folder, folder / name)
    for name in SINGLE_NAMES:
        if (folder / name).is_file():
            return open_weights(folder / name)
    candidates = sorted(folder.glob("*.safetensors"))
    if len(candidates) == 1:
        return open_weights(candidates[0])
    found = f"{len(candidates)} safetensors files and no index" if candidates else "no weight file"
    raise FlashWorldError(f"the folder {folder} holds {found}; name the file.")


def _open_sharded(folder: Path, index: Path) -> WeightFile:
    try:
        weight_map = parse_json(index.read_bytes(), str(index))["weight_map"]
        files = sorted(set(weight_map.values()))
    except FlashWorldError:
        raise
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise FlashWorldError(f"{index} is not an index of shards: {error!r}.") from error
    shards = {}
    for name in files:
        if not isinstance(name, str) or Path(name).name != name:
            raise FlashWorldError(f"{index} names {name!r}, which is not a file beside it.")
        if not (folder / name).is_file():
            raise FlashWorldError(f"the shard {folder / name} is missing; download it.")
        shards[name] = open_weights(folder / name)
    entries = {}
    for name, file in weight_map.items():
        if name not in shards[file].entries:
            raise FlashWorldError(f"{folder / file} lacks {name}, which {index.name} promises.")
        entries[name] = shards[file].entries[name]
    return WeightFile(folder, "sharded safetensors", entries, {}, (), sum(shard.nbytes for shard in shards.values()))


def _open_safetensors(path: Path) -> WeightFile:
    from safetensors import SafetensorError, safe_open

    _check_safetensors_length(path)
    try:
        file = safe_open(path, framework="pt", device="cpu")
        names = list(file.keys())
    except (SafetensorError, OSError, ValueError) as error:
        raise FlashWorldError(f"{path} is a damaged safetensors file: {error}.") from error
    entries = {}
    for name in names:
        view = file.get_slice(name)
        dtype = SAFETENSORS_DTYPES.get(view.get_dtype())
        entries[name] = Entry(tuple(view.get_shape()), dtype, lambda name=name: file.get_tensor(name))
    return WeightFile(path, "safetensors", entries, file.metadata() or {}, (), path.stat().st_size)


def _check_safetensors_length(path: Path) -> None:
    """Say how much is missing from a download cut short; every other damage is left to the library."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(8), "little")
        header = stream.read(min(header_bytes, size))
    try:
        tensors = parse_json(header, f"The header of {path}") if len(header) == header_bytes else {}
        needed = (
            8
            + header_bytes
            + max((entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"), default=0)
        )
    except FlashWorldError as error:
        raise FlashWorldError(f"{path} is a damaged safetensors file: {error}") from None
    except (TypeError, KeyError, IndexError, AttributeError):
        return
    if needed > size:
        raise FlashWorldError(f"{path} is cut short: {size:,} bytes of {needed:,}; download it again.")


def _open_torch(path: Path, legacy: bool) -> WeightFile:
    size = path.stat().st_size
    if _torch_version() < SAFE_TORCH:
        raise FlashWorldError(
            f"{path} is a torch file, which is not safe to read with PyTorch {torch.__version__}; update PyTorch to "
            f"{'.'.join(map(str, SAFE_TORCH))} or later, or use its safetensors version."
        )
    if legacy and size > MAX_LEGACY_BYTES:
        raise FlashWorldError(
            f"{path} is a torch file of the old kind, too large to read whole; "
            "save it again with a current torch, or use its safetensors version."
        )
    refused = _check_old_file(path, size) if legacy else _check_archive(path, size)
    if refused is not None:
        raise FlashWorldError(f"{path} is refused: {_asks_for(refused)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch asks to report unusual pickle protocols to it
            content = torch.load(path, map_location="cpu", mmap=not legacy, weights_only=True)
    except pickle.UnpicklingError as error:
        raise FlashWorldError(f"{path} is refused: {_refusal(error)}") from error
    except Exception as error:  # damaged archives raise RuntimeError, EOFError, UnicodeDecodeError, KeyError ...
        if is_out_of_memory(error):
            raise
        raise FlashWorldError(f"{path} is a damaged torch file: {str(error)[:300]}") from error
    if not isinstance(content, dict):
        raise FlashWorldError(f"{path} holds a {type(content).__name__}, not named tensors.")
    return WeightFile(path, "torch", _flatten(content, path), {}, tuple(str(key)[:100] for key in content), size)


def _check_old_file(path: Path, size: int) -> str | None:
    """As `_check_archive`, for a torch file of the old kind: pickles one after another, then the numbers."""
    count = 5  # magic number, version, system, content, keys
    # Mapped: asked for more bytes than there are, a mapping gives what there is, a file first takes memory for all.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        refused = refused_object(stream, count)
        if refused is not None:
            return refused
        stream.seek(0)
        try:
            largest = largest_storage(stream, count)
        except Exception as error:  # any: it parses what anyone wrote
            raise FlashWorldError(f"{path} is a damaged torch file: {str(error)[:100]}.") from error
    if largest > size:
        raise FlashWorldError(f"{path} is a damaged torch file: it promises more numbers than it has bytes.")
    return None


def _torch_version() -> tuple[int, int]:
    return tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])


def _check_archive(path: Path, size: int) -> str | None:
    """Refuse an archive no torch wrote; the name of an object its structure asks for and may not have, if any.

    Torch stores its records uncompressed; anything else could unpack to any size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(set(names)) < len(names):
                raise FlashWorldError(f"{path} is a damaged torch file: it holds a record twice.")
            for info in archive.infolist():
                if info.compress_type != zipfile.ZIP_STORED:
                    raise FlashWorldError(f"{path}: {info.filename[:100]} is compressed, which torch never does.")
                if info.filename.endswith("data.pkl") and info.file_size > MAX_PICKLE_BYTES:
                    raise FlashWorldError(f"{path}: {info.filename[:100]} is implausibly large.")
                check_member(info, size, str(path))
            for name in names:
                if name.endswith("data.pkl"):
                    with archive.open(name) as stream:
                        refused = refused_object(io.BytesIO(stream.read()), pickles=1)
                    if refused is not None:
                        return refused
    except FlashWorldError:
        raise
    except (*_ZIP_DAMAGE, RuntimeError) as error:  # RuntimeError: encrypted
        raise FlashWorldError(f"{path} is a damaged torch file: {str(error)[:100]}.") from error
    return None


def _refusal(error: pickle.UnpicklingError) -> str:
    """The cause of a refused pickle without torch's advice to switch the protection off."""
    text = str(error)
    for marker in ("GLOBAL ", "global "):
        if marker in text:
            return _asks_for(text.split(marker, 1)[1].split()[0].strip("`'\",."))
    return "it is damaged, or holds more than tensors. Nothing was executed."


def _asks_for(name: str) -> str:
    return (
        f"it asks for the Python object {name[:100]}, and loading that could run code. "
        "Nothing was executed. Use a file that holds only tensors, such as the safetensors version."
    )


def _flatten(content: dict, path: Path) -> dict[str, Entry]:
    """Join nested dictionaries of tensors with dots, three deep; whatever else they hold is left out."""
    entries: dict[str, Entry] = {}
    visited = 0

    def visit(content: dict, prefix: str, depth: int) -> None:
        nonlocal visited
        for key, value in content.items():
            visited += 1
            if visited > MAX_ENTRIES:
                raise FlashWorldError(f"{path} is refused: it has over {MAX_ENTRIES:,} entries, as no model has.")
            name = f"{prefix}{key}"
            if isinstance(value, Tensor):
                entries[name] = _entry(name, value, path)
            elif isinstance(value, dict) and depth > 1:
                visit(value, f"{name}.", depth - 1)

    visit(content, "", 3)
    return entries


def _entry(name: str, value: Tensor, path: Path) -> Entry:
    if (
        value.layout is not torch.strided
        or value.device.type != "cpu"
        or value.untyped_storage().nbytes() < value.numel() * value.element_size()
    ):
        raise FlashWorldError(f"{path}: {name[:100]} is not stored in full.")
    known = value.dtype in SAFETENSORS_DTYPES.values()
    return Entry(tuple(value.shape), value.dtype if known else None, lambda: value.detach())


# Wrappings other programs put around a network's own names.
WRAPPINGS = (
    "model.diffusion_model.", "diffusion_model.", "first_stage_model.", "state_dict.", "model_state.", "model.",
    "module.", "vae.", "net.",
)  # fmt: skip


def unwrapped(names: list[str]) -> tuple[str, list[str]]:
    """The wrapping that all ``names`` share ("" if none), and the names without it."""
    prefix = ""
    while names:
        found = next((w for w in WRAPPINGS if all(name.startswith(w) for name in names)), None)
        if found is None:
            break
        prefix += found
        names = [name.removeprefix(found) for name in names]
    return prefix, names
