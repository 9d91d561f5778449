"""``convert``: a scene or a camera path from one file format to another."""

from __future__ import annotations

from pathlib import Path

from .arguments import size
from .progress import ProgressBar


def add_command(commands) -> None:
    parser = commands.add_parser(
        "convert",
        help="convert a scene or a camera path between file formats",
        description="Convert a scene (.ply of any writer to our standard PLY) or a camera path (FlashWorld request "
        "JSON, nerfstudio transforms.json, RealEstate10K text, COLMAP folder). What IN is, its content tells.",
    )
    parser.add_argument("source", type=Path, metavar="IN")
    parser.add_argument("target", type=Path, metavar="OUT")
    scene = parser.add_argument_group("scenes")
    scene.add_argument(
        "--sh-degree",
        type=int,
        choices=range(4),
        default=None,
        help="pad or cut the color bands (many viewers take only 0 or 3)",
    )  # noqa: E501
    scene.add_argument(
        "--frame",
        choices=("auto", "opencv", "opengl"),
        default="auto",
        help="world frame of IN; auto knows FlashWorld's own exports (%(default)s)",
    )  # noqa: E501
    scene.add_argument("--min-opacity", type=float, default=0.0, metavar="A", help="drop Gaussians below this opacity")
    scene.add_argument("--max-gaussians", type=int, default=None, metavar="N", help="keep the N that matter most")
    path = parser.add_argument_group("camera paths")
    path.add_argument(
        "--format",
        default=None,
        help="format of OUT, where its name does not say: flashworld, nerfstudio, colmap, realestate10k",
    )  # noqa: E501
    path.add_argument("--size", type=size, default=None, metavar="WxH", help="picture size, where IN does not say it")
    path.add_argument("--views", type=int, default=None, help="resample the path to this many cameras")
    parser.set_defaults(run=run)


def run(options) -> None:
    from ..errors import FlashWorldError
    from ..formats.scenes import read_scene, supported_extensions, write_scene

    if not options.source.exists():
        raise FlashWorldError(f"{options.source}: no such file or folder.")
    if options.source.suffix.lower() not in supported_extensions():
        return convert_path(options)

    from ..ops.select import budget, prune

    with ProgressBar("read ") as progress:
        scene = read_scene(options.source, frame=options.frame, progress=progress)
    before = len(scene)
    if options.min_opacity > 0:
        scene = prune(scene, min_opacity=options.min_opacity)
    if options.max_gaussians is not None:
        scene = budget(scene, options.max_gaussians)
    with ProgressBar("write") as progress:
        write_scene(options.target, scene, sh_degree=options.sh_degree, progress=progress)
    print(f"{len(scene):,} of {before:,} Gaussians: {options.target.resolve()}")


def convert_path(options) -> None:
    from ..formats.cameras import read_cameras, write_cameras
    from ..trajectories.keyframes import resample

    cameras = read_cameras(options.source, *(options.size or ()))
    if options.views is not None:
        cameras = resample(cameras, options.views)
    write_cameras(options.target, cameras, options.format)
    print(f"{len(cameras)} cameras: {options.target.resolve()}")
