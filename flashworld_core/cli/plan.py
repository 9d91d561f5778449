"""``plan``: the memory and time a generation will need, before anything is loaded."""

from __future__ import annotations

from ..checkpoints import DTYPES, QUANTIZED
from ..progress import duration
from .arguments import positive, size
from .progress import announced


def add_command(commands) -> None:
    parser = commands.add_parser(
        "plan",
        help="say how much memory and time a generation will need",
        description="Say how much memory each stage of a generation will need, and how long all of it takes here. "
        "Nothing is loaded: the networks are traced without their numbers, and the machine is tried for 0.1 s.",
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
    with announced("Loading..."):
        import torch

        from ..generators import open_model

        opened = open_model(options.model)
    width, height = options.size or (None, None)
    plan = opened.memory_plan(
        views=options.views,
        height=height,
        width=width,
        dtype=getattr(torch, DTYPES.get(options.dtype, DTYPES["bf16"])),
        device_type=options.device,
        views_per_chunk=options.views_per_chunk,
        **({"renderer": options.backend} if options.backend != "auto" else {}),
        **({"stored": getattr(torch, QUANTIZED[options.dtype])} if options.dtype in QUANTIZED else {}),
    )
    print(plan.table())
    print(how_long(opened, plan, options))


def how_long(opened, plan, options) -> str:
    """How long the generation takes, where the device is in this machine; else how much work it is."""
    import torch

    from ..runtime.speed import advice, operations_per_second

    if opened.operations is None:
        return "time: not known for this model"
    device, dtype = torch.device(options.device), getattr(torch, DTYPES.get(options.dtype, DTYPES["bf16"]))
    if device.type == "cuda" and not torch.cuda.is_available():
        work = opened.operations(views=plan.views, height=plan.height, width=plan.width)
        return f"time: {work / 1e12:,.1f} million million operations; no CUDA device here to say how long that takes"
    seconds, quicker = advice(
        lambda views, height, width: opened.operations(views=views, height=height, width=width),
        views=plan.views,
        width=plan.width,
        height=plan.height,
        size_multiple=opened.info.size_multiple,
        rate=operations_per_second(device, dtype),
    )
    return f"time: about {duration(seconds)} on this machine, loading left out{'. ' + quicker if quicker else ''}"
