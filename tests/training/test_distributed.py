"""Several processes train what one does; a killed run goes on as if nothing had been; checkpoints fit any number."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import run_micro
import torch

from flashworld_core.training.state import RunFolder, read_average

HERE = Path(__file__).parent


def _port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def _run(folder, stage, iterations, batch, world=1, kill_at=None, save_every=5):
    """Exit codes of the processes of a micro run."""
    if world == 1 and kill_at is None:
        run_micro.main(folder, stage, iterations, batch, save_every)
        return [0]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
    }
    arguments = [str(HERE / "run_micro.py"), str(folder), stage, str(iterations), str(batch), str(save_every)]
    if kill_at is not None:
        arguments.append(str(kill_at))
    if world > 1:
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_port()), "WORLD_SIZE": str(world)}
    started = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env=environment if world == 1 else environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    said = [process.communicate(timeout=300)[1] for process in started]
    codes = [process.returncode for process in started]
    if kill_at is None:
        assert codes == [0] * world, said[0][-2000:]
    return codes


def _lines(folder):
    return (folder / "metrics.jsonl").read_text().splitlines()


def _kill_and_resume(tmp_path, stage, iterations, kills, world=1):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    _run(whole, stage, iterations, 2, world)
    for kill_at in kills:
        assert -9 in _run(cut, stage, iterations, 2, world, kill_at)
    _run(cut, stage, iterations, 2, world)
    assert _lines(whole) == _lines(cut) and len(_lines(whole)) == iterations


def test_a_run_that_was_killed_writes_the_same_lines(tmp_path):
    _kill_and_resume(tmp_path, "distill", 12, [random.Random(os.getpid()).randrange(6, 12)])


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "distill"])
@pytest.mark.parametrize("world", [1, 2])
def test_runs_of_both_stages_that_were_killed_write_the_same_lines(tmp_path, stage, world):
    dice = random.Random(os.getpid())
    kills = sorted(dice.sample(range(1, 40), 2))
    _kill_and_resume(tmp_path, stage, 40, kills, world)


@pytest.mark.parametrize("stage", [pytest.param("pretrain", marks=pytest.mark.slow), "distill"])
def test_two_processes_train_what_one_does(tmp_path, stage):
    """First updates within rounding; and a checkpoint of two goes on in one as it does in two."""
    one, two, later = tmp_path / "one", tmp_path / "two", tmp_path / "later"
    _run(one, stage, 1, 4)
    _run(two, stage, 2, 4, world=2, save_every=1)
    _compare(_lines(one)[0], _lines(two)[0], rel=1e-5, abs=1e-6)
    shutil.copytree(two, later)
    shutil.rmtree(later / "checkpoints" / "00000002")
    (later / "checkpoints" / "latest").unlink()
    player = {"pretrain": "student", "distill": "critic"}[stage]  # who is updated in the second iteration
    first = read_average(RunFolder(later).latest(), player)
    _run(later, stage, 2, 4)
    assert len(_lines(later)) == 2 and _lines(later)[0] == _lines(two)[0]
    _compare(_lines(later)[1], _lines(two)[1], rel=1e-4, abs=1e-5)
    second = read_average(RunFolder(later).latest(), player)
    assert first.keys() == second.keys() and any(not torch.equal(first[name], second[name]) for name in first)


def _compare(line, other, **tolerance):
    one, two = json.loads(line), json.loads(other)
    assert one.keys() == two.keys() and len(one) > 4
    for key, value in one.items():
        assert two[key] == pytest.approx(value, **tolerance), key


@pytest.mark.slow
def test_a_checkpoint_of_two_processes_fits_one_and_three(tmp_path):
    _run(tmp_path / "run", "distill", 5, 6, world=2)
    for world in (1, 3):
        shutil.copytree(tmp_path / "run", tmp_path / str(world))
        _run(tmp_path / str(world), "distill", 6, 6, world)
    _compare(_lines(tmp_path / "1")[-1], _lines(tmp_path / "3")[-1], rel=1e-3, abs=1e-4)
