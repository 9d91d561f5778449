"""The commands end to end at the smallest size, and what they refuse before hours are spent."""

import dataclasses
import json
import signal
import subprocess
import sys

import pytest
import torch
from small_recipe import micro_config, micro_networks, micro_recipe

import flashworld_core.training.flashworld.start as start
from flashworld_core.errors import FlashWorldError
from flashworld_core.training.__main__ import main
from flashworld_core.training.build import distillation_stage, pretraining_stage
from flashworld_core.training.cli import COMMANDS
from flashworld_core.training.config import Source, override
from flashworld_core.training.draws import Draws
from flashworld_core.training.recipes import RECIPES, recipe
from flashworld_core.training.runs import open_run
from flashworld_core.training.sources import check_data, open_data

SMALL = [
    "pretrain.run.iterations=3", "pretrain.run.report_every=1", "pretrain.run.sheet_every=2", "pretrain.run.batch=2",
    "distill.run.iterations=3", "distill.run.report_every=1", "distill.run.sheet_every=2", "distill.run.batch=2",
    "distill.warm_critic=0", "distill.head_width=16",
]  # fmt: skip


@pytest.fixture
def micro(monkeypatch):
    monkeypatch.setitem(start.PRESETS, "nano", micro_config)
    monkeypatch.setattr(start, "_PCA_SCENES", 6)


def test_from_nothing_to_a_model_that_generates(tmp_path, micro, capsys):
    from flashworld_core.generators import load_model
    from flashworld_core.generators.base import Request

    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["pretrain", "--out", str(first), "--set", *SMALL]) == 0
    assert (first / "model" / "config.json").is_file() and (first / "sheets" / "00000002.png").is_file()
    assert json.loads((first / "recipe.json").read_text())["stage"] == "pretrain"
    assert main(["distill", "--start", str(first), "--out", str(second), "--set", *SMALL]) == 0
    assert len((second / "metrics.jsonl").read_text().splitlines()) == 3
    assert main(["export", "--out", str(second), "--model", str(tmp_path / "model")]) == 0
    model = load_model(tmp_path / "model")
    data = open_data(recipe("nano"), model.config, seed=0, split="test")
    cameras = data.toyworld.raw("multiview", 0, 0).cameras
    scene = model.generate(Request(cameras, (), "a red box on a green ground under a pale sky", 1)).gaussians
    assert torch.isfinite(scene.means).all() and len(scene.means) > 0

    # A folder that holds a run is refused, gone on with, never started over.
    before = (second / "metrics.jsonl").read_text()
    assert main(["distill", "--start", str(first), "--out", str(second), "--set", *SMALL]) == 1
    assert "add --resume" in capsys.readouterr().err
    assert main(["distill", "--out", str(second), "--resume"]) == 0
    assert (second / "metrics.jsonl").read_text() == before
    assert main(["pretrain", "--out", str(second), "--resume"]) == 1
    assert "holds a run of distill" in capsys.readouterr().err
    changed = [item.replace("batch=2", "batch=4") for item in SMALL]
    assert main(["distill", "--start", str(first), "--out", str(second), "--resume", "--set", *changed]) == 1
    assert "another distill.run.batch" in capsys.readouterr().err
    assert main(["distill", "--start", str(second), "--out", str(tmp_path / "third")]) == 1
    assert "stage 2 starts from one of pretrain" in capsys.readouterr().err


def test_samples_together_are_what_they_are_one_by_one():
    """The slow twin of the batched passes: losses and gradients of both stages."""
    for stage_name, player in (("pretrain", "student"), ("distill", "student"), ("distill", "critic")):
        networks, data = micro_networks()
        build = {"pretrain": pretraining_stage, "distill": distillation_stage}[stage_name]
        stage = build(networks, data, micro_recipe(student_adversarial_weight=0.1, critic_adversarial_weight=0.1))
        draws = [Draws(0, f"{stage_name}/{player}", 2, 6 + i) for i in range(3)]
        parameters = list(stage.players[player].module.parameters())
        results = []
        for groups in ([draws], [[own] for own in draws]):
            for parameter in parameters:
                parameter.grad = None
            losses = torch.cat([stage.losses(player, group)[0] for group in groups])
            losses.sum().backward()
            results.append((losses.detach(), [p.grad.clone() for p in parameters if p.grad is not None]))
        assert torch.allclose(results[0][0], results[1][0], rtol=1e-5)
        assert len(results[0][1]) == len(results[1][1]) > 10
        for one, other in zip(results[0][1], results[1][1], strict=True):
            assert (one - other).abs().max() <= 1e-3 * other.abs().max() + 1e-7


@pytest.mark.parametrize(
    "settings, words",
    [
        (["data=[{name: nowhere}]"], "not known; known are toyworld"),
        (["data=[{name: dl3dv}]"], "has no root"),
        (["data=[{name: dl3dv, root: /nowhere/at/all}]"], "/nowhere/at/all"),
        (["data=[]"], "names no data"),
    ],
)
def test_wrong_data_are_refused(settings, words):
    with pytest.raises(FlashWorldError, match=words):
        open_data(override(recipe("nano"), settings), micro_config(), seed=0)


def test_data_that_do_not_suit_the_stage_are_refused():
    nano = recipe("nano")
    data = open_data(nano, micro_config(), seed=0)
    only = dataclasses.replace(nano, data=(Source(simple=True),))
    with pytest.raises(FlashWorldError, match="no ood data"):
        check_data(only, "distill", data)
    check_data(override(only, ["distill.data.ood=0"]), "distill", data)
    with pytest.raises(FlashWorldError, match="no multi-view data"):
        check_data(dataclasses.replace(nano, data=(Source(kind="ood"),)), "pretrain", data)


@pytest.mark.parametrize(
    "words, said",
    [
        (["pretrain", "--set", "pretrain.run.batchsize=2"], "Unknown field pretrain.run.batchsize"),
        (["pretrain", "--device", "cuda"], "no CUDA device"),
        (["pretrain", "--set", "model=giant"], "no model 'giant'"),
        (["pretrain", "--set", "model=full"], "cannot begin from random weights"),
        (["pretrain", "--set", "start=/nowhere"], "no model to start from"),
        (["distill"], "needs a teacher"),
        (["distill", "--start", "/nowhere"], "no model to start from"),
        (["distill", "--set", "distill.rollout_every=3"], "needs a teacher"),
        (["export", "--model", "nowhere"], "holds no run"),
        (["ablate", "--variants", "A,Z"], "no variant 'Z'"),
    ],
)
def test_commands_refuse_in_a_sentence(tmp_path, capsys, words, said):
    if words[1:3] == ["--device", "cuda"] and torch.cuda.is_available():
        pytest.skip("there is one")
    assert main([*words[:1], "--out", str(tmp_path / "run"), *words[1:]]) == 1
    assert said in capsys.readouterr().err


def test_a_folder_with_other_training_is_left_alone(tmp_path):
    (tmp_path / "generator.pt").write_bytes(b"old")
    with pytest.raises(FlashWorldError, match="other training"):
        open_run(tmp_path, "pretrain", recipe("nano"), resume=True, given=True)
    (tmp_path / "generator.pt").unlink()
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(FlashWorldError, match="is damaged"):
        open_run(tmp_path, "pretrain", recipe("nano"), resume=True, given=True)


def test_recipes_and_commands_are_there():
    assert {name: recipe(name).name for name in RECIPES} == {name: name for name in RECIPES}
    for name, module in {"vae": "vae", "generator": "generator", "example": "example", "card": "card"}.items():
        assert COMMANDS[name][0].endswith(module)
    with pytest.raises(SystemExit):
        main(["generator", "--help"])


@pytest.mark.slow
def test_interrupt_says_how_to_go_on(tmp_path):
    """A real Ctrl-C to the real command."""
    command = [sys.executable, "-m", "flashworld_core.training", "pretrain", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "pretrain 20 of" in line or " of 3000, " in line:
            break
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 0 and "--resume" in said
