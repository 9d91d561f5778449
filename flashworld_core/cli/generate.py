"""``generate``: a scene from a picture and/or a sentence along a camera path."""

from __future__ import annotations

from pathlib import Path

from ..checkpoints import DTYPES
from ..progress import duration
from .arguments import add_trajectory_arguments, device_name, device_of, positive, say, size, size_or_picture
from .jobs import LIST_KEYS, jobs_of, seeds
from .objects import add_object_arguments, generate_objects
from .progress import announced


def add_command(commands) -> None:
    parser = commands.add_parser(
        "generate",
        help="make a scene from a picture and/or a sentence",
        description="Make a 3D Gaussian scene from a picture, a sentence, or both, along a camera path. Writes "
        "OUT/scene.ply, OUT/cameras.json (the path, as a request), OUT/path.mp4, OUT/contact_sheet.png and "
        "OUT/report.json. Several pictures, prompts or seeds make a scene each, in a folder of its own, and one "
        "contact sheet of all; the model is loaded once. Models of objects (TRELLIS, VFusion3D) take a picture of one and no "
        "path, and write OUT/mesh.glb and OUT/orbit.mp4 too.",
    )
    parser.add_argument(
        "--image",
        nargs="+",
        action="extend",
        metavar="FILE",
        help="the picture, cropped about its center to the views' shape; several, or a folder, make several scenes",
    )
    parser.add_argument(
        "--prompt",
        nargs="+",
        action="extend",
        default=[],
        metavar="TEXT",
        help="the sentence; several make several scenes, one for each picture where there are several of these too",
    )
    parser.add_argument(
        "--request",
        type=Path,
        metavar="FILE",
        help="an official FlashWorld request JSON: picture, prompt, cameras and size from one file; or .jsonl: one "
        f"scene a line, objects with the keys {', '.join(LIST_KEYS)}",
    )
    parser.add_argument(
        "--image-index", type=int, default=None, metavar="N", help="which view shows the picture, from 0 (default 0)"
    )
    parser.add_argument(
        "--seed",
        "--seeds",
        type=seeds,
        default=[0],
        metavar="N|0-4,7",
        help="same seed, same scene; several make a scene each (0)",
    )
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
    add_object_arguments(parser.add_argument_group("objects", "For models that make objects."))
    views = parser.add_argument_group("views")
    views.add_argument(
        "--views", type=positive, default=None, metavar="T", help="number of generation views; default the model's own"
    )
    views.add_argument(
        "--size",
        type=size_or_picture,
        default=None,
        metavar="WxH|picture",
        help="size of the generation views; picture: its shape, with as many pixels as the model's own (the default)",
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
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the transformer's blocks: a longer first step, faster ones after it; needs a C++ compiler, on a "
        "graphics card Triton",
    )


def load(options, opened):
    """The model an options namespace asks for, from its `ModelFile`."""
    import torch

    from ..errors import FlashWorldError

    model = opened.load(
        dtype=getattr(torch, DTYPES[options.dtype]) if options.dtype else None,
        device=device_of(options.device),
        parts={name: value for name in ("vae", "text_encoder") if (value := getattr(options, name)) is not None},
    )
    if options.compile:
        if not hasattr(model, "compile"):
            raise FlashWorldError(f"Models of {model.info.name} cannot be compiled; leave --compile out.")
        model.compile()
    return model


def run(options) -> None:
    from ..errors import FlashWorldError
    from ..formats.files import check_folder

    if options.request is None and not options.image and not any(prompt.strip() for prompt in options.prompt):
        raise FlashWorldError("Give --image, --prompt or both (or a --request file).")
    steps = parse_steps(options.steps)
    check_folder(options.out)
    with announced(f"Loading {options.model}..."):
        from ..generators import open_model

        device_of(options.device)
        opened = open_model(options.model)
        if opened.info.kind == "object":
            return generate_objects(options, opened.info, lambda: load(options, opened), steps)
        for name in ("mask", "guidance", "mesh"):
            if getattr(options, name) is not None:
                raise FlashWorldError(f"--{name} is for models of objects; {opened.info.model_id} makes scenes.")
        jobs = jobs_of(options, opened.info, steps)
        remarks = check(opened, jobs)
        model = load(options, opened)
        if opened.check is None:
            remarks = list(dict.fromkeys(remark for job in jobs for remark in model.check(job.request)))
    for remark in remarks:
        say(remark)
    say_how_long(opened, jobs, device_of(options.device), model.dtype)

    from .results import make_all

    make_all(options, model, jobs)


def check(opened, jobs) -> list[str]:
    """Refuse what cannot be made before anything is loaded; remarks, each once.

    Raises:
        FlashWorldError: as `Generator.check`; of several jobs the message says which.
    """
    from ..errors import FlashWorldError

    said = {}
    for job in jobs if opened.check is not None else ():
        try:
            said |= dict.fromkeys(opened.check(job.request))
        except FlashWorldError as error:
            raise FlashWorldError(f"{job.name}: {error}" if job.name else str(error)) from error
    return list(said)


def say_how_long(opened, jobs, device, dtype) -> None:
    """Say how long it will take, where that is longer than one waits without asking."""
    from ..runtime.speed import advice, operations_per_second

    if opened.operations is None:
        return
    rate, total, warned = operations_per_second(device, dtype), 0.0, None
    for job in jobs:
        request = job.request
        width, height = request.size or (request.cameras.width, request.cameras.height)
        steps = request.steps if isinstance(request.steps, int) else len(request.steps) if request.steps else None
        seconds, why = advice(
            lambda views, height, width, steps=steps: opened.operations(
                views=views, height=height, width=width, steps=steps
            ),
            views=request.views or len(request.cameras),
            width=width,
            height=height,
            size_multiple=opened.info.size_multiple,
            rate=rate,
        )
        total, warned = total + seconds, warned or why
    if total > 20:
        each = f" for {len(jobs)} scenes" if len(jobs) > 1 else ""
        say(f"This will take about {duration(total)}{each} on this machine.{' ' + warned if warned else ''}")


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
