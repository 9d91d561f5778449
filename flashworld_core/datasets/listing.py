"""Lists of pictures, videos or prompts: ``*.jsonl``, ``*.csv`` and ``*.parquet`` in the set's folder.

A row has a text ("caption", "text" or "prompt") and a path relative to the folder ("image", "video", or "path", whose
ending decides). A row without a path is a prompt alone, for out-of-distribution training.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from ..errors import FlashWorldError
from ..formats.cameras.image_size import inside
from .captions import NAME, caption_of, parse_line
from .clips import VIDEOS, BrokenClip, Clip, Reading
from .pixels import stored_shape
from .videos import video_clip

LAYOUT = '*.jsonl, *.csv or *.parquet with {"image": PATH or "video": PATH, "text": ...} in each row'
_PATHS = ("image", "video", "path", "file_name", "image_path", "video_path")


def clips(root: Path, reading: Reading) -> Iterator[Clip]:
    """All rows of all lists, in the order of the files' names."""
    for ending, rows in (("jsonl", _jsonl), ("csv", _csv), ("parquet", _parquet)):
        for path in sorted(root.glob(f"*.{ending}")):
            if path.name == NAME:
                continue
            for number, values in rows(path, reading):
                id = f"{path.stem}/{number}"
                try:
                    yield _clip(values, id, reading)
                except FlashWorldError as error:
                    reading.skip(id, error, "it cannot be read")


def _clip(values: dict, id: str, reading: Reading) -> Clip:
    own = values.get("id")
    id = own if isinstance(own, str) and own else id
    prompt = reading.captions.get(id) or caption_of(values)
    if prompt is None or not prompt.strip():
        raise BrokenClip("it has no text", f"its keys: {', '.join(map(str, values))[:100]}")
    key = next((key for key in _PATHS if isinstance(values.get(key), str) and values[key]), None)
    if key is None:
        return Clip(id=id, kind="prompt", prompt=prompt.strip())
    path = inside(reading.root, values[key], reading.root)
    if path is None:
        raise BrokenClip("its file is missing or lies outside the folder", values[key][:100])
    if path.suffix.lower() in VIDEOS:
        return video_clip(path, id, prompt.strip(), reading)
    stored_shape(path)
    return Clip(id=id, kind="image", prompt=prompt.strip(), frames=(reading.relative(path),))


def _jsonl(path: Path, reading: Reading) -> Iterator[tuple[int, dict]]:
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                yield number, parse_line(line, f"{path.name}, line {number}")
            except FlashWorldError as error:
                reading.skip(f"{path.stem}/{number}", error, "its line is no JSON object")


def _csv(path: Path, reading: Reading) -> Iterator[tuple[int, dict]]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        try:
            yield from enumerate(csv.DictReader(stream), start=2)
        except csv.Error as error:
            reading.skip(path.name, BrokenClip("its table cannot be read", str(error)))


def _parquet(path: Path, reading: Reading) -> Iterator[tuple[int, dict]]:
    try:
        import pyarrow.parquet  # pyright: ignore[reportMissingImports]  not among what the project installs
    except ImportError as error:
        raise FlashWorldError(f"{path.name} is a Parquet file; install the package pyarrow to read it.") from error
    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (OSError, ValueError) as error:  # pyarrow's own errors are kinds of these
        reading.skip(path.name, BrokenClip("its table cannot be read", str(error)[:200]))
