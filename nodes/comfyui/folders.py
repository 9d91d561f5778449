"""ComfyUI's folders: which model files there are, and paths that cannot leave the folder they belong to.

Whatever a workflow says goes through `checked_name` and ends inside the input, output, temp or model folders.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

import folder_paths

from ...flashworld_core.errors import FlashWorldError

MODEL_FOLDER = "flashworld"  # below ComfyUI's models folder, or wherever extra_model_paths.yaml puts this name
MODEL_FOLDERS = (MODEL_FOLDER, "diffusion_models")
MODEL_EXTENSIONS = frozenset({".safetensors", ".ckpt", ".pt"})

_MAX_NAME = 200
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3])", re.IGNORECASE
)
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*]')


def register_model_folder() -> None:
    """Make ``models/flashworld`` known to the host; what a user's extra_model_paths.yaml added to it stays."""
    paths, extensions = folder_paths.folder_names_and_paths.get(MODEL_FOLDER, ([], set()))
    default = os.path.join(folder_paths.models_dir, MODEL_FOLDER)
    paths = [*paths, *([] if default in paths else [default])]
    folder_paths.folder_names_and_paths[MODEL_FOLDER] = (paths, set(extensions) | MODEL_EXTENSIONS)


def model_files() -> list[str]:
    """Names for the loader's list, folder by folder; a name in two folders means the first."""
    names = [name for folder in MODEL_FOLDERS for name in folder_paths.get_filename_list(folder)]
    return list(dict.fromkeys(n for n in names if Path(n).suffix.lower() in MODEL_EXTENSIONS))


def model_file(name: str) -> Path | None:
    """The path of a name from `model_files`; None if there is no such file."""
    checked_name(name, "the model file")
    for folder in MODEL_FOLDERS:
        path = folder_paths.get_full_path(folder, name)
        if path is not None and Path(path).suffix.lower() in MODEL_EXTENSIONS:
            return Path(path)
    return None


def model_folder() -> str:
    """Where model files are expected, for messages."""
    return folder_paths.get_folder_paths(MODEL_FOLDER)[0]


def find_model(folder: str, matches: Callable[[str], bool]) -> Path | None:
    """The first of `find_models`; None if there is none."""
    return next(iter(find_models(folder, matches)), None)


def find_models(folder: str, matches: Callable[[str], bool]) -> list[Path]:
    """The files of one of the host's model folders ("vae", "text_encoders") whose base names ``matches``."""
    names = [name for name in folder_paths.get_filename_list(folder) if matches(os.path.basename(name))]
    return [Path(folder_paths.get_full_path(folder, name)) for name in names]


def input_files(extensions: Iterable[str], kind: str = "input") -> list[str]:
    """Files below ComfyUI's input (or ``kind`` "output") folder with one of these extensions, as sorted names with "/".

    Those of the input folder are relative to it, others end in the host's suffix, " [output]".
    """
    roots = {"input": folder_paths.get_input_directory, "output": folder_paths.get_output_directory}
    root, wanted = Path(roots[kind]()), {e.lower() for e in extensions}
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = Path(folder).relative_to(root)
        found += [(relative / name).as_posix() for name in files if Path(name).suffix.lower() in wanted]
    return sorted(found if kind == "input" else (f"{name} [{kind}]" for name in found))


def input_path(name: str, what: str = "the file") -> Path:
    """A file or folder below the input folder (or, with the host's suffixes " [output]", " [temp]", below those).

    Raises:
        FlashWorldError: a name that is none or leads out of the folder, or nothing there.
    """
    match = re.fullmatch(r"(.*?)\s*\[(input|output|temp)\]", checked_name(name, what))
    root = {
        "input": folder_paths.get_input_directory,
        "output": folder_paths.get_output_directory,
        "temp": folder_paths.get_temp_directory,
    }[match[2] if match else "input"]()
    name = match[1] if match else name
    path = _inside(root, checked_name(name, what), what)
    if not path.exists():
        raise FlashWorldError(
            f"{what} {name!r} is not in ComfyUI's {match[2] if match else 'input'} folder ({root}). Put it there, or "
            "choose another."
        )
    return path


def root_of(path: Path) -> Path:
    """Which of the host's folders a path from `input_path` lies in."""
    roots = folder_paths.get_output_directory(), folder_paths.get_temp_directory(), folder_paths.get_input_directory()
    return next(root for root in map(Path, map(os.path.realpath, roots)) if path.is_relative_to(root))


def input_fingerprint(name: str) -> str:
    """Changes whenever the file does: for ``fingerprint_inputs``. A name that leads nowhere has one of its own."""
    try:
        path = input_path(name)
    except FlashWorldError as error:
        return str(error)
    parts = sorted(path.iterdir()) if path.is_dir() else [path]
    return "|".join(f"{p.name} {state.st_mtime_ns} {state.st_size}" for p in parts if (state := _state(p)) is not None)


def _state(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:  # a link that leads nowhere
        return None


class OutputFile:
    """The next free numbered name in the output folder: ``prefix_00001_.ext``.

    Attributes:
        path: where to write; its folder exists. ``beside(".json")`` gives the same name with another extension.
        subfolder: relative to the output folder, "" at its top.
        filename: the base name.
    """

    def __init__(self, prefix: str, extension: str, width: int = 0, height: int = 0):
        """
        Raises:
            FlashWorldError: a prefix that is no name, or leads out of the output folder.
        """
        root = folder_paths.get_output_directory()
        checked_name(prefix, "filename_prefix")
        _inside(root, os.path.dirname(prefix), "filename_prefix")  # before the host makes folders
        try:
            _, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, root, width, height)
        except Exception as error:  # the host says "outside" with a bare Exception
            raise FlashWorldError(f"filename_prefix {prefix!r} cannot be used: {error}") from error
        self.filename, self.subfolder = f"{name}_{counter:05}_{extension}", subfolder
        self.path = _inside(root, os.path.join(subfolder, self.filename), "filename_prefix")

    def beside(self, extension: str) -> Path:
        return self.path.with_suffix(extension)

    @property
    def result(self) -> dict:
        """As the host's UI wants it."""
        return {"filename": self.filename, "subfolder": self.subfolder, "type": "output"}


def temp_file(extension: str) -> tuple[Path, dict]:
    """A new name in the temp folder, and how the host's /view finds it. The host empties that folder at start."""
    root = Path(folder_paths.get_temp_directory())
    root.mkdir(parents=True, exist_ok=True)
    name = f"flashworld_{uuid.uuid4().hex}{extension}"
    return root / name, {"filename": name, "subfolder": "", "type": "temp"}


def checked_name(name: str, what: str) -> str:
    """A relative file name that is one on every system.

    Raises:
        FlashWorldError: absolute, with "..", with characters or names a system reserves, or too long.
    """
    if not isinstance(name, str) or not name.strip():
        raise FlashWorldError(f"{what} needs a name.")
    shown = repr(name[:80])
    if len(name) > _MAX_NAME:
        raise FlashWorldError(f"{what}: the name {shown}... is longer than {_MAX_NAME} characters.")
    if name[0] in "/\\~" or re.match(r"[A-Za-z]:", name):
        raise FlashWorldError(f"{what}: {shown} is an absolute path; give a name inside ComfyUI's folder.")
    if _FORBIDDEN.search(name):
        raise FlashWorldError(f"{what}: {shown} has characters that file names cannot have everywhere.")
    for part in re.split(r"[/\\]", name):
        if part == "..":
            raise FlashWorldError(f"{what}: {shown} leads out of the folder with '..'.")
        if _RESERVED.fullmatch(part.split(".")[0].strip()) or part != part.rstrip(" ."):
            raise FlashWorldError(f"{what}: {part!r} is a name Windows reserves or cannot keep; choose another.")
    return name


def _inside(root: str | os.PathLike, name: str, what: str) -> Path:
    """``root / name``, symbolic links followed, which must lie in ``root``."""
    base = os.path.realpath(root)
    path = os.path.realpath(os.path.join(base, name.replace("\\", "/")))
    try:
        inside = os.path.commonpath((base, path)) == base
    except ValueError:  # another drive
        inside = False
    if not inside:
        raise FlashWorldError(f"{what}: {name!r} leads out of ComfyUI's folder.")
    return Path(path)
