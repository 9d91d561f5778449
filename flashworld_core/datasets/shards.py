"""Tar shards as WebDataset and img2dataset write them: ``*.tar`` whose members of one name belong together.

``000017.jpg`` with ``000017.txt`` (or ``.json`` with a caption) is one picture. Nothing is unpacked: the index keeps
where in the shard each picture lies. Members that are not needed, pickles among them, are never read.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import FlashWorldError
from .captions import caption_of, parse_line
from .clips import IMAGES, BrokenClip, Clip, Reading
from .image_text import MAX_TEXT, files

LAYOUT = "*.tar of NAME.{jpg,png,webp} and NAME.{txt,json} pairs (not compressed)"
_TEXTS = (".txt", ".caption", ".json")
_COMPRESSED = (".tgz", ".gz", ".bz2", ".xz", ".zst")


def clips(root: Path, reading: Reading) -> Iterator[Clip]:
    """All pictures of all shards, in the order of their names."""
    for path in files(root, _COMPRESSED):
        if ".tar" in path.name or path.suffix == ".tgz":
            reading.skip(reading.relative(path), BrokenClip("the shard is compressed", "unpack it to a plain .tar"))
    for path in files(root, (".tar",)):
        stamp, shard = reading.stamp(path), reading.relative(path)
        try:
            with tarfile.open(path, "r:") as archive:
                for name, members in _samples(archive):
                    id = f"{shard.removesuffix('.tar')}/{name}"
                    try:
                        yield _clip(archive, members, id, shard, stamp, reading)
                    except FlashWorldError as error:
                        reading.skip(id, error, "it cannot be read")
        except (tarfile.TarError, OSError, EOFError) as error:
            reading.skip(shard, BrokenClip("the shard is damaged", str(error)[:200]))


def _samples(archive: tarfile.TarFile) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Name, and members by ending, of neighbors that share everything up to the first dot of the file's name."""
    current, members = None, {}
    for member in archive:
        if not member.isreg():
            continue
        folder, _, file = member.name.rpartition("/")
        stem, _, ending = file.partition(".")
        name = f"{folder}/{stem}" if folder else stem
        if name != current and members:
            yield current, members
            members = {}
        current = name
        members["." + ending.lower()] = member
        archive.members = []  # else the library keeps every header of a shard
    if members:
        yield current, members


def _clip(archive, members, id: str, shard: str, stamp, reading: Reading) -> Clip:
    picture = next((members[ending] for ending in IMAGES if ending in members), None)
    if picture is None:
        raise BrokenClip("it has no picture", ", ".join(members)[:100])
    prompt = reading.captions.get(id, "") or _text(archive, members, id)
    if not prompt.strip():
        raise BrokenClip("it has no text", ", ".join(members)[:100])
    return Clip(
        id=id, kind="image", prompt=prompt.strip(), frames=((picture.offset_data, picture.size),), store="tar",
        container=shard, stamp=stamp,
    )  # fmt: skip


def _text(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], id: str) -> str:
    for ending in _TEXTS:
        member = members.get(ending)
        if member is None or member.size > MAX_TEXT:
            continue
        stream = archive.extractfile(member)
        text = stream.read(MAX_TEXT).decode("utf-8-sig", "replace") if stream else ""
        if ending == ".json":
            text = caption_of(parse_line(text, f"{id}.json")) or ""
        if text.strip():
            return text
    return ""
