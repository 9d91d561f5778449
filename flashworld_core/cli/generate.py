"""``generate``: a scene from a picture and/or a sentence along a camera path."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from ..cameras import Cameras
from .arguments import add_trajectory_arguments, device_of, positive, size, trajectory
from .progress import ProgressBar

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


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
    group.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")


def load(options):
    """The model an options namespace asks for."""
    import torch

    from ..generators.base import load_model

    return load_model(
        options.model,
        dtype=getattr(torch, DTYPES[options.dtype]) if options.dtype else None,
        device=device_of(options.device),
        **{name: value for name in ("vae", "text_encoder") if (value := getattr(options, name)) is not None},
    )


@dataclasses.dataclass
class Job:
    """What to generate, whether from options or from a request file. The path is resampled to ``views`` cameras."""

    cameras: Cameras
    views: int
    width: int
    height: int
    image: str | None
    prompt: str
    image_index: int


def run(options) -> None:
    from ..errors import FlashWorldError

    if options.request is None and not options.image and not options.prompt.strip():
        raise FlashWorldError("generate: give --image, --prompt or both (or a --request file).")
    if options.request is not None and options.image:
        raise FlashWorldError("generate: --request brings its own picture; leave out --image.")
    if options.image and not Path(options.image).is_file():
        raise FlashWorldError(f"generate: --image {options.image}: no such file.")
    steps = parse_steps(options.steps)
    model = load(options)
    job = job_from(options, model.config)
    report = generate_to(
        options.out, model, job, options.seed, steps, options.views_per_chunk, options.video_size, not options.no_video
    )
    print(f"{report['gaussians']:,} Gaussians in {report['seconds']:.1f} s: {options.out.resolve()}")


def parse_steps(text: str | None):
    """None, a number of steps, or schedule indices."""
    from ..errors import FlashWorldError

    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise FlashWorldError(f"generate: --steps {text}: give a number, or indices like 0,250,500,750.") from None
    return numbers[0] if len(numbers) == 1 and "," not in text else numbers


def job_from(options, config) -> Job:
    """The job of an options namespace, for a model of these sizes."""
    from ..formats.cameras.flashworld_json import FlashWorldRequest

    if options.request is not None:
        request = FlashWorldRequest.read(options.request)
        cameras, views = request.cameras, options.views or request.views
        width, height = options.size or (request.width, request.height)
        image, prompt = request.image_prompt, options.prompt or request.text_prompt
        image_index = request.image_index if options.image_index is None else options.image_index
    else:
        width, height = options.size or (config.width, config.height)
        views = options.views or config.views
        cameras = trajectory(options, views, width, height)
        if (cameras.width, cameras.height) != (width, height) and not options.image:
            cameras = cameras.resized(width, height)
        image, prompt, image_index = options.image, options.prompt, options.image_index or 0
    return Job(cameras, views, width, height, image, prompt, image_index)


def generate_to(
    out: Path, model, job: Job, seed: int, steps=None, views_per_chunk: int | None = None,
    video_size: tuple[int, int] | None = None, video: bool = True, video_name: str = "path.mp4", truth=None,
) -> dict:  # fmt: skip
    """Generate, then write scene, path, report, contact sheet and video into ``out``.

    Args:
        truth: optional ``truth(scene) -> (figures for the report, rows for the contact sheet)``, where the scene's
            real look is known.

    Returns:
        The report.
    """
    from ..formats.cameras.flashworld_json import FlashWorldRequest
    from ..formats.scenes import write_scene
    from ..media.export import contact_sheet, save_json, save_png, save_video
    from ..media.images import open_image
    from ..rendering.maps import colorize_depth
    from ..rendering.render import render, warm_up

    warm_up()
    started = time.monotonic()
    with ProgressBar("generate") as progress:
        scene, cameras = generate_scene(model, job, seed, steps, views_per_chunk, progress)
    seconds = time.monotonic() - started
    near = 0.01 * scene.metadata["scene_scale"]

    report = {
        "seconds": round(seconds, 2),
        "gaussians": len(scene),
        "seed": seed,
        "model_id": model.model_id,
        "license": model.license,
        "prompt": job.prompt,
        "image_index": job.image_index if job.image else None,
        "views": len(cameras),
        "size": [cameras.width, cameras.height],
        "timestep_indices": scene.metadata["timestep_indices"],
        "scene_scale": scene.metadata["scene_scale"],
    }
    views = render(scene, cameras, modes=("rgb", "expected_depth"), near=near)
    rows = []
    if job.image:
        picture = numpy_image(open_image(job.image))
        rows.append((f"input picture (view {job.image_index})", [picture, views.rgb[job.image_index]]))
    shown = sorted({round(i * (len(cameras) - 1) / 5) for i in range(6)})
    numbers = ", ".join(str(i) for i in shown)
    rows.append((f"the scene from views {numbers}", [views.rgb[i] for i in shown]))
    rows.append(("depth, near is light", [colorize_depth(views.expected_depth)[i] for i in shown]))
    if truth is not None:
        figures, more = truth(scene, near)
        report |= figures
        rows += more

    out.mkdir(parents=True, exist_ok=True)
    write_scene(out / "scene.ply", scene)
    request = FlashWorldRequest(cameras, len(cameras), cameras.height, cameras.width, None, job.prompt, job.image_index)
    request.write(out / "cameras.json")
    save_json(out / "report.json", report)
    title = f"{job.prompt or 'no prompt'}  -  {len(scene):,} Gaussians, {seconds:.1f} s, seed {seed}, {model.model_id}"
    save_png(out / "contact_sheet.png", contact_sheet(rows, title=title))
    if video and len(cameras) > 1:
        save_video(out / video_name, path_frames(scene, cameras, video_size, near), 24)
    return report


def generate_scene(model, job: Job, seed: int, steps, views_per_chunk, progress):
    """The scene, and the cameras it was generated at (the job's, in the pixels of the generated views)."""
    request = {
        "image": job.image, "prompt": job.prompt, "image_index": job.image_index, "seed": seed, "steps": steps,
        "width": job.width, "height": job.height, "views": job.views,
    }  # fmt: skip
    made = []
    scene = model.generate(
        job.cameras, **request, views_per_chunk=views_per_chunk, progress=progress,
        on_step=lambda step: made.append(step.request.cameras),
    )  # fmt: skip
    return scene, made[-1]


def path_frames(scene, cameras, size: tuple[int, int] | None, near: float):
    """[F, H, W, 3]: the path as a smooth video, there and back, four seconds each way."""
    import torch

    from ..rendering.constants import matching_low_pass
    from ..rendering.render import render
    from ..trajectories.keyframes import resample

    if size is None:
        factor = max(1, round(480 / cameras.width))
        size = (cameras.width * factor, cameras.height * factor)
    frames = resample(cameras, 96).resized(*size)
    with ProgressBar("video   ") as progress:
        low_pass = matching_low_pass(scene.metadata, frames)
        rgb = render(scene, frames, near=near, low_pass=low_pass, progress=progress).rgb
    return torch.cat([rgb, rgb.flip(0)[1:-1]])


def numpy_image(picture):
    """[H, W, 3] float tensor in [0, 1] of a Pillow image."""
    import numpy as np
    import torch

    return torch.from_numpy(np.asarray(picture.convert("RGB")).copy()).float() / 255
