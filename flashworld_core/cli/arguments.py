"""Arguments that several commands share, and what they mean."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from ..cameras import Cameras
from ..errors import FlashWorldError

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


def add_trajectory_arguments(parser: argparse.ArgumentParser, default: str | None) -> None:
    from ..trajectories.keyframes import EASINGS
    from ..trajectories.presets import PRESETS

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
        help="a preset, or a path file: FlashWorld request JSON, nerfstudio transforms.json, RealEstate10K text, "
        f"COLMAP folder (default: {default})",
    )
    group.add_argument("--amount", type=float, help="how far a preset goes, in its own unit")
    group.add_argument(
        "--easing", default="linear", choices=sorted(EASINGS), help="how a preset speeds up and slows down"
    )
    group.add_argument(
        "--focus-distance", type=above_zero, default=None, help="distance of the point a preset circles, in world units"
    )
    group.add_argument("--fov", type=float, default=60.0, metavar="DEGREES", help="vertical field of view of a preset")


def trajectory(options, views: int, width: int, height: int, focus_distance: float = 1.0) -> Cameras:
    """The cameras an options namespace asks for; ``views`` and the size are those of a preset."""
    from ..formats.cameras import read_cameras
    from ..trajectories.presets import PRESETS, make_trajectory

    name = options.trajectory
    if name.split("+")[0].split(":")[0] not in PRESETS:
        if not Path(name).exists():
            raise FlashWorldError(
                f"--trajectory {name}: neither a file nor a preset; presets are {', '.join(PRESETS)}."
            )
        return read_cameras(name, width, height)
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
