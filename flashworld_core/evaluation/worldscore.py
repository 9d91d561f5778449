"""WorldScore's folder layout, written for its evaluator; its metrics are not reimplemented here.

``worldscore_output/static/STYLE/SCENE_TYPE/CATEGORY/NNN/`` holds ``frames/000.png`` ..., ``videos/output.mp4``,
``input_image.png``, ``image_data.json`` and ``camera_data.json``. Each entry of the benchmark's list has an image, the
text of each scene, and camera moves. Its camera-control measure compares with cameras of its own that these paths
follow in kind, not in number: leave it out, as the paper does.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import torch
from torch import Tensor

from ..cameras import Cameras
from ..datasets.ood_paths import WORLDSCORE, along, worldscore_path
from ..errors import FlashWorldError
from ..formats.cameras.image_size import inside
from ..formats.files import parse_json
from ..generators.base import Request, ViewImage
from ..geometry import intrinsics_from_vertical_fov
from ..media.export import save_json, save_png, save_video
from ..media.images import open_image
from ..progress import Progress
from ..rendering.render import render

FOCAL, FOCAL_HEIGHT = 500.0, 480.0
"""WorldScore's focal length in pixels, for views of this height."""
MAX_BYTES = 256 * 2**20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]{0,99}")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry of the benchmark's list of static scenes.

    Attributes:
        style, scene_type, category: folders it goes to.
        prompt: the text of all its scenes.
        image: its picture, or None.
        moves: camera moves, of `datasets.ood_paths.WORLDSCORE`.
        values: everything the list says, for ``image_data.json``.
    """

    style: str
    scene_type: str
    category: str
    prompt: str
    image: Path | None
    moves: tuple[str, ...]
    values: dict


def read_entries(path: Path) -> list[Entry]:
    """The entries of a list: JSON, a list of objects.

    Keys: ``visual_style``, ``scene_type``, ``category``, ``prompt_list`` (or ``prompt``), ``camera_path`` and
    ``image``, the last relative to the list's folder.

    Raises:
        FlashWorldError: another form, unknown moves, names that are no folders' names, images that are not there.
    """
    if not path.is_file():
        raise FlashWorldError(f"There is no file {path}; give WorldScore's list of static scenes (JSON).")
    if path.stat().st_size > MAX_BYTES:
        raise FlashWorldError(f"{path} is larger than {MAX_BYTES >> 20} MiB, which no list of scenes is.")
    data = parse_json(path.read_bytes(), str(path))
    if not isinstance(data, list) or not data:
        raise FlashWorldError(f"{path} must hold a JSON list of scenes.")
    return [_entry(values, f"{path}: entry {i}", path.parent) for i, values in enumerate(data)]


def _entry(values, where: str, root: Path) -> Entry:
    if not isinstance(values, dict):
        raise FlashWorldError(f"{where} must be an object.")
    names = [values.get(key) for key in ("visual_style", "scene_type", "category")]
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise FlashWorldError(f"{where}: visual_style, scene_type and category must be plain names, got {name!r}.")
    texts = values.get("prompt_list", values.get("prompt", ""))
    texts = [texts] if isinstance(texts, str) else texts
    moves = values.get("camera_path", ["fixed"])
    moves = [moves] if isinstance(moves, str) else moves
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise FlashWorldError(f"{where}: prompt_list must be a list of texts.")
    if unknown := [move for move in moves if move not in WORLDSCORE]:
        raise FlashWorldError(f"{where}: there is no move {unknown[0]!r}; known are {', '.join(WORLDSCORE)}.")
    image = values.get("image")
    found = inside(root, image, root) if isinstance(image, str) and image else None
    if image and found is None:
        raise FlashWorldError(f"{where}: there is no image {image!r} in {root}.")
    return Entry(*names, " ".join(text.strip() for text in texts), found, tuple(moves), values)


def write_worldscore(
    model, entries: list[Entry], out: Path, *, frames: int = 50, seed: int = 0, progress: Progress | None = None
) -> list[Path]:
    """Generate every entry and write its folder; those that are complete are left as they are.

    Args:
        frames: images along the path of an entry, times its moves.

    Returns:
        The folders, below ``out / "worldscore_output"``.
    """
    progress = (progress or Progress()).start(len(entries))
    counts: dict[tuple[str, ...], int] = {}
    folders = []
    for entry in entries:
        progress.check()
        place = ("static", entry.style, entry.scene_type, entry.category)
        number = counts[place] = counts.get(place, -1) + 1
        folder = out.joinpath("worldscore_output", *place, f"{number:03d}")
        if not (folder / "image_data.json").is_file():
            _write(model, entry, folder, frames, seed)
        folders.append(folder)
        progress.advance()
    return folders


def _write(model, entry: Entry, folder: Path, frames: int, seed: int) -> None:
    info = model.info
    anchors, poses = path_of(entry.moves)
    generated = along(poses, torch.linspace(0, 1, info.views).numpy())
    images = () if entry.image is None else (ViewImage(entry.image, 0),)
    path = _cameras(generated, info.width, info.height)
    scene = model.generate(Request(path, images, entry.prompt, seed)).gaussians
    count = frames * len(entry.moves)
    shown = along(poses, torch.linspace(0, 1, count).numpy())
    rgb = render(scene, _cameras(shown, info.width, info.height)).rgb
    for i, image in enumerate(rgb):
        save_png(folder / "frames" / f"{i:03d}.png", image)
    save_video(folder / "videos" / "output.mp4", rgb, 10)
    save_png(folder / "input_image.png", rgb[0] if entry.image is None else _array(entry.image))
    anchor_frames = [round(i * (count - 1) / len(entry.moves)) for i in range(len(entry.moves) + 1)]
    cameras = {
        "focal_length": FOCAL,
        "scale": 1,
        "cameras": anchors.tolist(),
        "cameras_interp": shown.tolist(),
    }
    save_json(folder / "camera_data.json", cameras)
    facts = {
        "visual_movement": "static",
        "num_scenes": len(entry.moves),
        "total_frames": count,
        "anchor_frame_idx": anchor_frames,
    }
    save_json(folder / "image_data.json", json.loads(json.dumps(entry.values)) | facts)  # last: it marks completeness


def path_of(moves: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """[moves + 1, 4, 4] poses between moves played one after another, and [N, 4, 4] poses along all of them."""
    anchors, poses = [torch.eye(4, dtype=torch.float64)], []
    for move in moves:
        made = anchors[-1] @ worldscore_path(move, 33)
        poses.append(made if not poses else made[1:])
        anchors.append(made[-1])
    return torch.stack(anchors), torch.cat(poses)


def _cameras(poses: Tensor, width: int, height: int) -> Cameras:
    fov = 2 * torch.rad2deg(torch.atan(torch.tensor(FOCAL_HEIGHT / 2 / FOCAL))).item()
    k = intrinsics_from_vertical_fov(fov, width, height).float()
    return Cameras(poses.float(), k.expand(len(poses), 3, 3).clone(), width, height)


def _array(path: Path):
    import numpy as np

    return np.asarray(open_image(path))
