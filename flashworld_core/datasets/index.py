"""An index: what going through a set once found out, in a folder of three files.

| file | holds |
|---|---|
| ``clips.jsonl`` | one line a clip: id, kind, prompt, frames |
| ``cameras.safetensors`` | float64 poses and lenses of all frames, and where each clip's begin |
| ``index.json`` | the set, its folder, counts, what was skipped and why; written last, so that it stands for the rest |

Opening it costs a few bytes a clip; a clip's line and cameras are read when it is asked for.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor

from ..errors import FlashWorldError
from ..formats.files import atomic_writer, check_folder, parse_json
from ..progress import Progress
from . import READERS
from .captions import NAME as CAPTIONS
from .captions import read_captions
from .clips import Clip, Kind, Reading, summary

VERSION = 1
TABLES = ("line", "camera", "kind", "frames")  # one number a clip: where it begins in the files, what it is, how long
KINDS = typing.get_args(Kind)
FACTS, LINES, CAMERAS = "index.json", "clips.jsonl", "cameras.safetensors"
COMMAND = "python -m flashworld_core.training index DATASET FOLDER --out INDEX"


def write_index(
    name: str, root: Path, out: Path, *, captions: Path | None = None, progress: Progress | None = None,
    notify: Callable[[str], None] = print,
) -> dict:  # fmt: skip
    """Go through a set and write its index.

    Args:
        name: a key of `READERS`.
        root: the set's folder.
        out: folder of the index, made if missing; an index there is replaced when the new one is complete.
        captions: file of captions; None takes ``captions.jsonl`` in the set's folder, if it is there.
        progress: counts clips.
        notify: told what a user should know, one sentence each.

    Returns:
        What ``index.json`` says.

    Raises:
        FlashWorldError: an unknown set, no such folder, a folder of another layout, or no clip that can be used.
    """
    reader = reader_of(name)
    root = Path(root).expanduser().resolve()
    if not root.is_dir():
        raise FlashWorldError(f"There is no folder {root}; give the folder that the set {name} was unpacked to.")
    check_folder(out)
    progress = progress or Progress()
    captions = captions or (root / CAPTIONS if (root / CAPTIONS).is_file() else None)
    if captions is not None and not captions.is_file():
        raise FlashWorldError(f"There is no file of captions {captions}.")
    reading = Reading(root, read_captions(captions) if captions else {}, progress=progress, notify=notify)
    kinds: dict[str, int] = {}
    tables: dict[str, list[int]] = {key: [] for key in TABLES}
    poses, lenses, cameras = [], [], 0
    out.mkdir(parents=True, exist_ok=True)
    with atomic_writer(out / LINES) as stream:
        for clip in reader(root, reading):
            progress.check()
            tables["line"].append(stream.tell())
            tables["camera"].append(cameras if clip.poses is not None else -1)
            tables["kind"].append(KINDS.index(clip.kind))
            tables["frames"].append(len(clip.poses) if clip.poses is not None else len(clip.frames))
            stream.write(_line(clip))
            kinds[clip.kind] = kinds.get(clip.kind, 0) + 1
            if clip.poses is not None:
                cameras += len(clip.poses)
                poses.append(clip.poses[:, :3].double())
                lenses.append(clip.lenses.double())
            progress.advance()
        count = len(tables["line"])
        _check_found(name, root, count, reading)
        (out / FACTS).unlink(missing_ok=True)  # from here on the old index is no more
    from safetensors.torch import save

    tensors = {key: torch.tensor(values, dtype=torch.int64) for key, values in tables.items()}
    tensors["poses"] = torch.cat(poses) if poses else torch.zeros(0, 3, 4, dtype=torch.float64)
    tensors["lenses"] = torch.cat(lenses) if lenses else torch.zeros(0, 4, dtype=torch.float64)
    with atomic_writer(out / CAMERAS) as stream:
        stream.write(save(tensors))
    facts = {
        "version": VERSION,
        "dataset": name,
        "root": str(root),
        "clips": count,
        "kinds": kinds,
        "frames": int(tensors["frames"].sum()),
        "without_caption": reading.without_caption,
        "skipped": {reason: dict(entries) for reason, entries in reading.skipped.items()},
    }
    with atomic_writer(out / FACTS) as stream:
        stream.write((json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))
    for line in summary(reading.skipped):
        notify(line)
    return facts


def reader_of(name: str) -> Callable:
    """The function of `READERS` that goes through a set.

    Raises:
        FlashWorldError: there is none of that name.
    """
    if name == "toyworld":
        raise FlashWorldError("ToyWorld is drawn as it is needed; it has no index.")
    if name not in READERS:
        raise FlashWorldError(f"There is no data set {name[:40]!r}; known are {', '.join(READERS)} and toyworld.")
    module, _, function = READERS[name].partition(":")
    return getattr(import_module(module, __package__), function)


def layout_of(name: str) -> str:
    """What a set's folder has to look like, in words."""
    return import_module(READERS[name].partition(":")[0], __package__).LAYOUT


def _check_found(name: str, root: Path, count: int, reading: Reading) -> None:
    if count:
        return
    skipped = sum(map(len, reading.skipped.values()))
    if skipped:
        raise FlashWorldError(
            f"None of the {skipped} clips in {root} can be used: {'; '.join(summary(reading.skipped))[:400]}."
        )
    if not any(root.iterdir()):
        raise FlashWorldError(f"{root} is empty; the layout of {name} is {layout_of(name)}.")
    raise FlashWorldError(
        f"{root} holds nothing of {name}'s layout, which is {layout_of(name)}; give the folder above that, or another "
        f"data set ({', '.join(READERS)})."
    )


def _line(clip: Clip) -> bytes:
    values = {
        "id": clip.id, "kind": clip.kind, "prompt": clip.prompt, "store": clip.store, "container": clip.container,
        "size": clip.size, "distortion": clip.distortion, "metric": clip.metric, "depth": clip.depth,
        "stamp": clip.stamp, "frames": clip.frames,
    }  # fmt: skip
    if clip.store == "video":
        values["frames"] = len(clip.frames)
    return (json.dumps(values) + "\n").encode()


class ClipIndex:
    """An index on disk, opened. Can be handed to other processes: files are opened where they are read.

    Args:
        folder: of the index.

    Attributes:
        name, root: the set and its folder.
        facts: what ``index.json`` says.
        frames: [clips] int64, frames (or cameras) of each.

    Raises:
        FlashWorldError: no index, an index of another version, or the set's folder is gone.
    """

    def __init__(self, folder: str | Path):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        self.folder = Path(folder).expanduser()
        if not (self.folder / FACTS).is_file():
            raise FlashWorldError(f"There is no index in {self.folder}; make one: {COMMAND}.")
        facts = parse_json((self.folder / FACTS).read_bytes(), str(self.folder / FACTS))
        if not isinstance(facts, dict) or facts.get("version") != VERSION:
            raise FlashWorldError(f"{self.folder / FACTS} is of another version; make the index again: {COMMAND}.")
        self.facts, self.name, self.root = facts, str(facts.get("dataset")), Path(str(facts.get("root")))
        if not self.root.is_dir():
            raise FlashWorldError(
                f"The folder {self.root} of the set {self.name} is gone; bring it back or index it where it is now."
            )
        try:
            tensors = load_file(self.folder / CAMERAS)
            self._line, self._camera, self._kind, self.frames = (tensors[key] for key in TABLES)
            self._poses, self._lenses = tensors["poses"], tensors["lenses"]
        except (OSError, KeyError, SafetensorError) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> FlashWorldError:
        return FlashWorldError(f"The index in {self.folder} is damaged ({error}); make it again: {COMMAND}.")

    def __len__(self) -> int:
        return len(self._line)

    def numbers(self, kinds: Iterable[str]) -> Tensor:
        """Numbers of the clips of some kinds, rising."""
        codes = torch.tensor([KINDS.index(kind) for kind in kinds])
        return torch.isin(self._kind, codes).nonzero()[:, 0]

    def clip(self, number: int) -> Clip:
        """The clip of a number, 0 .. len - 1."""
        try:
            with (self.folder / LINES).open("rb") as stream:
                stream.seek(int(self._line[number]))
                values = json.loads(stream.readline())
            begin, count = int(self._camera[number]), int(self.frames[number])
            poses = lenses = None
            if begin >= 0:
                poses = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
                poses[:, :3] = self._poses[begin : begin + count]
                lenses = self._lenses[begin : begin + count]
            frames = values.pop("frames")
            frames = range(frames) if isinstance(frames, int) else tuple(map(_entry, frames))
            tuples = {key: _entry(values.pop(key)) for key in ("size", "stamp")}
            distortion = tuple(map(_entry, values.pop("distortion")))
            return Clip(**values, **tuples, frames=frames, poses=poses, lenses=lenses, distortion=distortion)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(error) from None


def _entry(value):
    return tuple(value) if isinstance(value, list) else value
