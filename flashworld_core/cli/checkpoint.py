"""``checkpoint convert``: the official model.ckpt as safetensors."""

from __future__ import annotations

from pathlib import Path

from ..checkpoints import DTYPES, QUANTIZED
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
        "--dtype",
        choices=(*sorted(DTYPES), *QUANTIZED),
        default=None,
        help="precision to store; default as it is. fp8 and int8 halve bf16's size: the transformer's layers in 8 bits",
    )
    convert.set_defaults(run=run)


def run(options) -> None:
    from ..errors import FlashWorldError
    from ..generators import open_model
    from ..progress import Progress

    opened = open_model(options.source)
    if opened.convert is None:
        raise FlashWorldError(f"Models of {opened.info.name} have no single-file form to convert to.")
    with ProgressBar("convert") as progress:
        target = opened.convert(options.target, options.dtype, progress=Progress(progress))
    print(f"{target.stat().st_size / 1e9:.2f} GB: {target.resolve()}")
