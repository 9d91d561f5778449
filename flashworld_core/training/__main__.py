"""Train and judge the embedded model: ``python -m flashworld_core.training COMMAND``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from pathlib import Path

import torch


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m flashworld_core.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    vae = commands.add_parser("vae", help="train the autoencoder; writes OUT/vae.pt")
    generator = commands.add_parser("generator", help="train the few-step generator on OUT/vae.pt")
    evaluate = commands.add_parser("evaluate", help="held-out figures of a model folder")
    export = commands.add_parser("export", help="write a model folder from OUT/generator.pt")
    for command in (vae, generator, evaluate, export):
        command.add_argument("--out", type=Path, default=Path("runs/tiny"), help="folder of the run")
    for command in (vae, generator):
        command.add_argument("--minutes", type=float, required=True, help="wall time to train for")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--device", default="cpu", help="cpu or cuda")
        command.add_argument("--threads", type=int, default=None, help="CPU threads of the training process")
        command.add_argument("--resume", action="store_true", help="go on from what OUT holds")
        command.add_argument("--workers", type=int, default=1, help="processes that make scenes")
    generator.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other fields of the Recipe")
    for command in (evaluate, export):
        command.add_argument("--model", type=Path, required=True, help="model folder to judge, or to write")
    evaluate.add_argument("--scenes", type=int, default=32)
    evaluate.add_argument("--text-only", action="store_true", help="give the prompts without pictures")
    card = commands.add_parser("card", help="held-out figures, curve, pictures and model card into a model folder")
    card.add_argument("--out", type=Path, default=Path("runs/tiny"), help="folder of the run")
    card.add_argument("--model", type=Path, required=True)
    card.add_argument("--made-by", nargs="+", required=True, metavar="COMMAND", help="the command lines that made it")
    example = commands.add_parser("example", help="write the picture, path and prompt of the demo")
    example.add_argument("--folder", type=Path, required=True)
    example.add_argument("--scene-seed", type=int, default=109)
    options = parser.parse_args(argv)

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if getattr(options, "threads", None):
        torch.set_num_threads(options.threads)
    from .recipes import tiny as runs

    if options.command == "vae":
        runs.vae(options.out, options.minutes, options.seed, options.device, options.workers, options.resume)
    elif options.command == "generator":
        recipe = recipe_from(options)
        runs.generator(options.out, recipe, options.resume)
    elif options.command == "evaluate":
        print(json.dumps(runs.evaluate(options.model, options.scenes, options.text_only), indent=1))
    elif options.command == "card":
        from .model_card import write_card

        write_card(options.out, options.model, options.made_by)
    elif options.command == "export":
        runs.export(options.out, options.model)
    else:
        runs.example(options.folder, options.scene_seed)


def recipe_from(options):
    """The `Recipe` of the command line; ``--set`` takes any of its fields."""
    from .objectives.few_step import Recipe

    recipe = Recipe(minutes=options.minutes, seed=options.seed, device=options.device, workers=options.workers)
    types = {field.name: type(getattr(recipe, field.name)) for field in dataclasses.fields(recipe)}
    for item in options.set:
        name, _, value = item.partition("=")
        if name not in types or not value:
            raise SystemExit(f"--set {item}: use NAME=VALUE with a name among {', '.join(types)}.")
        recipe = dataclasses.replace(recipe, **{name: types[name](value)})
    return recipe


if __name__ == "__main__":
    main()
