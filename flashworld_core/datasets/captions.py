"""Captions of clips: one file for a set, since the multi-view sets ship none."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import FlashWorldError

NAME = "captions.jsonl"
KEYS = ("caption", "text", "prompt")
MAX_BYTES = 4 * 2**30


def read_captions(path: Path) -> dict[str, str]:
    """Prompts by clip id.

    Args:
        path: JSONL, each line {"id": ..., "caption": ...} (or "text" or "prompt"); or one JSON object {id: caption}.

    Raises:
        FlashWorldError: a line of another form, or the same id with two captions; the message names the line.
    """
    if path.stat().st_size > MAX_BYTES:
        raise FlashWorldError(f"{path} is larger than {MAX_BYTES >> 30} GiB; captions of one set are one line a clip.")
    if path.suffix.lower() == ".json":
        return _from_object(path)
    captions: dict[str, str] = {}
    with path.open(encoding="utf-8-sig") as stream:
        try:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                id, text = _entry(line, f"{path}, line {number}")
                if captions.setdefault(id, text) != text:
                    raise FlashWorldError(f"{path}, line {number}: {id!r} has two different captions; keep one.")
        except UnicodeDecodeError as error:
            raise FlashWorldError(f"{path} is not UTF-8 text ({error.reason}); save it as such.") from None
    return captions


def caption_of(values: dict) -> str | None:
    """The text of a JSON object or table row, under any of `KEYS`; a list gives its first."""
    for key in KEYS:
        text = values.get(key)
        if isinstance(text, list):
            text = next((item for item in text if isinstance(item, str)), None)
        if isinstance(text, str):
            return text
    return None


def _entry(line: str, where: str) -> tuple[str, str]:
    values = parse_line(line, where)
    id, text = values.get("id"), caption_of(values)
    if not isinstance(id, str) or text is None:
        raise FlashWorldError(f'{where}: expected {{"id": "...", "caption": "..."}}.')
    return id, text


def parse_line(line: str, where: str) -> dict:
    """The JSON object of one line."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FlashWorldError(f"{where} is not JSON: {str(error)[:100]}.") from None
    if not isinstance(values, dict):
        raise FlashWorldError(f"{where} must hold a JSON object, not a {type(values).__name__}.")
    return values


def _from_object(path: Path) -> dict[str, str]:
    values = parse_line(path.read_text(encoding="utf-8-sig", errors="replace"), str(path))
    captions = {id: caption_of({"caption": text}) for id, text in values.items()}
    if wrong := [id for id, text in captions.items() if text is None]:
        raise FlashWorldError(f"{path}: the caption of {wrong[0]!r} is no text.")
    return {id: text for id, text in captions.items() if text is not None}
