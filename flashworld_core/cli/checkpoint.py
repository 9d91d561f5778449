"""``checkpoint convert``: the official model.ckpt as safetensors."""

from __future__ import annotations

from pathlib import Path

from .progress import ProgressBar


def add_command(commands) -> None:
    parser = commands.add_parser("checkpoint", help="convert checkpoints", description="Work on checkpoint files.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    convert = actions.add_parser(
        "convert",
        help="write a FlashWorld checkpoint as safetensors",
        description="Write the transformer and 3DGS decoder of a FlashWorld checkpoint as one safetensors file: loads "
        "faster, half the size in bf16, and can run no code. Memory stays at a few tensors.",
    )
    convert.add_argument("source", type=Path, metavar="model.ckpt")
    convert.add_argument("target", type=Path, metavar="OUT.safetensors")
    convert.add_argument(
        "--dtype", choices=("bf16", "fp16", "fp32"), default=None, help="precision to store; default as it is"
    )
    convert.set_defaults(run=run)


def run(options) -> None:
    from ..generators.flashworld.export import convert

    with ProgressBar("convert") as progress:
        target = convert(options.source, options.target, options.dtype, progress=progress)
    print(f"{target.stat().st_size / 1e9:.2f} GB: {target.resolve()}")
