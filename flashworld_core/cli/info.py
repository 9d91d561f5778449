"""``info``: what a scene, a camera path, a checkpoint, a picture, a video or a report holds."""

from __future__ import annotations

import json
from pathlib import Path

from ..text import printable
from .arguments import size
from .file_facts import KNOWN, facts_of_other, scene_summary, unknown
from .progress import announced


def add_command(commands) -> None:
    parser = commands.add_parser(
        "info",
        help="describe a scene, path, checkpoint, picture, video or report",
        description=f"Describe a file. Known are {KNOWN}. Nothing large is read: a 20 GB checkpoint answers at once.",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument(
        "--size",
        "--image-size",
        type=size,
        default=None,
        metavar="WxH",
        help="picture size, where a path does not say it",
    )
    parser.add_argument("--full", action="store_true", help="summarize the Gaussians of scenes of any size")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.set_defaults(run=run)


def run(options) -> None:
    from ..errors import FlashWorldError

    if not options.file.exists():
        raise FlashWorldError(f"{options.file}: no such file or folder.")
    with announced("Reading..."):
        facts = facts_of(options)
    if options.json:
        print(json.dumps(facts, indent=1, default=str))
    else:
        show(facts)


def facts_of(options) -> dict:
    """What there is to say about ``options.file``."""
    from ..formats.scenes import detect_scene, scene_info

    path = options.file
    suffix = path.suffix.lower()
    if path.name in ("images.bin", "cameras.bin"):
        facts = {"what": "camera path", **path_facts(path, options.size)}
    elif suffix in (".ckpt", ".pt", ".pth", ".bin", ".safetensors", ".sft") or is_model_folder(path):
        from ..checkpoints.describe import describe

        facts = {"what": "checkpoint", **describe(path)}
    elif detect_scene(path) is not None:
        facts = {"what": "scene", **scene_info(path)}
        facts |= scene_summary(path, facts.get("gaussians"), facts.get("bytes") or 0, options.full)
    else:
        facts = facts_of_other(path) or {"what": "camera path", **known_path_facts(path, options.size)}
    return facts


def known_path_facts(path: Path, picture_size: tuple[int, int] | None) -> dict:
    """As `path_facts`; of a file that is no camera path at all the error says what it is."""
    from ..errors import FlashWorldError
    from ..formats.cameras import detect_format

    try:
        detect_format(path)
    except FlashWorldError as error:
        if path.is_file() and not path.name.lower().startswith(("transforms", "camera")):
            raise FlashWorldError(unknown(path)) from error
        raise
    return path_facts(path, picture_size)


def is_model_folder(path: Path) -> bool:
    """Whether a folder holds weights rather than a COLMAP model, a dataset or a SOG scene."""
    from ..formats.cameras import is_camera_folder

    return path.is_dir() and not (is_camera_folder(path) or (path / "meta.json").exists())


def path_facts(path: Path, picture_size: tuple[int, int] | None) -> dict:
    import torch

    from ..formats.cameras import detect_format, read_cameras

    cameras = read_cameras(path, *(picture_size or ()), view_size=picture_size)
    steps = (cameras.positions[1:] - cameras.positions[:-1]).norm(dim=-1)
    fy = cameras.intrinsics[:, 1, 1]
    fov = torch.rad2deg(2 * torch.atan(cameras.height / (2 * fy)))
    return {
        "path": str(path),
        "format": detect_format(path),
        "views": len(cameras),
        "size": f"{cameras.width}x{cameras.height}",
        "vertical_fov_degrees": f"{fov.min():.2f} to {fov.max():.2f}",
        "length_world_units": round(float(steps.sum()), 6),
        "largest_distance_from_first_view": round(
            float((cameras.positions - cameras.positions[0]).norm(dim=-1).max()), 6
        ),
    }


def show(facts: dict, indent: str = "") -> None:
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            print(f"{indent}{printable(str(name))}:")
            show(value, indent + "  ")
        else:
            text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
            print(f"{indent}{printable(str(name))}: {printable(text if len(text) < 300 else text[:297] + '...')}")
