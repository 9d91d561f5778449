"""``plan``: the memory a generation will need, stage by stage, before anything is loaded."""

from __future__ import annotations

from ..checkpoints import DTYPES, QUANTIZED
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
    parser.add_argument(
        "--dtype",
        default="bf16",
        choices=(*sorted(DTYPES), *QUANTIZED),
        help="of the networks; fp8 and int8: of the transformer's layers, the rest in bf16 (%(default)s)",
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="(%(default)s)")
    renderers = ("auto", "gsplat", "triton", "cpu", "torch")
    parser.add_argument("--backend", choices=renderers, default="auto", help="renderer to plan for (%(default)s)")
    parser.add_argument("--views-per-chunk", type=positive, default=None, metavar="N")
    parser.set_defaults(run=run)


def run(options) -> None:
    import torch

    from ..generators import open_model

    opened = open_model(options.model)
    width, height = options.size or (None, None)
    own = {}  # what not every generator plans for
    if options.dtype in QUANTIZED:
        own["stored"] = getattr(torch, QUANTIZED[options.dtype])
    if options.backend != "auto":
        own["renderer"] = options.backend
    plan = opened.memory_plan(
        views=options.views,
        height=height,
        width=width,
        dtype=getattr(torch, DTYPES.get(options.dtype, DTYPES["bf16"])),
        device_type=options.device,
        views_per_chunk=options.views_per_chunk,
        **own,
    )
    print(plan.table())
