"""The judge on models whose faults are known: the truth, haze, floaters. And the command, its report, its files."""

from __future__ import annotations

import argparse
import json
import math

import pytest
import torch
from oracle_models import HEIGHT, WIDTH, Oracle

from flashworld_core.datasets.toyworld import ToyWorld, render_scene
from flashworld_core.datasets.toyworld.scene import sample_scene, scene_alike
from flashworld_core.errors import Cancelled, FlashWorldError
from flashworld_core.evaluation.geometry_metrics import depth_disagreement, floaters
from flashworld_core.evaluation.metrics import Figure
from flashworld_core.evaluation.probe import ATTRIBUTES, accuracy, chance, load_probe
from flashworld_core.evaluation.report import write_report
from flashworld_core.evaluation.toyworld import judge
from flashworld_core.progress import Progress
from flashworld_core.training.cli import evaluate

SCENES = 2


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Figures of the oracle, of its blurred sister and of one with floaters, from images."""
    base = tmp_path_factory.mktemp("judged")
    models = {"truth": Oracle(), "haze": Oracle(blur=9), "floaters": Oracle(floaters=0.3)}
    return {
        name: judge(model, base / name, scenes=SCENES, modes=("image",))["figures"]["image"]
        for name, model in models.items()
    }


def test_the_truth_is_judged_good_and_its_faults_are_seen(judged):
    truth, haze, spoiled = judged["truth"], judged["haze"], judged["floaters"]
    assert 0.75 < truth["sharpness"].value < 1.3 and haze["sharpness"].value < 0.4
    assert truth["input_psnr_db"].value > 28 and truth["novel_psnr_db"].value > 22
    assert truth["novel_psnr_db"].value > haze["novel_psnr_db"].value > haze["novel_psnr_db_mean_color"].value
    assert truth["novel_ssim"].value > haze["novel_ssim"].value
    assert truth["floaters"].value < 0.1 and spoiled["floaters"].value > truth["floaters"].value + 0.1
    assert spoiled["depth_disagreement"].value > truth["depth_disagreement"].value + 0.02
    assert truth["depth_disagreement"].value < truth["depth_disagreement_of_truth"].value + 0.05
    assert truth["accuracy"].value > truth["accuracy_by_chance"].value + 0.3
    assert truth["accuracy"].value >= haze["accuracy"].value - 0.05 and truth["opacity"].value > 0.9


def test_the_probe_reads_true_views():
    probe, world, rows = load_probe(), ToyWorld(4, WIDTH, HEIGHT), []
    for seed in range(24):
        sample = world.sample(seed, "test", novel_views=0)
        found = accuracy(probe, sample.images.permute(0, 2, 3, 1), sample.scene)
        rows.append((found, chance(sample.scene)))
    mean = {name: sum(row[0][name] for row in rows) / len(rows) for name in ATTRIBUTES}
    guess = {name: sum(row[1][name] for row in rows) / len(rows) for name in ATTRIBUTES}
    assert all(mean[name] > guess[name] + 0.15 for name in ATTRIBUTES), (mean, guess)
    assert sum(mean.values()) / len(mean) > 0.75, mean


def test_runs_are_stopped_and_gone_on_with(tmp_path):
    model, stops = Oracle(), iter([False] * 2 + [True] * 9)
    with pytest.raises(Cancelled):
        judge(model, tmp_path, scenes=3, prompts=2, samples=2, progress=Progress(should_stop=lambda: next(stops)))
    assert model.calls == 2
    with (tmp_path / "rows.jsonl").open("a") as stream:
        stream.write('{"mode": "image", "se')  # killed while writing
    found = judge(model, tmp_path, scenes=3, prompts=2, samples=2)
    assert model.calls == 3 + 3 + 2 * 2 and len(found["rows"]) == 3 + 3 + 2
    again = judge(model, tmp_path, scenes=3, prompts=2, samples=2)
    assert model.calls == 10 and again["figures"] == found["figures"]
    text = found["figures"]["text"]
    # Other seeds are other scenes here, more varied than scenes of one prompt.
    assert text["diversity"].value > 1 and "novel_psnr_db" not in text and "floaters" not in text
    with pytest.raises(FlashWorldError, match="holds figures of the model 'oracle-1-0.0'"):
        judge(Oracle(blur=3), tmp_path, scenes=3)
    with pytest.raises(FlashWorldError, match="At least one scene"):
        judge(model, tmp_path, scenes=0)


def test_scenes_alike_share_the_prompt_and_nothing_else():
    scene = sample_scene(7, "test")
    others = [scene_alike(scene, k) for k in range(3)]
    assert others[0] == scene_alike(scene, 0) != others[1]
    for other in others:
        assert other.prompt == scene.prompt and len(other.solids) == len(scene.solids)
        assert [s.color_word for s in other.solids] == [s.color_word for s in scene.solids]
        assert all(a.x != b.x for a, b in zip(other.solids, scene.solids, strict=True))
    cameras = ToyWorld(1, 48, 32).sample(7, "test", novel_views=0).cameras
    images = torch.cat([render_scene(other, cameras, 1)[0] for other in [scene, *others]])
    assert images.std(0).mean() > 0.02


def test_floaters_and_disagreement_by_hand():
    """A wall at depth 2: Gaussians at depth 1 are floaters, and views of another depth disagree by the ratio."""
    from flashworld_core.cameras import Cameras
    from flashworld_core.gaussians import Gaussians

    k = torch.tensor([[10.0, 0, 5], [0, 10, 5], [0, 0, 1]]).repeat(2, 1, 1)
    cameras = Cameras(torch.eye(4).repeat(2, 1, 1), k, 10, 10)
    means = torch.tensor([[0.0, 0, 2], [0, 0, 1], [0, 0, 1.9], [0, 0, -1], [9, 0, 2]])
    opacities, quats = torch.tensor([0.6, 0.2, 0.2, 1, 1]), torch.eye(4)[:1].repeat(5, 1)
    scene = Gaussians(means, quats, torch.ones(5, 3), opacities, torch.zeros(5, 1, 3))
    assert floaters(scene, cameras, torch.full((2, 10, 10), 2.0)) == pytest.approx(0.2)
    depth = torch.stack([torch.full((10, 10), 2.0), torch.full((10, 10), 4.0)])
    assert depth_disagreement(depth, torch.ones_like(depth), cameras) == pytest.approx(0.5)
    assert depth_disagreement(depth[:1].repeat(2, 1, 1), torch.ones_like(depth), cameras) == pytest.approx(0)
    assert math.isnan(depth_disagreement(depth, torch.zeros_like(depth), cameras))  # nothing to compare


def options(*words):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_command_compares_two_models(tmp_path, monkeypatch, capsys):
    models = {"a<b": Oracle(), "c&d": Oracle(blur=5)}
    monkeypatch.setattr("flashworld_core.generators.load_model", lambda name, **parts: models[name])
    monkeypatch.setattr("flashworld_core.generators.open_model", lambda name: models[name])
    (tmp_path / "prompts.txt").write_text("a <script>alert(1)</script> box\n")
    words = ("a<b", "c&d", "--toyworld", 1, "--given", "image", "--out", tmp_path / "out")
    evaluate.run(options(*words, "--prompts", tmp_path / "prompts.txt"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[0].startswith(
        "a<b, 1 held-out ToyWorld scenes from image and prompt: input psnr db"
    )
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page and "a&lt;b" in page and "c&amp;d" in page and "&lt;script&gt;" in page
    files = [part.split('"')[0] for part in page.split('<img src="')[1:]]
    assert len(files) == 3 + 2 and all((tmp_path / "out" / file).is_file() for file in files)
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    section = figures["1 held-out ToyWorld scenes from image and prompt"]
    assert section["a<b"]["sharpness"]["value"] > section["c&d"]["sharpness"]["value"]


def test_command_refuses_what_it_cannot_do(tmp_path):
    with pytest.raises(FlashWorldError, match="Say what to judge on"):
        evaluate.run(options("tiny", "--out", tmp_path))
    for words in (["tiny", "--toyworld", 1], ["--toyworld", 1, "--out", tmp_path]):
        with pytest.raises(FlashWorldError, match="Give the model to judge and --out"):
            evaluate.run(options(*words))
    with pytest.raises(FlashWorldError, match="At most two models"):
        evaluate.run(options("a", "b", "c", "--toyworld", 1, "--out", tmp_path))
    with pytest.raises(FlashWorldError, match="cannot be read"):
        evaluate.run(options("tiny", "--prompts", tmp_path / "none.txt", "--out", tmp_path))
    with pytest.raises(FlashWorldError, match="There is no model 'nothing'"):
        evaluate.run(options("nothing", "--toyworld", 1, "--out", tmp_path))


def test_older_form_of_the_command(monkeypatch, capsys):
    monkeypatch.setattr("flashworld_core.training.recipes.tiny.evaluate", lambda *of: {"of": [str(one) for one in of]})
    evaluate.run(options("--model", "folder", "--scenes", 3, "--text-only"))
    assert json.loads(capsys.readouterr().out) == {"of": ["folder", "3", "True"]}


def test_report_shows_what_one_model_lacks(tmp_path):
    tables = {"s": {"a": {"sharpness": Figure(0.5, 0.01)}, "b": {"own": Figure(1.0)}}}
    write_report(tmp_path / "r.html", "t", tables, [])
    page = (tmp_path / "r.html").read_text()
    assert "0.500 ± 0.010" in page and page.count(">–<") == 2
