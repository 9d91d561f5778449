"""RealEstate10K: camera texts ``{train,test}/CLIP.txt``, and frames or videos beside them.

Frames lie at ``frames/{train,test}/CLIP/TIMESTAMP.{jpg,png}``, or a clip is a video in which frame i belongs to line i
of the text. Which video that is says ``annotations/*.json`` (CameraCtrl's lists of clip_path, pose_file and caption);
without it, ``videos/{train,test}/CLIP.mp4``. The texts' intrinsics are fractions of the image, poses are up to scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import FlashWorldError
from ..formats.cameras import realestate10k as text_format
from ..formats.cameras.image_size import inside, stored_size
from ..formats.cameras.parse import parse_json, read_text
from .clips import BrokenClip, Clip, Reading, multiview_clip
from .pixels import video_facts

LAYOUT = (
    "{train,test}/CLIP.txt with frames/{train,test}/CLIP/TIMESTAMP.{jpg,png} or videos/{train,test}/CLIP.mp4, or "
    "annotations/*.json with clip_path, pose_file and caption"
)


def clips(root: Path, reading: Reading) -> Iterator[Clip]:
    """All clips that a text or an annotation names."""
    annotated = set()
    for path in sorted((root / "annotations").glob("*.json")):
        for id, pose_file, clip_path, caption in _annotations(path, reading):
            annotated.add(id)
            try:
                poses, video = inside(root, pose_file, root), inside(root, clip_path, root)
                if poses is None:
                    raise BrokenClip("its cameras are missing", pose_file)
                if video is None:
                    raise BrokenClip("its video is missing", clip_path)
                yield _video_clip(id, poses, video, caption, reading)
            except FlashWorldError as error:
                reading.skip(id, error)
    for split in ("train", "test", "validation"):
        for poses in sorted((root / split).glob("*.txt")):
            id = f"{split}/{poses.stem}"
            if id in annotated:
                continue
            try:
                video = root / "videos" / split / f"{poses.stem}.mp4"
                frames = root / "frames" / split / poses.stem
                if not frames.is_dir() and video.is_file():
                    yield _video_clip(id, poses, video, "", reading)
                else:
                    yield _frames_clip(id, poses, frames, reading)
            except FlashWorldError as error:
                reading.skip(id, error)


def _frames_clip(id: str, poses: Path, folder: Path, reading: Reading) -> Clip:
    if not folder.is_dir():
        raise BrokenClip("its frames are missing", f"no {folder}")
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    size = next((found for name in names if (found := stored_size(folder / name))), None)
    if size is None:
        raise BrokenClip("its frames are missing", f"{folder} holds no images")
    text = read_text(poses)
    views = text_format.parse(text, str(poses), size, lambda remark: None)
    views.sizes = [size] * len(views.sizes)
    by_stem = {Path(name).stem: name for name in names}
    # A frame that is not there keeps its timestamp as a name, which no file has.
    wanted = [by_stem.get(stamp, f"{stamp}.jpg") for stamp in _timestamps(text)]
    return multiview_clip(reading, id, views, folder, wanted, stamp=poses)


def _video_clip(id: str, poses: Path, video: Path, caption: str, reading: Reading) -> Clip:
    size, frames = video_facts(video)
    views = text_format.parse(read_text(poses), str(poses), size, lambda remark: None)
    count = len(views.camera_to_world)
    if frames and abs(frames - count) > 1:
        raise BrokenClip("its video has another number of frames than its cameras", f"{frames} and {count}")
    count = min(count, frames or count)
    return Clip(
        id=id,
        kind="multiview",
        prompt=reading.prompt(id, caption),
        frames=tuple(range(count)),
        store="video",
        container=reading.relative(video),
        size=size,
        poses=views.camera_to_world[:count],
        lenses=views.lenses[:count],
        stamp=reading.stamp(poses),
    )


def _timestamps(text: str) -> list[str]:
    rows = (line.split() for line in text.splitlines())
    return [row[0] for row in rows if len(row) == text_format.COLUMNS]


def _annotations(path: Path, reading: Reading) -> Iterator[tuple[str, str, str, str]]:
    """(id, pose file, video, caption) of CameraCtrl's lists."""
    try:
        entries = parse_json(read_text(path), str(path))
    except FlashWorldError as error:
        reading.skip(path.name, error, "its annotations cannot be read")
        return
    for i, entry in enumerate(entries if isinstance(entries, list) else [entries]):
        values = entry if isinstance(entry, dict) else {}
        poses, video, caption = values.get("pose_file"), values.get("clip_path"), values.get("caption", "")
        if not isinstance(poses, str) or not isinstance(video, str):
            reading.skip(f"{path.name}[{i}]", BrokenClip("no pose_file or clip_path"))
            continue
        if isinstance(caption, list):
            caption = next((text for text in caption if isinstance(text, str)), "")
        split = next((part for part in Path(poses).parts if part in ("train", "test", "validation")), "")
        id = f"{split}/{Path(poses).stem}" if split else Path(poses).stem
        yield id, poses, video, caption if isinstance(caption, str) else ""
