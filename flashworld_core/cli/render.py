"""``render``: pictures and videos of a scene from any camera path."""

from __future__ import annotations

from pathlib import Path

from .arguments import add_trajectory_arguments, background, device_name, device_of, positive, scene_and_path, size
from .progress import ProgressBar, announced

MODES = ("rgb", "depth", "alpha", "normal")


def add_command(commands) -> None:
    parser = commands.add_parser(
        "render",
        help="render a scene along a camera path",
        description="Render a scene along a camera path. Writes OUT/MODE/0000.png ... and OUT/MODE.mp4. Depth also as "
        "numbers: the expected depth along the viewing axis in world units, 0 where nothing is.",
    )
    parser.add_argument("scene", type=Path, metavar="SCENE", help="scene file: PLY, SPZ, SOG, .splat, .ksplat or glTF")
    parser.add_argument("--out", type=Path, default=Path("output/render"), help="folder to write to (%(default)s)")
    parser.add_argument("--modes", default="rgb", help=f"comma-separated, any of {','.join(MODES)} (%(default)s)")
    parser.add_argument(
        "--size",
        type=size,
        default=None,
        metavar="WxH",
        help="picture size; default the path's, or 704x480; another shape crops",
    )
    parser.add_argument(
        "--views",
        type=positive,
        default=None,
        help="frames; paths from files are resampled (default: file as it is, preset 48)",
    )  # noqa: E501
    parser.add_argument("--fps", type=float, default=24.0, help="of the videos (%(default)s)")
    parser.add_argument("--background", type=background, default="white", help="white, black or R,G,B in 0..1")
    parser.add_argument("--sh-degree", type=int, choices=range(4), default=None, help="use fewer color bands")
    parser.add_argument(
        "--sharp",
        action="store_true",
        help="do not widen Gaussians in pictures larger than the scene was made at; gaps may show",
    )
    parser.add_argument("--backend", default="auto", choices=("auto", "gsplat", "triton", "cpu", "torch"))
    parser.add_argument("--device", type=device_name, default="auto", help="auto, cpu, cuda or xpu (%(default)s)")
    parser.add_argument("--no-video", action="store_true", help="pictures only")
    parser.add_argument(
        "--maps",
        choices=("npy", "png16", "npz", "none"),
        default="npy",
        help="how depth is written as numbers. npy: a float32 file a view; png16: a 16-bit picture a view, smallest, "
        "with world units per step in scale.json; npz: one compressed float32 file. png16 and npz write normals too; "
        "none: only the colored pictures (%(default)s)",
    )
    add_trajectory_arguments(parser, "orbit")
    parser.set_defaults(run=run)


def run(options) -> None:
    from ..errors import FlashWorldError
    from ..formats.files import check_folder

    modes = [mode.strip() for mode in options.modes.split(",") if mode.strip()]
    if not modes or set(modes) - set(MODES):
        raise FlashWorldError(f"--modes {options.modes}: choose from {', '.join(MODES)}.")
    if not options.fps > 0:
        raise FlashWorldError(f"--fps must be above 0, got {options.fps:g}.")
    width, height = options.size or (704, 480)
    with announced("Loading..."):
        from ..rendering.constants import LOW_PASS
        from ..rendering.render import render
        from ..trajectories.keyframes import resample

        check_folder(options.out)
        device = device_of(options.device)
        scene, cameras = scene_and_path(options, options.views or 48, width, height)
    scene = scene.to(device)
    if options.size:
        cameras = cameras.fitted(width, height)
    if options.views and len(cameras) != options.views:
        cameras = resample(cameras, options.views)

    wanted = tuple("expected_depth" if mode == "depth" else mode for mode in modes)
    with ProgressBar("render") as progress:
        progress(0, 1)
        images = render(
            scene, cameras, modes=wanted, background=options.background, sh_degree=options.sh_degree,
            low_pass=LOW_PASS if options.sharp else None,
            backend=options.backend, progress=progress,
        )  # fmt: skip
    with ProgressBar("write ") as progress:
        write(options, modes, images, progress)
    print(f"{len(cameras)} views of {len(scene):,} Gaussians: {options.out.resolve()}")


def write(options, modes: list[str], images, progress) -> None:
    """Write the pictures, maps and videos of a `RenderOutput`."""
    from ..media.export import save_png, save_video
    from ..media.maps import save_depth, save_normals
    from ..rendering.maps import colorize_depth, colorize_normals

    videos = not options.no_video
    done, count = 0, len(next(field for field in vars(images).values() if field is not None))
    total = len(modes) * count * (2 if videos else 1)

    def step(*_) -> None:
        nonlocal done
        done += 1
        progress(done, total)

    for mode in modes:
        folder = options.out / mode
        if mode == "rgb":
            frames = images.rgb
        elif mode == "alpha":
            frames = images.alpha[..., None].expand(*images.alpha.shape, 3)
        elif mode == "normal":
            frames = colorize_normals(images.normals)
        else:
            frames = colorize_depth(images.expected_depth)
        if mode == "depth":
            save_depth(folder, images.expected_depth, options.maps)
        elif mode == "normal" and options.maps != "npy":
            save_normals(folder, images.normals, options.maps)
        for i, frame in enumerate(frames):
            save_png(folder / f"{i:04d}.png", frame)
            step()
        if videos and count > 1:
            save_video(options.out / f"{mode}.mp4", frames, options.fps, progress=step)
