"""Iterations per second of the recipes `nano` and `tiny`, stage by stage, and the renderer's share of them.

    python benchmarks/training.py [--seconds 20]

One thread. Each stage is measured for a while after one warm-up iteration; the renderer's share is the CPU time
inside the rasterizer and its backward.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import tempfile
import time
from pathlib import Path

import torch

from flashworld_core.generators.flashworld.presets import official_config
from flashworld_core.rendering.backends.cpu import rasterize
from flashworld_core.training.build import distillation_stage, pretraining_stage
from flashworld_core.training.costs import forward_flops, update_flops
from flashworld_core.training.flashworld import start
from flashworld_core.training.recipes import recipe
from flashworld_core.training.sources import open_data
from flashworld_core.training.trainer import Trainer

PLANNED = {"pre-training": 704, "student": 1480, "critic": 1600, "critic without R1": 1220}


def stages(name: str, folder: Path):
    """(stage name, stage, run) of a recipe from random weights; tiny with batches of 4."""
    chosen = recipe(name)
    if name == "tiny":
        chosen = dataclasses.replace(
            chosen,
            pretrain=dataclasses.replace(chosen.pretrain, run=dataclasses.replace(chosen.pretrain.run, batch=4)),
            distill=dataclasses.replace(chosen.distill, run=dataclasses.replace(chosen.distill.run, batch=4)),
        )
    preset = start.PRESETS[name]()
    start.write_new_start(folder, chosen, open_data(chosen, preset, seed=0))
    model = start.read_model(folder)
    data = open_data(chosen, model.config, seed=0)
    own = start.read_own_text(folder, model.config)
    networks = start.networks_from(model, chosen.pretrain.run, torch.device("cpu"), own)
    yield "pretrain", pretraining_stage(networks, data, chosen), chosen.pretrain.run
    networks = start.networks_from(model, chosen.distill.run, torch.device("cpu"))
    yield "distill", distillation_stage(networks, data, chosen), chosen.distill.run


def measure(stage, run, seconds: float) -> tuple[float, float, float]:
    """(iterations per second, samples per second, the renderer's share of the CPU time)."""
    trainer = Trainer(stage, dataclasses.replace(run, iterations=10**9))

    def iterate():
        for player in stage.turns(trainer.iteration):
            trainer.update(player)
        trainer.iteration += 1

    iterate()
    trainer.iteration = getattr(stage.config, "warm_critic", 0)
    cycle = getattr(stage.config, "critic_updates", 1)
    begun, cpu, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begun < seconds or done % cycle:
        iterate()
        done += 1
    rate = done / (time.process_time() - cpu)
    with drawing() as spent:
        cpu = time.process_time()
        for _ in range(max(5, cycle)):
            iterate()
        return rate, rate * run.batch, sum(spent) / (time.process_time() - cpu)


@contextlib.contextmanager
def drawing():
    """A list of the CPU seconds of every pass of the rasterizer and of its backward."""
    spent, kept = [], {}

    def timed(function):
        def call(*arguments, **keywords):
            begun = time.process_time()
            try:
                return function(*arguments, **keywords)
            finally:
                spent.append(time.process_time() - begun)

        return call

    for name in ("_forward", "_backward"):
        kept[name] = getattr(rasterize, name)
        setattr(rasterize, name, timed(kept[name]))
    try:
        yield spent
    finally:
        for name, function in kept.items():
            setattr(rasterize, name, function)


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| recipe | stage | batch | iterations per CPU second | samples per CPU second | renderer |")
    print("|---|---|---|---|---|---|")
    for name in ("nano", "tiny"):
        with tempfile.TemporaryDirectory() as folder:
            for stage_name, stage, run in stages(name, Path(folder)):
                rate, samples, share = measure(stage, run, options.seconds)
                print(f"| {name} | {stage_name} | {run.batch} | {rate:.2f} | {samples:.1f} | {share:.0%} |", flush=True)
    print("\n| full size, TFLOP a sample | counted | planned |\n|---|---|---|")
    config = official_config()
    for name, flops in forward_flops(config).items():
        print(f"| {name}, forward | {flops / 1e12:.0f} | |")
    for name, flops in update_flops(config).items():
        print(f"| {name} update | {flops / 1e12:.0f} | {PLANNED[name]} |")


if __name__ == "__main__":
    main()
