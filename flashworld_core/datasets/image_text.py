"""Pictures with text: a folder, searched through, of ``NAME.{jpg,png,webp}`` each with its ``NAME.txt``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import FlashWorldError
from .clips import IMAGES, BrokenClip, Clip, Reading
from .pixels import stored_shape

LAYOUT = "NAME.{jpg,png,webp} with NAME.txt beside it, in folders of any depth"
MAX_TEXT = 64 * 1024  # bytes


def clips(root: Path, reading: Reading) -> Iterator[Clip]:
    """All pictures that have a text or a caption."""
    for path in files(root, IMAGES):
        id = reading.relative(path.with_suffix(""))
        try:
            prompt = text_beside(path, id, reading)
            stored_shape(path)
            yield Clip(id=id, kind="image", prompt=prompt, frames=(reading.relative(path),))
        except FlashWorldError as error:
            reading.skip(id, error, "it cannot be read")


def files(root: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    """All files of these endings below a folder, by name; links to folders are not followed."""
    found = sorted(root.iterdir())
    for path in found:
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from files(path, endings)
        elif path.suffix.lower() in endings and path.is_file():
            yield path


def text_beside(path: Path, id: str, reading: Reading) -> str:
    """The prompt of a file: its caption, else its .txt.

    Raises:
        BrokenClip: there is neither, or the text is empty or too long to be one.
    """
    if id in reading.captions:
        return reading.prompt(id)
    text = path.with_suffix(".txt")
    if not text.is_file():
        raise BrokenClip("it has no text", f"no {text.name}")
    if text.stat().st_size > MAX_TEXT:
        raise BrokenClip("its text is no prompt", f"{text.name} has more than {MAX_TEXT >> 10} KiB")
    prompt = text.read_text(encoding="utf-8-sig", errors="replace").strip()
    if not prompt:
        raise BrokenClip("it has no text", f"{text.name} is empty")
    return prompt
