"""Write a run's averaged weights as a model folder, which the nodes and commands open."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("--out", type=Path, default=Path("runs/tiny"), help="folder of the run")
    parser.add_argument("--model", type=Path, required=True, help="model folder to write")
    parser.add_argument(
        "--dtype", choices=("fp32", "bf16", "fp16"), default="fp16", help="what is stored (default: fp16)"
    )


def run(options: argparse.Namespace) -> None:
    """Export a run of `pretrain` or `distill`; a folder of the first flashworld-tiny's stages too."""
    import torch

    from ...checkpoints import DTYPES
    from ..export import export_run
    from ..recipes import tiny

    if (options.out / "generator.pt").is_file():
        tiny.export(options.out, options.model)
    else:
        export_run(options.out, options.model, getattr(torch, DTYPES[options.dtype]))
