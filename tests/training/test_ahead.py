"""Samples loaded ahead: the same lines whatever loads them, also when resumed; what is not foreseen comes too."""

from __future__ import annotations

import dataclasses

import pytest
from small_recipe import micro_networks, micro_recipe

from flashworld_core.errors import FlashWorldError
from flashworld_core.training.ahead import ReadAhead
from flashworld_core.training.build import distillation_stage, pretraining_stage
from flashworld_core.training.loop import train
from flashworld_core.training.trainer import Trainer


@dataclasses.dataclass
class Numbers:
    """A data source whose samples are their keys; number 13 fails."""

    calls: int = 0

    def sample(self, kind, number, novel_views):
        self.calls += 1
        if number == 13:
            raise FlashWorldError("Sample 13 is broken.")
        return kind, number, novel_views


def test_samples_come_in_any_order():
    keys = [("multiview", n, n % 3) for n in range(40)]
    source = Numbers()
    ahead = ReadAhead(source, iter(keys), 2)
    asked = [keys[0], keys[1], ("ood", 5, 0), keys[4], keys[2], *keys[5:12]]  # one not foreseen, two passed over
    assert [ahead.sample(*key) for key in asked] == asked
    assert source.calls == 2, "only what was not foreseen or already passed is loaded here"
    assert ahead.sample(*keys[12]) == keys[12]
    with pytest.raises(FlashWorldError, match="^Sample 13 is broken.$"):
        ahead.sample(*keys[13])
    assert ahead.sample(*keys[14]) == keys[14] and source.calls == 2


@pytest.mark.parametrize("name", ["pretrain", "distill"])
def test_upcoming_keys_are_those_that_are_asked_for(name, monkeypatch):
    networks, data = micro_networks()
    run = dataclasses.replace(micro_recipe().pretrain.run, batch=2, iterations=3)
    recipe = micro_recipe(rollout_every=2, critic_updates=2)
    recipe = dataclasses.replace(recipe, distill=dataclasses.replace(recipe.distill, run=run))
    stage = (pretraining_stage if name == "pretrain" else distillation_stage)(networks, data, recipe)
    asked, sample = [], type(data).sample
    monkeypatch.setattr(type(data), "sample", lambda self, *key: asked.append(key) or sample(self, *key))
    trainer = Trainer(stage, run)
    expected = list(trainer.upcoming())
    trainer.train()
    assert asked == expected and len(asked) >= 6


def test_workers_change_no_line(tmp_path):
    lines = {}
    for workers in (0, 2):
        networks, data = micro_networks()
        run = dataclasses.replace(micro_recipe().pretrain.run, iterations=3, save_every=1, workers=workers)
        folder = tmp_path / str(workers)
        folder.mkdir()
        for until in (2, 3):  # stopped after two iterations and gone on with
            stage = pretraining_stage(networks, data, micro_recipe())
            train(stage, dataclasses.replace(run, iterations=until), folder, about={})
        lines[workers] = (folder / "metrics.jsonl").read_text()
    assert lines[0] == lines[2] and len(lines[0].splitlines()) == 3
