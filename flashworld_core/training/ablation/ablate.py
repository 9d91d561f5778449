"""Train, sample and judge the variants; each is a run of its own that can be stopped and gone on with."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

from ...media.export import contact_sheet, save_json, save_png
from ...text import get_logger
from ..config import Recipe, override
from ..flashworld.start import networks_from, read_model
from ..flashworld.toyworld import ToyWorldData
from ..runs import open_run
from ..stages import distill
from .judge import Judge
from .probe import train_probe
from .report import Rows, write_report
from .variants import VARIANTS

log = get_logger(__name__)
FIGURES = "figures"


def ablate(
    out: Path, teacher: Path, recipe: Recipe, *, variants: tuple[str, ...], seeds: tuple[int, ...],
    device: torch.device, minutes: float | None = None, report: Path | None = None, judging: dict | None = None,
) -> Rows:  # fmt: skip
    """Bring every variant to its end, and judge those that are not judged yet.

    Args:
        out: a folder of its own for each variant and seed, and the figures.
        teacher: model folder of stage 1.
        recipe: of stage 2; variants change it.
        minutes: per variant.
        report: Markdown file for the table, its pictures beside it; None writes none.
        judging: fields of `judge.Judge`, such as fewer scenes.

    Returns:
        Figures by variant and seed.
    """
    judge, rows = None, {}
    recipe = dataclasses.replace(recipe, start=str(teacher))
    for letter in variants:
        for seed in seeds if VARIANTS[letter].settings else seeds[:1]:
            name = f"{letter}-{seed}"
            path = out / FIGURES / f"{name}.json"
            if not path.is_file():
                model, iterations = teacher, 0
                if VARIANTS[letter].settings:
                    finished, model, iterations = _trained(out / name, recipe, letter, seed, device, minutes)
                    if not finished:
                        log.info("%s is not finished; run the command again to go on.", name)
                        return rows
                judge = judge or _judge(out, recipe, teacher, device, judging or {})
                _judge_one(judge, path, letter, model, recipe, device, iterations)
            rows.setdefault(letter, []).append(json.loads(path.read_text(encoding="utf-8")))
    path = out / FIGURES / "truth.json"
    if not path.is_file():
        judge = judge or _judge(out, recipe, teacher, device, judging or {})
        save_json(path, {name: [f.value, f.error] for name, f in judge.truth_figures().items()})
        save_png(out / FIGURES / "truth.png", _strip("truth", judge.held.images[:8]))
    rows["truth"] = [json.loads(path.read_text(encoding="utf-8"))]
    if report is not None:
        write_report(report, rows, out / FIGURES, recipe)
    return rows


def _trained(folder: Path, recipe: Recipe, letter: str, seed: int, device, minutes) -> tuple[bool, Path, int]:
    changed = override(recipe, [*VARIANTS[letter].settings, f"distill.run.seed={seed}"])
    changed, _ = open_run(folder, "distill", changed, resume=True, given=True)
    return distill(folder, changed, device, minutes), folder / "model", changed.distill.run.iterations


def _judge(out: Path, recipe: Recipe, teacher: Path, device, judging: dict) -> Judge:
    config = read_model(teacher).config
    source = recipe.data[0]
    probe = train_probe(out / "probe.safetensors", ToyWorldData(config, simple=source.simple))
    return Judge(probe, ToyWorldData(config, split="test", simple=source.simple, hold_out=source.hold_out), **judging)


def _judge_one(judge: Judge, path: Path, letter: str, model: Path, recipe: Recipe, device, iterations: int) -> None:
    variant = VARIANTS[letter]
    log.info("Judging %s, %s.", letter, variant.name)
    networks = networks_from(read_model(model), recipe.distill.run, device)
    found, shown = judge.figures(networks, variant.mode, variant.steps)
    save_png(path.with_suffix(".png"), _strip(f"{letter}, {variant.name}", shown))
    save_json(path, {name: [f.value, f.error] for name, f in found.items()} | {"iterations": iterations})
    log.info("%s: %s", letter, "  ".join(f"{name} {figure}" for name, figure in found.items()))


def _strip(caption: str, images: torch.Tensor):
    """One row: each scene's first and last view shown."""
    return contact_sheet([(caption, [views[k] for views in images for k in (0, 3)])], cell_width=96)
