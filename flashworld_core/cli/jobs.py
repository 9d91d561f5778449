"""What `generate` is asked for, as requests: one, or many from several pictures, prompts, seeds or a list in a file."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FlashWorldError
from .arguments import is_path_file, say, trajectory

if TYPE_CHECKING:
    from ..generators.base import GeneratorInfo, Request

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif")
MAX_JOBS = 10_000
LIST_KEYS = ("image", "prompt", "seed", "image_index", "trajectory", "name")  # of a line of a JSON lines file


@dataclasses.dataclass(frozen=True)
class Job:
    """One scene to make.

    Attributes:
        name: of its folder; empty: there is only one, which goes to the output folder itself.
        request: what is asked.
    """

    name: str
    request: Request


def seeds(text: str) -> list[int]:
    """The seeds in "7", "0-4" or "1,5,10-12"."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,20})\s*(?:-\s*(\d{1,20})\s*)?", part)
        if not match:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is neither a whole number nor a list like 0-4,7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= 1 << 64 or last - first >= MAX_JOBS or len(found) > MAX_JOBS:
            raise argparse.ArgumentTypeError(f"{text[:40]!r}: seeds rise, are below 2^64 and at most {MAX_JOBS:,}")
        found += range(first, last + 1)
    return found


def jobs_of(options, info: GeneratorInfo, steps) -> list[Job]:
    """The scenes an options namespace asks for.

    Args:
        info: of the model.
        steps: as in `Request.steps`.

    Raises:
        FlashWorldError: nothing to make a scene from, files that are missing, lists of different lengths.
    """
    _said.clear()
    if options.request is not None:
        if options.image or (options.request.suffix.lower() in (".jsonl", ".ndjson") and options.prompt):
            raise FlashWorldError("--request brings its own pictures and prompts; leave out --image.")
        if options.request.suffix.lower() in (".jsonl", ".ndjson"):
            return _from_list(options, info, steps)
        return [Job(name, _official(options, info, steps, seed)) for name, seed in _by_seed(options.seed)]
    pictures, prompts = _pictures(options.image), [prompt for prompt in options.prompt if prompt.strip()]
    if not pictures and not prompts:
        raise FlashWorldError("Give --image, --prompt or both (or a --request file).")
    if min(len(pictures), len(prompts)) > 1 and len(pictures) != len(prompts):
        raise FlashWorldError(
            f"{len(pictures)} pictures and {len(prompts)} prompts: give as many of one as of the other, or one for all."
        )
    count = max(len(pictures), len(prompts))
    pictures = pictures * count if len(pictures) == 1 else pictures or [None] * count
    prompts = prompts * count if len(prompts) == 1 else prompts or [""] * count
    asked = [(p, text, seed) for p, text in zip(pictures, prompts, strict=True) for seed in options.seed]
    _check_count(len(asked))
    index = options.image_index or 0
    several = len(options.seed) > 1
    return [
        Job(
            _name(number, picture.stem if picture else prompt, seed if several else None) if len(asked) > 1 else "",
            _request(options, info, steps, picture, prompt, seed, index),
        )
        for number, (picture, prompt, seed) in enumerate(asked)
    ]


def object_jobs(options, steps, more: dict, mask=None) -> list[Job]:
    """The objects an options namespace asks for: one for every picture and seed.

    Args:
        steps: as in `Request.steps`.
        more: of `Request.options`.
        mask: of every picture, [H, W].

    Raises:
        FlashWorldError: files that are missing.
    """
    from ..generators.base import Request, ViewImage

    asked = [(picture, seed) for picture in _pictures(options.image) for seed in options.seed]
    _check_count(len(asked))
    prompt, several = " ".join(options.prompt), len(options.seed) > 1
    return [
        Job(
            _name(number, picture.stem, seed if several else None) if len(asked) > 1 else "",
            Request(None, (ViewImage(picture, mask=mask),), prompt, seed, steps, options=more),
        )
        for number, (picture, seed) in enumerate(asked)
    ]


def _check_count(count: int) -> None:
    if count > MAX_JOBS:
        raise FlashWorldError(f"{count:,} scenes in one command are more than {MAX_JOBS:,}; split them.")


def _name(number: int, text: str, seed: int | None) -> str:
    """A folder's name: number, a few words, the seed where there are several."""
    words = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:32].strip("_")
    return "_".join(part for part in (f"{number:03d}", words, None if seed is None else f"seed{seed}") if part)


def _by_seed(values: list[int]) -> list[tuple[str, int]]:
    return [(f"{n:03d}_seed{seed}" if len(values) > 1 else "", seed) for n, seed in enumerate(values)]


def _pictures(given: list[str] | None) -> list[Path]:
    """The files; a folder stands for the pictures in it, by name."""
    files = []
    for item in map(Path, given or ()):
        if item.is_dir():
            found = sorted(path for path in item.iterdir() if path.suffix.lower() in PICTURES and path.is_file())
            if not found:
                raise FlashWorldError(f"--image {item}: no pictures in this folder ({', '.join(PICTURES)}).")
            files += found
        elif item.is_file():
            files.append(item)
        else:
            raise FlashWorldError(f"--image {item}: no such file.")
    return files


def _from_list(options, info: GeneratorInfo, steps) -> list[Job]:
    """The jobs of a JSON lines file; paths in it are relative to its folder."""
    from ..formats.files import parse_json

    file, jobs = options.request, []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FlashWorldError(f"{file}: cannot be read: {error}.") from error
    entries = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    _check_count(len(entries) * len(options.seed))
    for number, line in entries:
        where = f"{file}, line {number}"
        entry = parse_json(line, where)
        if not isinstance(entry, dict) or set(entry) - set(LIST_KEYS):
            raise FlashWorldError(f"{where}: must be an object with some of the keys {', '.join(LIST_KEYS)}.")
        for key in ("seed", "image_index"):
            if not isinstance(value := entry.get(key, 0), int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
                raise FlashWorldError(f"{where}: {key} must be a whole number, not {json.dumps(value)[:40]}.")
        for key in ("image", "prompt", "trajectory", "name"):
            if not isinstance(entry.get(key, ""), str):
                raise FlashWorldError(f"{where}: {key} must be text.")
        picture = file.parent / entry["image"] if entry.get("image") else None
        if picture is not None and not picture.is_file():
            raise FlashWorldError(f"{where}: {picture}: no such file.")
        if picture is None and not entry.get("prompt", "").strip():
            raise FlashWorldError(f"{where}: needs an image, a prompt or both.")
        own = argparse.Namespace(**vars(options))
        own.trajectory = entry.get("trajectory", options.trajectory)
        if "trajectory" in entry and is_path_file(own):
            own.trajectory = str(file.parent / own.trajectory)
        index = entry.get("image_index", options.image_index or 0)
        chosen = [entry["seed"]] if "seed" in entry else options.seed
        for seed in chosen:
            words = entry.get("name") or (picture.stem if picture else entry["prompt"])
            name = _name(len(jobs), words, seed if len(chosen) > 1 else None)
            jobs.append(Job(name, _request(own, info, steps, picture, entry.get("prompt", ""), seed, index)))
    if not jobs:
        raise FlashWorldError(f"{file}: holds no line that asks for a scene.")
    return jobs


def _official(options, info: GeneratorInfo, steps, seed: int) -> Request:
    """The request of an official request file."""
    from ..formats.cameras import FlashWorldRequest
    from ..generators.base import Request, ViewImage

    file = FlashWorldRequest.read(options.request)
    size = _size(options, info, None) if options.size else (file.width, file.height)
    index = file.image_index if options.image_index is None else options.image_index
    images = (ViewImage(file.image_prompt, index),) if file.image_prompt else ()
    prompt = options.prompt[0] if options.prompt else file.text_prompt
    return Request(file.cameras, images, prompt, seed, steps, size, options.views or file.views)


def _request(options, info: GeneratorInfo, steps, picture: Path | None, prompt: str, seed: int, index: int) -> Request:
    from ..generators.base import Request, ViewImage

    size = _size(options, info, picture)
    up = options.up if options.up in ("y", "z") else None
    parser = None if options.dataparser in ("auto", "none") else Path(options.dataparser)
    cameras = trajectory(options, options.views or info.views, *size, up=up, dataparser=parser)
    views = options.views or info.views
    if views != len(cameras):
        say_once(f"The path's {len(cameras)} cameras are resampled to {views} views (--views {len(cameras)}: not).")
    return Request(cameras, (ViewImage(picture, index),) if picture else (), prompt, seed, steps, size, views)


def _size(options, info: GeneratorInfo, picture: Path | None) -> tuple[int, int]:
    """The views' size: what --size says, the picture's shape at the model's number of pixels, or the model's own."""
    if options.size is None:
        return info.width, info.height
    if options.size != "picture":
        return options.size
    if picture is None:
        raise FlashWorldError("--size picture takes the shape of a picture; there is none (give --image).")
    from ..media.images import open_image

    return size_of_shape(open_image(picture).size, info)


def size_of_shape(shape: tuple[int, int], info: GeneratorInfo) -> tuple[int, int]:
    """The size of about the model's number of pixels and about this shape (width, height) that the model can make."""
    area, (columns, rows) = info.width * info.height, info.size_multiple
    width = math.sqrt(area * shape[0] / shape[1])
    return max(1, round(width / columns)) * columns, max(1, round(area / width / rows)) * rows


_said: set[str] = set()


def say_once(text: str) -> None:
    """`say` what several jobs have in common."""
    if text not in _said:
        _said.add(text)
        say(text)
