"""Figures of the ablation on cases whose answer is known, the table, and the whole thing at the smallest size."""

import json

import pytest
import torch
from small_recipe import micro_config

import flashworld_core.training.flashworld.start as start
from flashworld_core import Gaussians
from flashworld_core.cameras import Cameras
from flashworld_core.training.__main__ import main
from flashworld_core.training.ablation import figures
from flashworld_core.training.ablation.fit import fit_scene
from flashworld_core.training.ablation.probe import Probe, labels
from flashworld_core.training.ablation.report import KEPT, combine, marks, write_report
from flashworld_core.training.flashworld.toyworld import ToyWorldData
from flashworld_core.training.recipes import recipe


def test_sharpness_is_a_ratio_of_gradient_energies():
    stripes = torch.zeros(4, 2, 8, 8, 3)
    stripes[..., ::2, :] = 1
    assert figures.gradient_energy(stripes) == pytest.approx(torch.ones(4))
    half = figures.sharpness(0.5 * stripes, stripes)
    assert half.value == pytest.approx(0.25) and half.error == 0


def test_frechet_distance_of_normal_distributions():
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(40_000, 3, generator=generator)
    other = 2 * torch.randn(40_000, 3, generator=generator) + torch.tensor([3.0, 0, 0])
    # |m|^2 + sum (s1 - s2)^2 = 9 + 3 * 1
    assert figures.frechet_distance(one, other) == pytest.approx(12, rel=0.03)
    assert figures.frechet_distance(one, one) == pytest.approx(0, abs=1e-6)


def test_diversity_is_one_for_the_truth_and_none_for_copies():
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(3, 5, 2, 4, 4, 3, generator=generator)
    assert figures.diversity(real, real).value == pytest.approx(1)
    assert figures.diversity(real[:, :1].expand_as(real), real).value == pytest.approx(0, abs=1e-6)


def _wall(depths, opacity):
    x, y = torch.meshgrid(torch.linspace(-1, 1, 15), torch.linspace(-1, 1, 15), indexing="xy")
    means = torch.cat([torch.stack([x * d, y * d, torch.full_like(x, d)], -1).reshape(-1, 3) for d in depths])
    count = len(means)
    return Gaussians(
        means, torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1), torch.full((count, 3), 0.12) * means[:, 2:],
        torch.full((count,), opacity), torch.zeros(count, 1, 3),
    )  # fmt: skip


def test_depth_spread_tells_a_fog_from_a_wall():
    intrinsics = torch.tensor([[[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]])
    cameras = Cameras(torch.eye(4)[None], intrinsics, 16, 16)
    wall = figures.depth_spread([_wall([2.0], 0.9)], [cameras]).value
    fog = figures.depth_spread([_wall([1.0, 2.0, 4.0], 0.1)], [cameras]).value
    assert wall < 0.02 and fog > 0.3


def test_a_fit_explains_one_picture_and_not_two_that_disagree():
    intrinsics = torch.tensor([[[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]]).repeat(2, 1, 1)
    cameras = Cameras(torch.eye(4).repeat(2, 1, 1), intrinsics, 16, 16)
    images = torch.zeros(2, 16, 16, 3)
    images[:, :, :8] = 1
    _, same = fit_scene(images, cameras, _wall([2.0], 0.5), steps=60)
    images[1] = 1 - images[1]
    _, different = fit_scene(images, cameras, _wall([2.0], 0.5), steps=60)
    assert same < 0.04 and different > 0.2


def test_probe_reads_the_words_of_a_scene():
    data = ToyWorldData(micro_config(), simple=True)
    scene = data.scene("multiview", 0)
    truth = labels(scene)
    assert scene.solids[0].kind in scene.prompt and truth.shape == (4,)
    with torch.no_grad():
        probe = Probe()
        right = probe.right(torch.rand(2, 32, 48, 3), truth.expand(2, -1))
    assert right.shape == (2, 4) and set(right.flatten().tolist()) <= {0.0, 1.0}


ROWS = {
    "A": [{"accuracy all": [0.7, 0.01], "fit error": [5e-4, 1e-5]}],
    "B": [{"accuracy all": [0.6, 0.01], "fit error": [1e-5, 1e-6]}],
    "C": [
        {"accuracy all": [0.71, 0.01], "fit error": [7e-4, 1e-5]},
        {"accuracy all": [0.75, 0.01], "fit error": [9e-4, 1e-5]},
    ],
}  # fmt: skip


def test_marks_and_errors_over_seeds():
    found = dict(marks(ROWS))
    assert found["quality and alignment: B < A"].startswith("yes")
    assert found["quality and alignment: A < C"].startswith("open")
    assert found["inconsistency: C > B (fit error)"].startswith("yes")
    assert not any("F" in text for text in found)
    assert combine(ROWS["C"], "accuracy all").error == pytest.approx(0.02)  # between seeds, more than over scenes


def test_a_report_keeps_what_was_written_by_hand(tmp_path):
    path = tmp_path / "ablation.md"
    path.write_text(f"old\n\n{KEPT}\n\nBy hand.\n")
    write_report(path, ROWS, tmp_path, recipe("nano"))
    text = path.read_text()
    assert "old" not in text and text.endswith("By hand.\n") and "| fit error | 0.00050" in text


@pytest.mark.slow
def test_the_whole_ablation_runs(tmp_path, monkeypatch):
    monkeypatch.setitem(start.PRESETS, "nano", micro_config)
    monkeypatch.setattr(start, "_PCA_SCENES", 6)
    import flashworld_core.training.ablation.ablate as ablate

    monkeypatch.setattr(ablate, "train_probe", lambda path, data: Probe().eval())
    words = ["ablate", "--out", str(tmp_path / "run"), "--variants", "A,B,C,D", "--scenes", "4"]
    words += ["--report", str(tmp_path / "table.md"), "--set", "pretrain.run.iterations=2", "distill.run.iterations=5"]
    words += ["pretrain.run.batch=2", "distill.run.batch=2", "distill.warm_critic=1", "distill.head_width=16"]
    for _ in range(2):  # the second time there is nothing left to train
        assert main(words) == 0
    assert "| accuracy all |" in (tmp_path / "table.md").read_text()
    assert json.loads((tmp_path / "run" / "figures" / "D-0.json").read_text())["iterations"] == 5
