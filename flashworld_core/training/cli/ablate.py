"""Compare variants A to F of the method on ToyWorld; one table, two marks, pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...errors import FlashWorldError
from .arguments import add_recipe, recipe_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    add_recipe(parser)
    parser.add_argument("--start", type=Path, metavar="RUN", help="a run of stage 1; without it OUT/stage1 is trained")
    parser.add_argument("--out", type=Path, required=True, help="folder of the variants' runs; going on is automatic")
    parser.add_argument("--variants", default="A,B,B30,C,D,E,F", help="which, in order (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each variant (default: 1)")
    parser.add_argument("--minutes", type=float, help="stop and save each training after this long")
    parser.add_argument("--scenes", type=int, help="held-out scenes to judge on (default: 96)")
    parser.add_argument("--report", type=Path, metavar="FILE.md", help="write table and pictures there")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def run(options: argparse.Namespace) -> None:
    """Train what is not trained, judge what is not judged, print the table."""
    from ..ablation.ablate import ablate
    from ..ablation.report import combine, marks
    from ..ablation.variants import VARIANTS
    from ..loop import pick_device
    from ..runs import open_run
    from ..stages import pretrain, teacher_folder

    variants = tuple(options.variants.split(","))
    if unknown := [name for name in variants if name not in VARIANTS]:
        raise FlashWorldError(f"There is no variant {unknown[0]!r}; known are {', '.join(VARIANTS)}.")
    device, recipe = pick_device(options.device), recipe_of(options)
    if any(source.name != "toyworld" for source in recipe.data):
        raise FlashWorldError("The ablation judges on ToyWorld; use a recipe whose data is toyworld alone.")
    start = options.start
    if start is None:
        start = options.out / "stage1"
        first, _ = open_run(start, "pretrain", recipe, resume=True, given=True)
        if not pretrain(start, first, device, options.minutes):
            return
    judging = {} if options.scenes is None else {
        "scenes": options.scenes, "ood_scenes": options.scenes, "prompts": min(8, options.scenes),
        "fits": min(8, options.scenes),
    }  # fmt: skip
    rows = ablate(
        options.out, teacher_folder(start), recipe, variants=variants, seeds=tuple(range(options.seeds)), device=device,
        minutes=options.minutes, report=options.report, judging=judging,
    )  # fmt: skip
    for letter, of in rows.items():
        names = [name for name in of[0] if name != "iterations"]
        print(letter, "  ".join(f"{name} {combine(of, name)}" for name in names))
    for text, mark in marks(rows):
        print(f"{text}: {mark}")
