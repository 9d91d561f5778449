"""``render``: pictures and videos of a scene from any camera path."""

from __future__ import annotations

from pathlib import Path

from .arguments import add_trajectory_arguments, background, device_name, device_of, positive, scene_and_path, size
from .progress import ProgressBar

MODES = ("rgb", "depth", "alpha", "normal")


def add_command(commands) -> None:
    parser = commands.add_parser(
        "render",
        help="render a scene along a camera path",
        description="Render a scene along a camera path. Writes OUT/MODE/0000.png ... and OUT/MODE.mp4; depth also as "
        "0000.npy in world units (float32, expected depth along the viewing axis, 0 where nothing is).",
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
    add_trajectory_arguments(parser, "orbit")
    parser.set_defaults(run=run)


def run(options) -> None:
    from ..errors import FlashWorldError
    from ..formats.files import check_folder
    from ..media.export import save_npy, save_png, save_video
    from ..rendering.constants import LOW_PASS
    from ..rendering.maps import colorize_depth, colorize_normals
    from ..rendering.render import render
    from ..trajectories.keyframes import resample

    modes = [mode.strip() for mode in options.modes.split(",") if mode.strip()]
    if not modes or set(modes) - set(MODES):
        raise FlashWorldError(f"--modes {options.modes}: choose from {', '.join(MODES)}.")
    if not options.fps > 0:
        raise FlashWorldError(f"--fps must be above 0, got {options.fps:g}.")
    check_folder(options.out)
    width, height = options.size or (704, 480)
    device = device_of(options.device)
    scene, cameras = scene_and_path(options, options.views or 48, width, height)
    scene = scene.to(device)
    if options.size:
        cameras = cameras.fitted(width, height)
    if options.views and len(cameras) != options.views:
        cameras = resample(cameras, options.views)

    wanted = tuple("expected_depth" if mode == "depth" else mode for mode in modes)
    with ProgressBar("render") as progress:
        images = render(
            scene, cameras, modes=wanted, background=options.background, sh_degree=options.sh_degree,
            low_pass=LOW_PASS if options.sharp else None,
            backend=options.backend, progress=progress,
        )  # fmt: skip
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
            for i, depth in enumerate(images.expected_depth.cpu().numpy()):
                save_npy(folder / f"{i:04d}.npy", depth)
        for i, frame in enumerate(frames):
            save_png(folder / f"{i:04d}.png", frame)
        if not options.no_video and len(frames) > 1:
            save_video(options.out / f"{mode}.mp4", frames, options.fps)
    print(f"{len(cameras)} views of {len(scene):,} Gaussians: {options.out.resolve()}")
