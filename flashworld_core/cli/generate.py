"""``generate``: a scene from a picture and/or a sentence along a camera path."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ..checkpoints import DTYPES
from .arguments import add_trajectory_arguments, device_name, device_of, positive, size, trajectory
from .progress import ProgressBar


def add_command(commands) -> None:
    parser = commands.add_parser(
        "generate",
        help="make a scene from a picture and/or a sentence",
        description="Make a 3D Gaussian scene from a picture, a sentence, or both, along a camera path. Writes "
        "OUT/scene.ply, OUT/cameras.json (the path, as a request), OUT/path.mp4, OUT/contact_sheet.png and "
        "OUT/report.json.",
    )
    parser.add_argument("--image", metavar="FILE", help="the picture; cropped about its center to the views' shape")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="the sentence")
    parser.add_argument(
        "--request",
        type=Path,
        metavar="FILE",
        help="an official FlashWorld request JSON: picture, prompt, cameras and size from one file",
    )  # noqa: E501
    parser.add_argument(
        "--image-index", type=int, default=None, metavar="N", help="which view shows the picture, from 0 (default 0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="same seed, same scene (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("output/generate"), help="folder to write to (%(default)s)")
    model = parser.add_argument_group("model")
    add_model_arguments(model)
    model.add_argument(
        "--steps",
        default=None,
        metavar="N|I,J,...",
        help="number of steps, or indices into the 1000-entry schedule; default the model's own",
    )  # noqa: E501
    model.add_argument(
        "--views-per-chunk",
        type=positive,
        default=None,
        metavar="N",
        help="views decoded and rendered together: less memory when smaller, same scene",
    )  # noqa: E501
    views = parser.add_argument_group("views")
    views.add_argument(
        "--views", type=positive, default=None, metavar="T", help="number of generation views; default the model's own"
    )
    views.add_argument(
        "--size", type=size, default=None, metavar="WxH", help="size of the generation views; default the model's own"
    )
    views.add_argument(
        "--video-size", type=size, default=None, metavar="WxH", help="size of the video; default at least 384 wide"
    )
    views.add_argument("--no-video", action="store_true", help="do not render the path to a video")
    add_trajectory_arguments(parser, "orbit")
    parser.set_defaults(run=run)


def add_model_arguments(group) -> None:
    group.add_argument(
        "--model",
        default="tiny",
        metavar="tiny|PATH",
        help="the embedded model, a model folder, or an official or converted checkpoint (%(default)s)",
    )  # noqa: E501
    group.add_argument("--vae", default=None, metavar="PATH", help="Wan 2.2 VAE, for checkpoints that bring none")
    group.add_argument("--text-encoder", default=None, metavar="PATH", help="UMT5-XXL, for checkpoints that bring none")
    group.add_argument(
        "--dtype", default=None, choices=sorted(DTYPES), help="precision of the networks; default the model's own"
    )
    group.add_argument("--device", type=device_name, default="auto", help="auto, cpu or cuda (%(default)s)")


def load(options):
    """The model an options namespace asks for."""
    import torch

    from ..generators import load_model

    return load_model(
        options.model,
        dtype=getattr(torch, DTYPES[options.dtype]) if options.dtype else None,
        device=device_of(options.device),
        **{name: value for name in ("vae", "text_encoder") if (value := getattr(options, name)) is not None},
    )


def run(options) -> None:
    from ..errors import FlashWorldError
    from ..formats.files import check_folder

    if options.request is None and not options.image and not options.prompt.strip():
        raise FlashWorldError("Give --image, --prompt or both (or a --request file).")
    if options.request is not None and options.image:
        raise FlashWorldError("--request brings its own picture; leave out --image.")
    if options.image and not Path(options.image).is_file():
        raise FlashWorldError(f"--image {options.image}: no such file.")
    steps = parse_steps(options.steps)
    check_folder(options.out)
    model = load(options)
    request = request_from(options, model.info, steps)
    for remark in model.check(request):
        print(remark, file=sys.stderr)
    report = generate_to(options.out, model, request, options.views_per_chunk, options.video_size, not options.no_video)
    print(f"{report['gaussians']:,} Gaussians in {report['seconds']:.1f} s: {options.out.resolve()}")


def parse_steps(text: str | None):
    """None, a number of steps, or schedule indices."""
    from ..errors import FlashWorldError

    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise FlashWorldError(f"--steps {text}: give a number, or indices like 0,250,500,750.") from None
    return numbers[0] if len(numbers) == 1 and "," not in text else numbers


def request_from(options, info, steps):
    """The `Request` of an options namespace, for a model of ``info``."""
    from ..formats.cameras import FlashWorldRequest
    from ..generators.base import Request, ViewImage

    if options.request is not None:
        file = FlashWorldRequest.read(options.request)
        cameras, views = file.cameras, options.views or file.views
        width, height = options.size or (file.width, file.height)
        image, prompt = file.image_prompt, options.prompt or file.text_prompt
        index = file.image_index if options.image_index is None else options.image_index
    else:
        width, height = options.size or (info.width, info.height)
        views = options.views or info.views
        up = options.up if options.up in ("y", "z") else None
        parser = None if options.dataparser in ("auto", "none") else Path(options.dataparser)
        cameras = trajectory(options, views, width, height, up=up, dataparser=parser)
        if (cameras.width, cameras.height) != (width, height) and not options.image:
            cameras = cameras.resized(width, height)
        image, prompt, index = options.image, options.prompt, options.image_index or 0
    images = (ViewImage(image, index),) if image else ()
    return Request(cameras, images, prompt, options.seed, steps, (width, height), views)


def generate_to(
    out: Path, model, request, views_per_chunk: int | None = None, video_size: tuple[int, int] | None = None,
    video: bool = True, video_name: str = "path.mp4", truth=None,
) -> dict:  # fmt: skip
    """Generate, then write scene, path, report, contact sheet and video into ``out``.

    Args:
        request: a `generators.base.Request`.
        truth: optional ``truth(scene) -> (figures for the report, rows for the contact sheet)``, where the scene's
            real look is known.

    Returns:
        The report.
    """
    from ..formats.cameras import FlashWorldRequest
    from ..formats.scenes import write_scene
    from ..gaussians import SCENE_SCALE, TIMESTEP_INDICES
    from ..generators.base import RunOptions
    from ..media.export import contact_sheet, save_json, save_png, save_video
    from ..media.images import open_image
    from ..progress import Progress
    from ..rendering.maps import colorize_depth
    from ..rendering.render import render, warm_up

    warm_up()
    started = time.monotonic()
    with ProgressBar("generate") as bar:
        made = model.generate(request, RunOptions(views_per_chunk=views_per_chunk, progress=Progress(bar)))
    seconds = time.monotonic() - started
    scene, cameras, info = made.gaussians, made.cameras, model.info
    image = request.images[0] if request.images else None

    report = {
        "seconds": round(seconds, 2),
        "gaussians": len(scene),
        "seed": request.seed,
        "model_id": info.model_id,
        "license": info.license,
        "prompt": request.prompt,
        "image_index": image.view if image else None,
        "views": len(cameras),
        "size": [cameras.width, cameras.height],
        **{key: scene.metadata[key] for key in (TIMESTEP_INDICES, SCENE_SCALE) if key in scene.metadata},
    }
    views = render(scene, cameras, modes=("rgb", "expected_depth"))
    rows = []
    if image:
        picture = numpy_image(open_image(image.image))
        rows.append((f"input picture (view {image.view})", [picture, views.rgb[image.view]]))
    shown = sorted({round(i * (len(cameras) - 1) / 5) for i in range(6)})
    numbers = ", ".join(str(i) for i in shown)
    rows.append((f"the scene from views {numbers}", [views.rgb[i] for i in shown]))
    rows.append(("depth, near is light", [colorize_depth(views.expected_depth)[i] for i in shown]))
    if truth is not None:
        figures, more = truth(scene)
        report |= figures
        rows += more

    out.mkdir(parents=True, exist_ok=True)
    write_scene(out / "scene.ply", scene)
    FlashWorldRequest(
        cameras, len(cameras), cameras.height, cameras.width, None, request.prompt, image.view if image else 0
    ).write(out / "cameras.json")
    save_json(out / "report.json", report)
    title = (
        f"{request.prompt or 'no prompt'}  -  {len(scene):,} Gaussians, {seconds:.1f} s, seed {request.seed}, "
        f"{info.model_id}"
    )
    save_png(out / "contact_sheet.png", contact_sheet(rows, title=title))
    if video and len(cameras) > 1:
        save_video(out / video_name, path_frames(scene, cameras, video_size), 24)
    return report


def path_frames(scene, cameras, size: tuple[int, int] | None):
    """[F, H, W, 3]: the path as a smooth video, there and back, four seconds each way."""
    import torch

    from ..rendering.render import render
    from ..trajectories.keyframes import resample

    if size is None:
        factor = max(1, round(480 / cameras.width))
        size = (cameras.width * factor, cameras.height * factor)
    frames = resample(cameras, 96).resized(*size)
    with ProgressBar("video   ") as progress:
        rgb = render(scene, frames, progress=progress).rgb
    return torch.cat([rgb, rgb.flip(0)[1:-1]])


def numpy_image(picture):
    """[H, W, 3] float tensor in [0, 1] of a Pillow image."""
    import numpy as np
    import torch

    return torch.from_numpy(np.asarray(picture.convert("RGB")).copy()).float() / 255
