"""``convert``: scenes or a camera path from one file format to others."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import UP, fraction, say, size
from .progress import ProgressBar, announced


def add_command(commands) -> None:
    parser = commands.add_parser(
        "convert",
        help="convert scenes or a camera path between file formats",
        description="Convert a scene (PLY of any kind, SPZ, SOG, .splat, .ksplat, glTF) or a camera path (FlashWorld "
        "request JSON, nerfstudio transforms.json, RealEstate10K text, COLMAP folder). What IN is, its content tells; "
        "what OUT becomes, its ending or --to. A folder of scenes is converted file by file with --to.",
    )
    parser.add_argument("source", type=Path, metavar="IN", help="a file, or a folder of scenes")
    parser.add_argument(
        "target", type=Path, metavar="OUT", nargs="?", help="file; with --to a folder (default: where IN is)"
    )
    scene = parser.add_argument_group("scenes")
    scene.add_argument("--to", type=formats, metavar="FORMATS", help="one or more of: " + ", ".join(format_names()))
    scene.add_argument(
        "--sh-degree",
        type=int,
        choices=range(4),
        default=None,
        help="pad or cut the color bands (many viewers take only 0 or 3)",
    )
    scene.add_argument("--quality", choices=("default", "high"), default=None, help="of SPZ and SOG (default)")
    scene.add_argument(
        "--axes",
        choices=("source", "y-up"),
        default=None,
        help="axes of OUT: source (x right, y down, z forward, what viewers expect of splat files) or y-up (source)",
    )
    scene.add_argument("--spz-version", type=int, choices=(2, 3, 4), default=None, help="SPZ version of OUT (3)")
    scene.add_argument("--level", type=int, choices=(0, 1), default=None, help="compression level of .ksplat (1)")
    scene.add_argument(
        "--frame",
        choices=("auto", "opencv", "opengl"),
        default="auto",
        help="world frame of IN; auto knows glTF, what a file says itself, and FlashWorld's own exports (%(default)s)",
    )
    parser.add_argument(
        "--up", choices=UP, default="auto", help="axis that points up in IN; OUT has -y up (auto: what IN says)"
    )
    scene.add_argument(
        "--min-opacity", type=fraction, default=0.0, metavar="A", help="drop Gaussians below this opacity"
    )
    scene.add_argument("--max-gaussians", type=int, default=None, metavar="N", help="keep the N that matter most")
    path = parser.add_argument_group("camera paths")
    path.add_argument(
        "--format",
        default=None,
        help="format of OUT, where its name does not say: flashworld, nerfstudio, inria, colmap, realestate10k",
    )
    path.add_argument(
        "--size",
        type=size,
        default=None,
        metavar="WxH",
        help="size of OUT's pictures: focal lengths are scaled, another shape is cropped about the center; also the "
        "size of IN's, where neither IN nor --image-size says it",
    )
    path.add_argument(
        "--image-size", type=size, default=None, metavar="WxH", help="size of IN's pictures, where IN does not say it"
    )
    path.add_argument(
        "--dataparser",
        type=Path,
        default=None,
        metavar="FILE",
        help="nerfstudio's dataparser_transforms.json: OUT is in the world of the scene trained with it",
    )
    path.add_argument("--views", type=int, default=None, help="resample the path to this many cameras")
    parser.set_defaults(run=run)


def format_names() -> tuple[str, ...]:
    from ..formats.scenes import writable_formats

    return writable_formats()


def formats(text: str) -> list[str]:
    """The argument of --to: names separated by commas."""
    names = [name.strip().lower().removeprefix(".").replace("-", "_") for name in text.split(",")]
    names = [{"glb": "gltf", "compressed.ply": "compressed_ply"}.get(name, name) for name in names]
    for name in names:
        if name not in format_names():
            raise argparse.ArgumentTypeError(f"no format {name!r}; choose from {', '.join(format_names())}")
    return names


def run(options) -> None:
    from ..errors import FlashWorldError

    with announced("Loading..."):
        from ..formats.scenes import detect_scene, format_of_name, ply  # noqa: F401  (imports torch)

    source, target = options.source, options.target
    if not source.exists():
        raise FlashWorldError(f"{source}: no such file or folder.")
    if target is None and options.to is None:
        raise FlashWorldError("convert needs OUT, or --to with the formats to write.")
    if detect_scene(source) is None:
        scenes = scenes_in(source) if source.is_dir() and options.to is not None else []
        return convert_folder(options, scenes) if scenes else convert_path(options)
    if options.to is None:
        format_of_name(target)  # refuse an unknown ending before anything is read
        return convert_scene(options, source, {target: None})
    convert_scene(options, source, targets_of(options, source))


def scenes_in(folder: Path) -> list[Path]:
    """Scene files directly in a folder, by name."""
    from ..formats.scenes import detect_scene

    return [path for path in sorted(folder.iterdir()) if path.is_file() and detect_scene(path) is not None]


def targets_of(options, source: Path) -> dict[Path, str]:
    """Where --to puts each format: OUT, or the folder of the source; the name stays, the ending changes."""
    from ..errors import FlashWorldError
    from ..formats.scenes import FORMATS

    folder = options.target or source.parent
    folder.mkdir(parents=True, exist_ok=True)
    stem, endings = source.name, sorted((e for f in FORMATS.values() for e in f.extensions), key=len, reverse=True)
    ending = next((e for e in endings if stem.lower().endswith(e)), source.suffix)
    stem = stem[: -len(ending)] if ending else stem
    targets = {folder / (stem + FORMATS[name].extensions[0]): name for name in options.to}
    for target in targets:
        if target.exists() and source.exists() and target.samefile(source):
            raise FlashWorldError(f"{target.name} would replace the file it is made from; give another OUT.")
    return targets


def convert_folder(options, scenes: list[Path]) -> None:
    """Convert all; one that fails is told and the others go on."""
    from ..errors import FlashWorldError

    failed = []
    for number, source in enumerate(scenes, start=1):
        print(f"[{number}/{len(scenes)}] {source.name}")
        try:
            convert_scene(options, source, targets_of(options, source))
        except FlashWorldError as error:
            failed.append(f"{source.name}: {error}")
            print(f"  failed: {error}")
    if failed:
        raise FlashWorldError(f"{len(failed)} of {len(scenes)} scenes could not be converted; the first: {failed[0]}")


def convert_scene(options, source: Path, targets: dict[Path, str | None]) -> None:
    """Read a scene and write it to each target, in the format named there or by its ending."""
    from ..formats.scenes import format_of_name, read_scene, scene_info, write_scene
    from ..formats.scenes.row_store import Limit
    from ..ops.transform import upright

    limit = Limit(options.max_gaussians, options.min_opacity)

    with ProgressBar("read ") as progress:
        frame = "opencv" if options.up != "auto" else options.frame
        scene = read_scene(source, limit=limit, frame=frame, progress=progress)
    if options.up in ("y", "z"):
        scene = upright(scene, options.up)
    before = scene_info(source)["gaussians"] or len(scene)
    if options.sh_degree is not None and options.sh_degree > scene.sh_degree:
        say(
            f"The scene has color bands up to degree {scene.sh_degree}: degree {options.sh_degree} adds zeros, which "
            "makes the file larger and the scene no better."
        )
    for target, name in targets.items():
        name = name or format_of_name(target)
        asked = writer_options(options, name, len(targets) > 1)
        with ProgressBar("write") as progress:
            write_scene(target, scene, format=name, progress=progress, **asked)
        print(f"{len(scene):,} of {before:,} Gaussians, {target.stat().st_size / 2**20:.2f} MiB: {target.resolve()}")


def writer_options(options, name: str, several: bool) -> dict:
    """What was asked for, as arguments of the format's writer.

    Raises:
        FlashWorldError: an option the format does not have; with several formats it is for the others.
    """
    from ..errors import FlashWorldError
    from ..formats.scenes import FORMATS

    asked = {
        "sh_degree": options.sh_degree,
        "quality": options.quality,
        "axes": options.axes,
        "version": options.spz_version,
        "level": options.level,
    }
    asked = {key: value for key, value in asked.items() if value is not None}
    foreign = next((key for key in asked if key not in FORMATS[name].options), None)
    if foreign is not None and not several:
        flag = {"version": "--spz-version"}.get(foreign, "--" + foreign.replace("_", "-"))
        raise FlashWorldError(f"{FORMATS[name].title} files have no {flag}.")
    return {key: value for key, value in asked.items() if key in FORMATS[name].options}


def convert_path(options) -> None:
    from ..errors import FlashWorldError
    from ..formats.cameras import read_cameras, write_cameras
    from ..trajectories.keyframes import resample

    if options.to is not None or options.target is None:
        raise FlashWorldError(f"{options.source}: is no scene, and holds none that --to could convert.")
    up = options.up if options.up in ("y", "z") else None
    source_size = options.image_size or options.size or ()
    cameras = read_cameras(options.source, *source_size, view_size=options.size, up=up, dataparser=options.dataparser)
    had = cameras.width, cameras.height
    if options.size is not None and had != options.size:
        cropped = abs(had[0] * options.size[1] - had[1] * options.size[0]) >= max(*had, *options.size)
        cameras = cameras.fitted(*options.size)
        say(f"Scaled from {had[0]}x{had[1]}{' and cropped about the center' if cropped else ''}.")
    if options.views is not None:
        cameras = resample(cameras, options.views)
    write_cameras(options.target, cameras, options.format)
    print(f"{len(cameras)} cameras of {cameras.width}x{cameras.height}: {options.target.resolve()}")
