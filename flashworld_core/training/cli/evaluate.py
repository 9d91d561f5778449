"""Judge one model, or two side by side: on held-out ToyWorld scenes, on prompts, or for WorldScore's evaluator."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("models", nargs="*", metavar="MODEL", help="tiny, or paths of models; two are compared")
    parser.add_argument("--toyworld", type=int, metavar="N", help="judge on N held-out ToyWorld scenes")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="judge on prompts, one a line")
    parser.add_argument("--worldscore", type=Path, metavar="FILE", help="its list of scenes; writes its folders")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the figures; gone on with if there")
    parser.add_argument(
        "--given", choices=("image", "text", "both"), default="both", help="to ToyWorld scenes (%(default)s)"
    )
    parser.add_argument(
        "--diversity", type=int, default=8, metavar="N", help="prompts tried with more seeds (%(default)s)"
    )
    parser.add_argument("--samples", type=int, default=4, metavar="K", help="seeds of each of them (%(default)s)")
    parser.add_argument("--path", default="orbit:30", metavar="MOVES", help="camera path of prompts (%(default)s)")
    parser.add_argument("--frames", type=int, default=50, help="WorldScore's frames a move (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clip", type=Path, metavar="FOLDER", help="a CLIP model; scores prompts with it")
    parser.add_argument("--text-encoder", type=Path, metavar="PATH", help="for models that bring none")
    parser.add_argument("--vae", type=Path, metavar="PATH", help="for models that bring none")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    older = parser.add_argument_group(
        "the older form", "prints PSNR of held-out ToyWorld scenes as JSON and writes nothing"
    )
    older.add_argument("--model", type=Path, metavar="FOLDER")
    older.add_argument("--scenes", type=int, default=32)
    older.add_argument("--text-only", action="store_true", help="give the prompts without pictures")


def run(options: argparse.Namespace) -> None:
    """Judge, write ``report.html`` and ``figures.json``, print one line a model."""
    from ...errors import FlashWorldError
    from ...evaluation.prompts import judge_prompts
    from ...evaluation.report import write_report
    from ...evaluation.toyworld import MODES, judge
    from ...evaluation.worldscore import read_entries, write_worldscore
    from ...formats.files import check_folder
    from ...generators import load_model
    from ...media.export import save_json

    if options.model is not None:
        from ..recipes import tiny

        print(json.dumps(tiny.evaluate(options.model, options.scenes, options.text_only), indent=1))
        return
    if not options.models or options.out is None:
        raise FlashWorldError("Give the model to judge and --out with a folder for its figures.")
    if len(options.models) > 2:
        raise FlashWorldError("At most two models are compared at once.")
    if options.toyworld is None and options.prompts is None and options.worldscore is None:
        raise FlashWorldError("Say what to judge on: --toyworld N, --prompts FILE or --worldscore FILE.")
    check_folder(options.out)
    from .embed import read_prompts

    prompts = read_prompts(options.prompts) if options.prompts else []
    entries = read_entries(options.worldscore) if options.worldscore else []
    score = _clip(options)
    tables: dict[str, dict] = {}
    folders = {}
    for name, folder in zip(_labels(options.models), _folders(options.models), strict=True):
        model = load_model(
            options.models[len(folders)], device=options.device, text_encoder=options.text_encoder, vae=options.vae
        )
        folders[name] = folder
        if options.toyworld is not None:
            modes = MODES if options.given == "both" else (options.given,)
            found = judge(
                model, options.out / folder / "toyworld", scenes=options.toyworld, modes=modes, first_seed=options.seed,
                prompts=options.diversity, samples=options.samples, progress=_progress(name),
            )  # fmt: skip
            for mode in modes:
                given = "image and prompt" if mode == "image" else "the prompt alone"
                section = f"{options.toyworld} held-out ToyWorld scenes from {given}"
                tables.setdefault(section, {})[name] = found["figures"][mode]
        if prompts:
            found = judge_prompts(
                model, prompts, options.out / folder / "prompts", moves=options.path, seed=options.seed, score=score,
                progress=_progress(name),
            )  # fmt: skip
            tables.setdefault(f"{len(prompts)} prompts", {})[name] = found["figures"]
        if entries:
            write_worldscore(
                model, entries, options.out / folder, frames=options.frames, seed=options.seed, progress=_progress(name)
            )
            print(f"{options.out / folder / 'worldscore_output'}: {len(entries)} scenes for WorldScore's evaluator")
    save_json(
        options.out / "figures.json",
        {s: {m: {n: dataclasses.asdict(f) for n, f in fs.items()} for m, fs in ms.items()} for s, ms in tables.items()},
    )
    write_report(options.out / "report.html", " and ".join(folders), tables, _pictures(options, folders, prompts))
    for line in summary_lines(tables):
        print(line)
    print(f"Report: {options.out / 'report.html'}")


def summary_lines(tables: dict) -> list[str]:
    """One line a model and section: the figures a reader looks for first."""
    first = ("input_psnr_db", "novel_psnr_db", "sharpness", "accuracy", "accuracy_of_truth", "accuracy_by_chance")
    first += ("diversity", "floaters", "depth_disagreement", "clip_score")
    return [
        f"{model}, {section}: " + ", ".join(f"{n.replace('_', ' ')} {figures[n]}" for n in first if n in figures)
        for section, models in tables.items()
        for model, figures in models.items()
    ]


def _clip(options: argparse.Namespace):
    if options.clip is None:
        return None
    from ...evaluation.clip import ClipScore

    return ClipScore(options.clip, options.device)


def _labels(models: list[str]) -> list[str]:
    """What models are called: their last names, or as they were given where these are one."""
    names = [Path(model).name or model for model in models]
    return names if len(set(names)) == len(names) else [f"{i + 1}: {model}" for i, model in enumerate(models)]


def _folders(models: list[str]) -> list[str]:
    """A folder for each model that no name can lead out of."""
    return [f"{i + 1}_{re.sub(r'[^A-Za-z0-9_-]+', '_', Path(model).name)[:60]}" for i, model in enumerate(models)]


def _pictures(options: argparse.Namespace, folders: dict[str, str], prompts: list[str]) -> list:
    """Rows of renders, with the truth above where there is one."""
    import torch

    from ...datasets.toyworld.world import ToyWorld
    from ...evaluation.toyworld import NOVEL_VIEWS, SPLIT
    from ...generators import open_model
    from ...media.export import save_png

    found = []
    if options.toyworld is not None:
        info = open_model(options.models[0]).info
        world = ToyWorld(info.views, info.width, info.height)
        for seed in range(options.seed, options.seed + min(options.toyworld, 24)):
            sample = world.sample(seed, SPLIT, novel_views=NOVEL_VIEWS)
            truth = torch.cat([sample.images, sample.novel_images]).permute(0, 2, 3, 1)
            save_png(options.out / "truth" / f"{seed}.png", torch.cat(list(truth), 1))
            rows = [("truth", f"truth/{seed}.png")]
            for name, folder in folders.items():
                for mode in ("image", "text"):
                    file = f"{folder}/toyworld/{mode}_{seed}.png"
                    if (options.out / file).is_file():
                        rows.append((f"{name}, {mode}", file))
            found.append((f"{seed}: {sample.prompt} (last {NOVEL_VIEWS} views: off the path)", rows))
    for i, prompt in enumerate(prompts):
        rows = [(name, f"{folder}/prompts/prompt_{i:04d}.png") for name, folder in folders.items()]
        found.append((prompt, rows))
    return found


def _progress(name: str):
    from ...progress import Progress

    def report(done: int, total: int, preview=None) -> None:
        print(f"{name}: {done} of {total}", file=sys.stderr, flush=True)

    return Progress(report)
