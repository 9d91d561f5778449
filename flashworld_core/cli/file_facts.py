"""What `info` says about files: facts of scenes, paths, pictures, videos and reports, and what an unknown file is."""

from __future__ import annotations

import json
from pathlib import Path

KNOWN = (
    "scenes (PLY, SPZ, SOG, .splat, .ksplat, glTF), camera paths, checkpoints and model folders, pictures, videos, and "
    "the reports of generate, demo and render"
)
MAX_READ = 3_000_000  # Gaussians that are read without being asked to
_MAX_REPORT = 1 << 24  # bytes
_SIGNS = (  # what begins a file that info has no facts about
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"RIFF", "a RIFF file (sound or video)"),
    (b"OggS", "an Ogg file"),
    (b"ID3", "a sound"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
)
_VIDEO_SIGNS = ((4, b"ftyp"), (0, b"\x1aE\xdf\xa3"), (8, b"AVI "))
_PICTURE_SIGNS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"P5", b"P6")


def facts_of_other(path: Path) -> dict | None:
    """Facts of a picture, a video or a report of ours, told by content; None: something else.

    Raises:
        FlashWorldError: it begins like one and cannot be read.
    """
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        head = stream.read(64)
    brand = head[8:12]
    if head.startswith(_PICTURE_SIGNS) or brand in (b"WEBP", b"avif", b"heic", b"mif1"):
        return picture_facts(path)
    if any(head[at : at + len(sign)] == sign for at, sign in _VIDEO_SIGNS):
        return video_facts(path)
    if head.lstrip()[:1] == b"{" and path.stat().st_size < _MAX_REPORT:
        return report_facts(path)
    return None


def picture_facts(path: Path) -> dict:
    from PIL import Image

    from ..errors import FlashWorldError
    from ..media.images import open_image

    picture = open_image(path)
    try:
        with Image.open(path) as stored:
            kind, mode, turned = stored.format, stored.mode, stored.getexif().get(0x0112, 1) not in (0, 1)
    except OSError as error:
        raise FlashWorldError(f"{path} cannot be read: {error}.") from error
    return {
        "what": "picture",
        "path": str(path),
        "format": kind,
        "bytes": path.stat().st_size,
        "size": f"{picture.width}x{picture.height}" + (" (turned upright, as its EXIF data say)" if turned else ""),
        "colors": mode,
    }


def video_facts(path: Path) -> dict:
    import av

    from ..errors import FlashWorldError

    try:
        with av.open(str(path)) as container:
            stream = next((s for s in container.streams if s.type == "video"), None)
            facts = {
                "what": "video" if stream else "sound",
                "path": str(path),
                "format": container.format.long_name,
                "bytes": path.stat().st_size,
                "seconds": None if container.duration is None else round(container.duration / 1e6, 3),
            }
            if stream:
                facts |= {
                    "codec": stream.codec_context.name,
                    "size": f"{stream.codec_context.width}x{stream.codec_context.height}",
                    "frames": stream.frames or None,
                    "frames_per_second": None if stream.average_rate is None else round(float(stream.average_rate), 3),
                }
            return facts
    except av.FFmpegError as error:
        raise FlashWorldError(f"{path} begins like a video, but cannot be read: {error}.") from error


def report_facts(path: Path) -> dict | None:
    """Facts of a report.json of `generate` or `demo`, of one scene or of several; None: another JSON file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    if "model_id" in content and "gaussians" in content:
        return {"what": "report of a generation", "path": str(path), **content}
    entries = list(content.values())
    if entries and all(isinstance(e, dict) and "model_id" in e and "gaussians" in e for e in entries):
        return {"what": "report of several generations", "path": str(path), "scenes": len(entries), **content}
    if set(content) == {"world_units_per_step", "nothing"}:
        return {"what": "scale of 16-bit depth pictures", "path": str(path), **content}
    return None


def scene_summary(path: Path, count: int | None, size: int, everything: bool) -> dict:
    """Where a scene's Gaussians are, how opaque and how large: from the rows, so not of huge files unless asked.

    Args:
        count: Gaussians, None where the header does not say it.
        size: of the file in bytes.
        everything: read however many there are.
    """
    if count is not None and count > MAX_READ and not everything:
        return {"summary": f"left out, {count:,} Gaussians are slow to read; --full reads them"}
    import torch

    from ..formats.scenes import read_scene

    scene = read_scene(path)
    if not len(scene):
        return {"summary": "no Gaussians"}

    def spread(values) -> str:
        some = values[:: max(1, len(values) // 1_000_000)].float()
        low, middle, high = torch.quantile(some, torch.tensor([0.1, 0.5, 0.9])).tolist()
        return f"{low:.4g} | {middle:.4g} | {high:.4g}"

    def corner(values) -> str:
        return ", ".join(f"{value:.4g}" for value in values.tolist())

    some = scene.means[:: max(1, len(scene) // 1_000_000)].float()
    inner = torch.quantile(some, torch.tensor([0.01, 0.99]), dim=0)
    return {
        "bytes_per_gaussian": round(size / len(scene), 2),
        "bounding_box": f"{corner(scene.means.amin(0))} to {corner(scene.means.amax(0))}",
        "box_of_98_percent": f"{corner(inner[0])} to {corner(inner[1])}",
        "opacity_10_50_90_percent": spread(scene.opacities),
        "scale_10_50_90_percent": spread(scene.scales.amax(1)),
    }


def unknown(path: Path) -> str:
    """A sentence that says what an unknown file looks like, and what `info` knows."""
    with path.open("rb") as stream:
        head = stream.read(4096)
    kind = next((kind for sign, kind in _SIGNS if head[: len(sign)].lower() == sign.lower()), None)
    if kind is None and not head:
        kind = "empty"
    if kind is None:
        try:
            head.decode("utf-8")
            kind = "JSON of another kind" if head.lstrip()[:1] in (b"{", b"[") else "a text file"
        except UnicodeDecodeError as error:
            kind = "a text file" if error.start > len(head) - 4 else "a binary file of an unknown kind"
    return f"{path.name} is {kind}. info knows {KNOWN}."
