"""A process of a micro run, for tests: run_micro.py FOLDER STAGE ITERATIONS BATCH [SAVE_EVERY [KILL_AT]]."""

import dataclasses
import os
import signal
import sys
from pathlib import Path

import torch
from small_recipe import RUN, micro_networks, micro_recipe

from flashworld_core.training.build import distillation_stage, pretraining_stage
from flashworld_core.training.distributed import ShardedStorage, Sharding, processes
from flashworld_core.training.loop import train


def main(folder, stage_name, iterations, batch, save_every=5, kill_at=None):
    torch.set_num_threads(1)
    folder = Path(folder)
    run = dataclasses.replace(
        RUN, iterations=int(iterations), batch=int(batch), together=2, save_every=int(save_every), checkpoint_blocks=2
    )
    recipe = micro_recipe(rollout_every=2, student_adversarial_weight=0.1, critic_adversarial_weight=0.1)
    recipe = dataclasses.replace(
        recipe,
        pretrain=dataclasses.replace(recipe.pretrain, run=run, rendering_share=0.7),
        distill=dataclasses.replace(recipe.distill, run=run),
    )
    with processes(torch.device("cpu")) as world:
        if world.rank == 0:
            folder.mkdir(exist_ok=True)
        world.any_true(False)
        networks, data = micro_networks()
        build = {"pretrain": pretraining_stage, "distill": distillation_stage}[stage_name]
        stage = build(networks, data, recipe, shard=Sharding(run, world, torch.device("cpu")))
        if kill_at is not None:
            real = stage.losses

            def losses(player, draws):
                if draws[0].update == int(kill_at):
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(player, draws)

            stage.losses = losses
        train(stage, run, folder, about={}, world=world, storage=None if world.size == 1 else ShardedStorage())


if __name__ == "__main__":
    main(*sys.argv[1:])
