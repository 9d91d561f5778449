"""The loop: schedules, resume after a kill, Ctrl-C, gradients that are not finite, recipes."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from flashworld_core.errors import FlashWorldError
from flashworld_core.training.config import Optimizer, Recipe, Run, from_mapping, override, read_recipe, to_json
from flashworld_core.training.metrics_log import MetricsLog
from flashworld_core.training.optim import build_adamw, learning_rate, update_average
from flashworld_core.training.state import RunFolder
from flashworld_core.training.trainer import Player, Trainer

RUN = Run(iterations=30, batch=2, report_every=4, save_every=7, sheet_every=0)
ADAM = Optimizer(lr=0.05, warmup=3, decay_from=20)


class Toy:
    """Two players on one number each: the critic follows the student, who follows a noisy target."""

    name = "toy"

    def __init__(self, fail_at=None):
        torch.manual_seed(0)
        self.players = {}
        for name in ("student", "critic"):
            module = nn.Linear(3, 2)
            average = nn.Linear(3, 2).requires_grad_(False)
            average.load_state_dict(module.state_dict())
            self.players[name] = Player(module, [(build_adamw(ADAM, [module]), ADAM)], average=average)
        self.fail_at, self.seen = fail_at, []

    def turns(self, iteration):
        return ("student", "critic") if iteration % 4 == 0 else ("critic",)

    def losses(self, player, draws):
        losses, reports = zip(*(self.loss(player, own) for own in draws), strict=True)
        return torch.stack(losses), list(reports)

    def loss(self, player, draws):
        self.seen.append((player, draws.update, draws.sample))
        x = draws.normal("x", (5, 3))
        y = self.players[player].module(x)
        target = x[:, :2] if player == "student" else self.players["student"].module(x).detach()
        loss = (y - target).square().mean()
        if self.fail_at is not None and draws.update == self.fail_at:
            loss = loss * math.nan
        return loss, {"error": loss.item()}

    def state(self):
        return {}

    def restore(self, state):
        pass


def _train(folder, stage=None, run=RUN, stop_after=None):
    folder.mkdir(exist_ok=True)
    trainer = Trainer(stage or Toy(), run, checkpoints=RunFolder(folder), metrics=MetricsLog(folder, tensorboard=False))
    trainer.checkpoints.restore(trainer)
    if stop_after is not None:
        real = trainer.update

        def update(name):
            if trainer.iteration == stop_after:
                raise RuntimeError("killed")
            real(name)

        trainer.update = update
    finished = trainer.train()
    return trainer, finished


def test_a_killed_run_that_is_resumed_writes_what_an_uninterrupted_one_writes(tmp_path):
    whole, _ = _train(tmp_path / "whole")
    for stop in (5, 9, 26):
        with pytest.raises(RuntimeError):
            _train(tmp_path / "cut", stop_after=stop)
    cut, finished = _train(tmp_path / "cut")
    assert finished
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "cut")]
    assert lines[0] == lines[1] and len(lines[0].splitlines()) == 7
    for name, player in whole.stage.players.items():
        for part in ("module", "average"):
            states = [getattr(p, part).state_dict() for p in (player, cut.stage.players[name])]
            assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_samples_are_numbered_through_the_run_and_updates_by_player():
    stage = Toy()
    trainer = Trainer(stage, RUN)
    trainer.train()
    critic = [sample for player, _, sample in stage.seen if player == "critic"]
    assert critic == list(range(60))
    assert [update for player, update, _ in stage.seen if player == "student"][::2] == list(range(8))


def test_checkpoints_are_whole_or_absent_and_old_ones_go(tmp_path):
    _train(tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == ["00000028", "00000030", "latest"]
    # A kill while writing leaves a folder with another name; a lost "latest" is no loss.
    (folder / ".00000035.writing").mkdir()
    (folder / "latest").unlink()
    assert RunFolder(tmp_path / "run").latest().name == "00000030"
    (folder / "00000030" / "facts.json").unlink()
    assert RunFolder(tmp_path / "run").latest().name == "00000028"


def test_a_checkpoint_of_another_stage_or_size_is_refused(tmp_path):
    _train(tmp_path / "run")
    other = Toy()
    other.name = "another"
    with pytest.raises(FlashWorldError, match="checkpoint of toy, not of another"):
        _train(tmp_path / "run", other)
    wide = Toy()
    wide.players["critic"].module = nn.Linear(4, 2)
    with pytest.raises(FlashWorldError, match="does not fit"):
        _train(tmp_path / "run", wide)


def test_a_gradient_that_is_not_finite_is_skipped_by_all_optimizers():
    stage = Toy(fail_at=2)
    trainer = Trainer(stage, RUN)
    for _ in range(2):
        trainer.update("critic")
    before = {k: v.clone() for k, v in stage.players["critic"].module.state_dict().items()}
    trainer.update("critic")
    assert all(torch.equal(v, before[k]) for k, v in stage.players["critic"].module.state_dict().items())
    trainer.update("critic")
    assert not torch.equal(stage.players["critic"].module.weight, before["weight"])


def test_a_run_that_never_is_finite_gives_up_with_a_sentence():
    stage = Toy()
    stage.loss = lambda player, draws: (stage.players[player].module.weight.sum() * math.nan, {})
    with pytest.raises(FlashWorldError, match="not finite"):
        Trainer(stage, RUN).train()


def test_a_batch_that_cannot_be_shared_is_refused():
    from flashworld_core.training.trainer import World

    with pytest.raises(FlashWorldError, match="cannot be shared by 3"):
        Trainer(Toy(), RUN, world=World(size=3))


def test_interrupt_saves_and_stops(tmp_path):
    """A real signal to a real process, which must leave a checkpoint that can be gone on from."""
    code = (  # noqa: UP031
        "import sys, time; sys.path[:0] = [%r, %r]; import test_trainer as t; from pathlib import Path\n"
        "stage = t.Toy(); real = stage.loss\n"
        "def loss(*a):\n    time.sleep(0.02); print('up', flush=True); return real(*a)\n"
        "stage.loss = loss; run = t.Run(iterations=100000, batch=1, save_every=100000, sheet_every=0)\n"
        "print('finished', t._train(Path(%r), stage, run)[1], flush=True)"
    ) % (str(Path(__file__).parent), str(Path(__file__).parents[2]), str(tmp_path / "run"))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "finished False" in out
    latest = RunFolder(tmp_path / "run").latest()
    assert json.loads((latest / "facts.json").read_text())["iteration"] > 0


def test_learning_rates_of_the_papers_schedule():
    paper = Optimizer(lr=1.0, warmup=1000, decay_from=5001)
    rates = [learning_rate(paper, i, 10_000) for i in (0, 999, 1000, 5001, 9999, 10_000)]
    assert rates[:4] == [0.001, 1.0, 1.0, 1.0]
    assert rates[4] == pytest.approx(1 / 4999) and rates[5] == 0
    cosine = Optimizer(lr=2.0, warmup=10, schedule="cosine", decay_to=110, floor=0.1)
    assert learning_rate(cosine, 60, 1000) == pytest.approx(2 * (0.1 + 0.9 / 2))
    assert learning_rate(cosine, 110, 1000) == learning_rate(cosine, 900, 1000) == pytest.approx(0.2)
    assert learning_rate(Optimizer(lr=3.0, warmup=0, schedule="constant"), 77, 100) == 3.0


def test_the_average_ramps_up_and_then_decays_as_asked():
    average, module = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    average.weight.data.fill_(0.0), module.weight.data.fill_(1.0)
    update_average(average, module, 0.9, updates=1)
    assert average.weight.item() == pytest.approx(1 - 2 / 11)
    average.weight.data.fill_(0.0)
    update_average(average, module, 0.9, updates=10_000)
    assert average.weight.item() == pytest.approx(0.1)


def test_recipes_are_read_changed_and_written(tmp_path):
    recipe = override(Recipe(), ["distill.run.batch=2", "pretrain.optimizer.lr=1e-4", "distill.tasks.novel_views=0"])
    assert recipe.distill.run.batch == 2 and recipe.pretrain.optimizer.lr == 1e-4
    assert recipe.distill.tasks.novel_views == 0.0 and recipe.distill.tasks.input_views == 3.0
    (tmp_path / "recipe.json").write_text(to_json(recipe))
    assert read_recipe(tmp_path / "recipe.json", Recipe()) == recipe
    (tmp_path / "part.yaml").write_text(
        "distill:\n  run: {seed: 5}\ndata:\n- {name: dl3dv, root: /data, strides: [2, 4]}\n"
    )
    part = read_recipe(tmp_path / "part.yaml", recipe)
    assert part.distill.run.seed == 5 and part.distill.run.batch == 2 and part.data[0].strides == (2, 4)


@pytest.mark.parametrize(
    "item, words",
    [
        ("distill.run.batchsize=2", "Unknown field distill.run.batchsize"),
        ("distill.run.batch=many", "must be a int"),
        ("distill.run.batch", "NAME=VALUE"),
        ("distill.student_input=dream", "one of rollout, data"),
        ("distill=3", "mapping"),
        ("pretrain.optimizer.betas=[0.9]", "2 values"),
    ],
)
def test_wrong_settings_are_refused(item, words):
    with pytest.raises(FlashWorldError, match=words):
        override(Recipe(), [item])


def test_a_recipe_that_is_no_recipe(tmp_path):
    with pytest.raises(FlashWorldError, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml", Recipe())
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(FlashWorldError, match="neither YAML nor JSON"):
        read_recipe(tmp_path / "bad.yaml", Recipe())
    with pytest.raises(FlashWorldError, match="must be a mapping"):
        from_mapping(Recipe, [1])
