"""Arguments that several commands share, and what they mean."""

from __future__ import annotations

import argparse
import contextlib
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FlashWorldError
from ..trajectories.names import EASINGS, PRESETS

if TYPE_CHECKING:
    from ..cameras import Cameras

MAX_COUNT = 100_000  # of views and the like


def size(text: str) -> tuple[int, int]:
    """(width, height) from "704x480"."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, like 704x480") from None
    if not (1 <= width <= 16384 and 1 <= height <= 16384):
        raise argparse.ArgumentTypeError(f"{text!r}: width and height must lie in 1..16384")
    return width, height


def size_or_picture(text: str) -> tuple[int, int] | str:
    """As `size`, or "picture"."""
    return text if text == "picture" else size(text)


def positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= MAX_COUNT:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from 1 to {MAX_COUNT:,}")
    return value


def above_zero(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number above 0")
    return value


def fraction(text: str) -> float:
    """A number in 0..1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from 0 to 1")
    return value


def device_name(text: str) -> str:
    """auto, cpu, cuda or xpu, the latter two perhaps with a number."""
    if not re.fullmatch(r"auto|cpu|(cuda|xpu)(:\d{1,3})?", text):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is none of auto, cpu, cuda, cuda:N, xpu, xpu:N")
    return text


def background(text: str):
    """ "white", "black" or an "r,g,b" triple in [0, 1]."""
    if text in ("white", "black"):
        return text
    try:
        color = tuple(float(part) for part in text.split(","))
    except ValueError:
        color = ()
    if len(color) != 3 or not all(0 <= part <= 1 for part in color):
        raise argparse.ArgumentTypeError(f"{text!r} is neither white, black nor R,G,B with numbers in 0..1")
    return color


UP = ("auto", "none", "y", "z")  # none: as the file is, y down


def add_trajectory_arguments(parser: argparse.ArgumentParser, default: str | None) -> None:
    presets = "; ".join(
        f"{p.name} ({p.description.rstrip('.')}; {p.default_amount:g} {p.unit})"
        if p.unit
        else f"{p.name} ({p.description.rstrip('.')})"  # noqa: E501
        for p in PRESETS.values()
    )
    group = parser.add_argument_group(
        "camera path", f"Presets, with what their amount means: {presets}. Several in a row: orbit:20+dolly_in:0.3."
    )
    group.add_argument(
        "--trajectory",
        default=default,
        metavar="NAME|FILE",
        help="a preset, or a path file: FlashWorld request JSON, nerfstudio's transforms.json or camera_path.json, "
        f"the 3DGS trainer's cameras.json, RealEstate10K text, COLMAP folder (default: {default})",
    )
    group.add_argument(
        "--image-size",
        type=size,
        default=None,
        metavar="WxH",
        help="size of the images a path file's focal lengths are about, where neither it nor images beside it say",
    )
    group.add_argument(
        "--up",
        choices=UP,
        default="auto",
        help="axis that points up in the scene's and the path's files; both are turned. auto: what the files say, "
        "else -y (%(default)s)",
    )
    group.add_argument(
        "--dataparser",
        default="auto",
        metavar="FILE",
        help="nerfstudio's dataparser_transforms.json, which brings cameras into the world of the scene trained with "
        "it; auto: the one beside the scene or the path; none (%(default)s)",
    )
    group.add_argument("--amount", type=float, help="how far a preset goes, in its own unit")
    group.add_argument(
        "--easing", default="linear", choices=sorted(EASINGS), help="how a preset speeds up and slows down"
    )
    group.add_argument(
        "--focus-distance", type=above_zero, default=None, help="distance of the point a preset circles, in world units"
    )
    group.add_argument("--fov", type=float, default=60.0, metavar="DEGREES", help="vertical field of view of a preset")


def is_path_file(options) -> bool:
    """Whether --trajectory names a file or folder, not a preset."""
    return options.trajectory.split("+")[0].split(":")[0] not in PRESETS


def trajectory(
    options,
    views: int,
    width: int,
    height: int,
    focus_distance: float = 1.0,
    *,
    up: str | None = None,
    dataparser: Path | None = None,
) -> Cameras:
    """The cameras an options namespace asks for; ``views`` and the size are those of a preset.

    Args:
        up, dataparser: for files, see `formats.cameras.read_cameras`.
    """
    from ..formats.cameras import read_cameras
    from ..trajectories.presets import make_trajectory

    name = options.trajectory
    if is_path_file(options):
        if not Path(name).exists():
            raise FlashWorldError(
                f"--trajectory {name[:100]}: neither a file nor a preset; presets are {', '.join(PRESETS)}."
            )
        return read_cameras(
            name,
            *(options.image_size or ()),
            view_size=(width, height),
            fit_mixed=isinstance(options.size, tuple),
            up=up,
            dataparser=dataparser,
        )
    return make_trajectory(
        name,
        views=views,
        width=width,
        height=height,
        vertical_fov_degrees=options.fov,
        amount=options.amount,
        easing=options.easing,
        focus_distance=options.focus_distance or focus_distance,
    )


def scene_and_path(options, views: int, width: int, height: int):
    """The scene of an options namespace and the cameras to see it from, in one world; says what was done to that end.

    Returns:
        (`Gaussians`, `Cameras`)
    """
    from ..formats.cameras import dataparser, detect_format
    from ..formats.scenes import read_scene
    from ..gaussians import SOURCE_UP
    from ..ops.select import few_seen, seen_in_views
    from ..ops.transform import upright

    scene = read_scene(options.scene, frame="auto" if options.up == "auto" else "opencv")
    if options.up in ("y", "z"):
        scene = upright(scene, options.up)
    # Presets start at the origin looking ahead: circle what stands in the middle of that first view.
    depth = median_depth(scene)
    if not is_path_file(options):
        return scene, trajectory(options, views, width, height, focus_distance=depth)
    up = scene.metadata.get(SOURCE_UP)
    up = up if up in UP else None
    moved = None
    if options.dataparser == "auto":
        moved = dataparser.find(options.scene, Path(options.trajectory))
        if moved is not None and detect_format(options.trajectory) == "nerfstudio_path":
            moved = None  # such a path is in the trained world
    elif options.dataparser != "none":
        moved = Path(options.dataparser)
    cameras = trajectory(options, views, width, height, up=up, dataparser=moved)
    if moved is not None and options.dataparser == "auto":
        # The path may be in the trained world already: the one that sees the scene is right.
        with quiet():
            as_they_are = trajectory(options, views, width, height, up=up)
        if seen_in_views(scene, as_they_are).mean() > seen_in_views(scene, cameras).mean():
            cameras, moved = as_they_are, None
        else:
            say(f"Cameras moved into the world of the trained scene by {moved} (--dataparser none: not).")
    remedy = (
        "A scene trained with nerfstudio needs its dataparser_transforms.json beside it, or --dataparser FILE. "
        if moved is None
        else ""
    )
    told = few_seen(scene, cameras, remedy + "Another axis may point up: --up z. Or the path belongs to another scene.")
    if told:
        say(told)
    return scene, cameras


def say(text: str) -> None:
    """A sentence for the user, beside the results."""
    print(text, file=sys.stderr)


@contextlib.contextmanager
def quiet():
    """Nothing is logged inside: what is read a second time was told the first time."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def median_depth(scene) -> float:
    """Depth of the scene's middle from the origin along +z, in world units; 1 where nothing is ahead."""
    z = scene.means[:, 2]
    ahead = z[(z > 0) & (scene.opacities > 0.1)]
    return float(ahead.median()) if len(ahead) else 1.0


def device_of(name: str):
    """The torch device for a name that `device_name` takes."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise FlashWorldError("--device cuda: this PyTorch sees no CUDA device; use --device cpu.")
    if name.startswith("xpu") and not (hasattr(torch, "xpu") and torch.xpu.is_available()):
        raise FlashWorldError("--device xpu: this PyTorch sees no Intel GPU; use --device cpu.")
    return torch.device(name)
