"""`Clip`: what an index knows of one clip, picture or prompt; `Reading`: what a reader is given to find them with."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from torch import Tensor

from ..errors import FlashWorldError
from ..formats.cameras.image_size import inside, stored_size
from ..formats.cameras.views import FileViews
from ..progress import Progress

IMAGES = (".jpg", ".jpeg", ".png", ".webp")
VIDEOS = (".mp4", ".mkv", ".webm", ".mov", ".avi")
_ASPECT = 0.01  # how far the shapes of an image and of the one its cameras are for may differ
_EXAMPLES = 5

Kind = Literal["multiview", "image", "video", "prompt"]


class BrokenClip(FlashWorldError):
    """A clip that cannot be used: it is skipped and counted. ``reason`` is one of few, the message has the details."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip of a set, nothing of its pixels loaded.

    Attributes:
        id: unique within its set; captions are found by it.
        kind: "multiview" has cameras, "image" one picture, "video" frames without cameras, "prompt" words alone.
        prompt: the text; may be empty.
        frames: of each frame, what names it in its ``store``: a path relative to the set's folder ("files"), a frame's
            number ("video"), or offset and bytes ("tar").
        store: where frames are.
        container: the video or tar file, relative to the set's folder.
        size: width and height in pixels of the images the lenses are for; None where there are no cameras.
        poses: [F, 4, 4] float64 camera-to-world, OpenCV axes; the world is the set's own.
        lenses: [F, 4] float64, fx fy cx cy in pixels.
        distortion: nothing for pinholes; else one (model, coefficients) for all frames or one a frame, see
            `formats.cameras.lens`.
        metric: lengths are meters; else they mean nothing beyond their ratios.
        depth: median distance of the scene along the line of sight, in the poses' unit; 0: not known.
        stamp: (file, bytes, time of change in ns) of the file the cameras are from; the clip is refused if it changes.
    """

    id: str
    kind: Kind
    prompt: str = ""
    frames: tuple = ()
    store: Literal["files", "video", "tar"] = "files"
    container: str = ""
    size: tuple[int, int] | None = None
    poses: Tensor | None = None
    lenses: Tensor | None = None
    distortion: tuple = ()
    metric: bool = False
    depth: float = 0.0
    stamp: tuple[str, int, int] | None = None


@dataclasses.dataclass
class Reading:
    """What a reader is given: captions by id, and where to report.

    Attributes:
        root: the set's folder; nothing outside of it is opened.
        captions: prompts by clip id.
        skipped: reason -> ids and details of the clips left out.
        without_caption: clips that got no prompt of their own.
        progress: told of every clip.
        notify: told, once each, what a whole set should know.
    """

    root: Path
    captions: dict[str, str] = dataclasses.field(default_factory=dict)
    skipped: dict[str, list[tuple[str, str]]] = dataclasses.field(default_factory=dict)
    without_caption: int = 0
    progress: Progress = dataclasses.field(default_factory=Progress)
    notify: Callable[[str], None] = print
    _remarks: Counter = dataclasses.field(default_factory=Counter)

    def prompt(self, id: str, instead: str = "") -> str:
        """The clip's caption, else ``instead``."""
        text = self.captions.get(id, "")
        if not text.strip():
            self.without_caption += 1
        return text.strip() or instead

    def skip(self, id: str, error: FlashWorldError, reason: str = "its cameras cannot be read") -> None:
        """Leave a clip out and remember why."""
        known = isinstance(error, BrokenClip)
        entry = (id, error.detail if known else str(error))
        self.skipped.setdefault(error.reason if known else reason, []).append(entry)

    def remark(self, text: str) -> None:
        """Say something about single clips that, with names and numbers taken out, is said once a set."""
        kind = "".join(letter for letter in text.rpartition(": ")[2] if letter.isalpha() or letter == " ")
        self._remarks[kind] += 1
        if self._remarks[kind] == 1:
            self.notify(f"{text} (Said for the first such clip only.)")

    def relative(self, path: Path) -> str:
        """A path as it is kept in an index."""
        return path.relative_to(self.root).as_posix()

    def stamp(self, path: Path) -> tuple[str, int, int]:
        """What tells later whether a file is still the one that was indexed."""
        try:
            found = path.stat()
        except OSError as error:
            raise BrokenClip("its cameras are missing", f"{path}: {error.strerror or error}") from None
        return self.relative(path), found.st_size, found.st_mtime_ns


def summary(skipped: dict[str, list[tuple[str, str]]]) -> list[str]:
    """One line a reason: how many clips, and the first of them."""
    lines = []
    for reason, entries in sorted(skipped.items(), key=lambda item: -len(item[1])):
        names = ", ".join(id[:80] for id, _ in entries[:_EXAMPLES])
        more = ", ..." if len(entries) > _EXAMPLES else ""
        lines.append(f"{len(entries)} skipped, {reason}: {names}{more}")
    return lines


def multiview_clip(
    reading: Reading, id: str, views: FileViews, folder: Path, names: Iterable[str], *, stamp: Path, prompt: str = "",
    metric: bool = False, depth: float = 0.0,
) -> Clip:  # fmt: skip
    """The clip of a file's views, in the natural order of their names, without the views whose image is missing.

    Args:
        folder: that the image names are relative to.
        names: of the images, one a view, in the views' order.
        stamp: the file the cameras are from.

    Raises:
        BrokenClip: hardly an image is there, or images of another shape than the cameras'.
    """
    from ..formats.cameras.parse import by_name

    names = list(names)
    if not all(isinstance(name, str) for name in names):
        raise BrokenClip("frames without a name")
    found = [inside(folder, name, reading.root) for name in names]
    order = [i for i in by_name(names) if found[i] is not None]
    if len(order) < 2:
        raise BrokenClip("its images are missing", f"{len(order)} of {len(names)} are in {folder}")
    if len(order) < len(names):
        reading.remark(f"{id}: {len(names) - len(order)} of {len(names)} images are missing, their views are left out.")
    size = views.sizes[order[0]]
    order = [i for i in order if views.sizes[i] == size]
    stored = stored_size(found[order[0]])
    if stored is None:
        raise BrokenClip("its images are damaged", str(found[order[0]]))
    if abs(stored[0] * size[1] / (stored[1] * size[0]) - 1) > _ASPECT:
        raise BrokenClip(
            "its images have another shape than its cameras",
            f"{stored[0]}x{stored[1]} and {size[0]}x{size[1]}",
        )
    distortion: tuple = ()
    if views.distortion is not None and any(views.distortion):
        distortion = tuple(views.distortion[i] for i in order)
        if all(one == distortion[0] for one in distortion):
            distortion = distortion[:1]
    return Clip(
        id=id,
        kind="multiview",
        prompt=reading.prompt(id, prompt),
        frames=tuple(reading.relative(found[i]) for i in order),
        size=size,
        poses=views.camera_to_world[order],
        lenses=views.lenses[order],
        distortion=distortion,
        metric=metric,
        depth=depth,
        stamp=reading.stamp(stamp),
    )


def folders(path: Path) -> list[Path]:
    """The folders in a folder, by name; none where it cannot be read."""
    try:
        return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:
        return []
