"""DL3DV-10K: ``{1K..11K}/HASH/transforms.json`` of nerfstudio, images in ``images_4`` (960P) or ``images_8`` (480P).

The sample and benchmark releases have it one level deeper, at ``HASH/nerfstudio/transforms.json``, and come without the
batch folders. The file speaks of full-size ``images/...``: sizes and focal lengths are those, whatever folder is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..errors import FlashWorldError
from ..formats.cameras import nerfstudio
from ..formats.cameras.parse import parse_json, read_text
from .clips import BrokenClip, Clip, Reading, folders, multiview_clip

LAYOUT = "BATCH/HASH/transforms.json (or HASH/nerfstudio/transforms.json) and images_4/ or images_8/ beside it"
IMAGE_FOLDERS = ("images_4", "images_8", "images_2", "images")
_FILE = "transforms.json"


def clips(root: Path, reading: Reading) -> Iterator[Clip]:
    """All scenes, in the order of their names."""
    for folder in _scenes(root):
        id = reading.relative(folder).removesuffix("/nerfstudio")
        try:
            yield _clip(folder, id, reading)
        except FlashWorldError as error:
            reading.skip(id, error)


def _scenes(root: Path, depth: int = 3) -> Iterator[Path]:
    """Folders with a transforms.json or an images folder that should have one."""
    for folder in folders(root):
        if (folder / _FILE).is_file() or any((folder / name).is_dir() for name in IMAGE_FOLDERS):
            yield folder
        elif depth > 1:
            yield from _scenes(folder, depth - 1)


def _clip(folder: Path, id: str, reading: Reading) -> Clip:
    path = folder / _FILE
    if not path.is_file():
        raise BrokenClip("there is no transforms.json")
    images = next((folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()), None)
    if images is None:
        raise BrokenClip("its images are missing", f"no {' or '.join(IMAGE_FOLDERS)} in {folder}")
    data = parse_json(read_text(path), str(path))
    if not isinstance(data, dict) or "frames" not in data:
        raise BrokenClip("its cameras cannot be read", f"{path} has no frames")
    views = nerfstudio.parse(
        data, str(path), folder=folder, root=reading.root, size=None, view_size=None, notify=lambda text: None
    )
    names = [PurePosixPath(str(name).replace("\\", "/")).name for name in views.names]
    return multiview_clip(reading, id, views, images, names, stamp=path)
