"""``plan``: the memory a generation will need, stage by stage, before anything is loaded."""

from __future__ import annotations

from ..checkpoints import DTYPES
from ..errors import FlashWorldError
from .arguments import positive, size


def add_command(commands) -> None:
    parser = commands.add_parser(
        "plan",
        help="say how much memory a generation will need",
        description="Say how much memory each stage of a generation will need. Nothing is loaded: the networks are "
        "traced without their numbers.",
    )
    parser.add_argument(
        "--model", default="official", metavar="official|tiny|PATH", help="whose sizes to plan for (%(default)s)"
    )
    parser.add_argument("--views", type=positive, default=None, metavar="T", help="default the model's own")
    parser.add_argument("--size", type=size, default=None, metavar="WxH", help="default the model's own")
    parser.add_argument("--dtype", default="bf16", choices=sorted(DTYPES), help="of the networks (%(default)s)")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="(%(default)s)")
    parser.add_argument("--views-per-chunk", type=positive, default=None, metavar="N")
    parser.add_argument("--training", action="store_true", help="plan the training's second stage instead")
    parser.add_argument("--gpus", type=positive, default=8, metavar="N", help="with --training (%(default)s)")
    parser.add_argument(
        "--gpu", default="h20", metavar="NAME|GB", help="with --training: a card's name or its memory (%(default)s)"
    )
    parser.set_defaults(run=run)


def run(options) -> None:
    if options.training:
        return plan_training(options)
    import torch

    from ..generators import open_model

    opened = open_model(options.model)
    width, height = options.size or (None, None)
    plan = opened.memory_plan(
        views=options.views,
        height=height,
        width=width,
        dtype=getattr(torch, DTYPES[options.dtype]),
        device_type=options.device,
        views_per_chunk=options.views_per_chunk,
    )
    print(plan.table())


def plan_training(options) -> None:
    """Print the memory of one process of stage 2 when ``--gpus`` of them share the networks."""
    from ..training.costs import GPUS, training_memory
    from ..training.flashworld.start import PRESETS

    name = {"official": "full"}.get(options.model, options.model)
    if name not in PRESETS:
        raise FlashWorldError(f"plan --training knows the sizes {', '.join(PRESETS)} (and official); got {name}.")
    try:
        limit = float(GPUS.get(options.gpu.lower(), options.gpu))
    except ValueError:
        raise FlashWorldError(f"--gpu takes gigabytes or one of {', '.join(GPUS)}, got {options.gpu!r}.") from None
    config = PRESETS[name]()
    print(f"Stage 2 of {config.model_id}, {options.gpus} GPUs, one sample each, networks shared by all of them.")
    print(training_memory(config, options.gpus).table(options.gpus, limit))
