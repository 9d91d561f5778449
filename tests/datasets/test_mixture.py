"""Mixtures: every random number from seed and number, whatever loads; weights, windows, out-of-distribution paths."""

from __future__ import annotations

import dataclasses
import shutil
from types import SimpleNamespace

import data_folders as folders
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from flashworld_core.cameras import Cameras
from flashworld_core.datasets import ood_paths, windows
from flashworld_core.datasets.draws import shuffled, stream
from flashworld_core.datasets.index import ClipIndex, write_index
from flashworld_core.datasets.mixture import Mixture, Part
from flashworld_core.datasets.toyworld import render_scene
from flashworld_core.errors import FlashWorldError
from flashworld_core.evaluation.metrics import psnr_db
from flashworld_core.generators.flashworld import cameras as fw_cameras
from flashworld_core.generators.flashworld.presets import nano_config
from flashworld_core.training.flashworld.mixture import MixtureData, prepare

VIEWS, NOVEL = 4, 4


def source(name, root, kind="multiview", weight=1.0, strides=(1, 3)):
    return SimpleNamespace(name=name, root=str(root), kind=kind, weight=weight, strides=strides)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """Indices by name: two multi-view sets, pairs, a list of prompts, videos."""
    base = tmp_path_factory.mktemp("sets")
    folders.wildrgbd(base / "wildrgbd")
    folders.dl3dv(base / "dl3dv")
    folders.image_text(base / "image_text", 5)
    (base / "listing").mkdir()
    (base / "listing" / "prompts.jsonl").write_text('{"prompt": "a blue box"}\n')
    folders.video(base / "videos" / "fade.mp4")
    (base / "videos" / "fade.txt").write_text("a fade")
    for name in ("wildrgbd", "dl3dv", "image_text", "listing", "videos"):
        write_index(name, base / name, base / f"{name}_index", notify=lambda text: None)
    return {name: base / f"{name}_index" for name in ("wildrgbd", "dl3dv", "image_text", "listing", "videos")}


@pytest.fixture(scope="module")
def data(indexed):
    sources = [
        source("wildrgbd", indexed["wildrgbd"]),
        source("dl3dv", indexed["dl3dv"], weight=3.0),
        source("image_text", indexed["image_text"], "ood"),
        source("listing", indexed["listing"], "ood"),
        source("image_text", indexed["image_text"], "image"),
        source("videos", indexed["videos"], "video", strides=(5,)),
    ]
    return MixtureData(nano_config(), sources, seed=3)


def same(a, b) -> bool:
    return a.prompt == b.prompt and torch.equal(a.images, b.images) and torch.equal(a.cameras, b.cameras)


def test_loaders_processes_and_resumed_runs_get_the_same_samples(data, indexed):
    keys = [("multiview", n, NOVEL) for n in range(6)] + [("ood", n, NOVEL) for n in range(6)]
    alone = [data.sample(*key) for key in keys]
    loaded = list(DataLoader(data, batch_size=None, sampler=keys, num_workers=2))
    assert all(map(same, alone, loaded))
    # Another process of a run of two, and a run that begins at number 4.
    assert same(data.sample(*keys[4]), alone[4])
    assert all(same(data.sample(*keys[i]), alone[i]) for i in (5, 3, 1))
    again = MixtureData(nano_config(), [source("wildrgbd", indexed["wildrgbd"])], seed=3)
    other = MixtureData(nano_config(), [source("wildrgbd", indexed["wildrgbd"])], seed=4)
    assert not same(again.sample("multiview", 0, 2), other.sample("multiview", 0, 2))


def test_weights_and_permutations():
    counts = np.zeros(5)
    for number in range(25):
        counts[shuffled(number, 5, 1, "set")] += 1
    assert (counts == 5).all() and [shuffled(n, 5, 1, "set") for n in range(5)] != list(range(5))


def test_sets_are_drawn_by_weight(data):
    sources = [data.mixture.sample("multiview", number).source for number in range(120)]
    assert set(sources) == {"wildrgbd", "dl3dv"}
    assert abs(sources.count("wildrgbd") / 120 - 0.25) < 0.13  # weights 1 and 3; three standard deviations


def test_novel_cameras_are_in_the_input_path_frame_and_see_the_truth(indexed):
    """Check 11: the scene drawn at the cameras of a prepared sample, mirrored or not, gives its images."""
    mixture = Mixture(
        [Part(ClipIndex(indexed["wildrgbd"]), "multiview", strides=(1, 3))], views=VIEWS, width=48, height=32
    )
    seen = set()
    for number in range(8):
        sample = mixture.sample("multiview", number, NOVEL)
        scene, cameras, _ = folders.scene_and_views(folders.SCENES[int(sample.id[-1])])
        poses = cameras.camera_to_world[list(sample.frames)].double()
        mirrored = (sample.cameras.camera_to_world - poses).abs().max() > 1e-3
        seen |= {("mirrored", bool(mirrored)), ("backwards", sample.frames[0] > sample.frames[1])}
        truth, _ = render_scene(scene, type(cameras)(poses.float(), sample.cameras.intrinsics.float(), 48, 32), 1)
        truth = truth.permute(0, 2, 3, 1)
        assert psnr_db(sample.images, truth.flip(2) if mirrored else truth).min() > 24
        if mirrored:  # two mirrors are none
            back = windows.mirrored(sample.images, sample.cameras.camera_to_world, sample.cameras.intrinsics)
            assert (back[1] - poses).abs().max() < 1e-6
        prepared = prepare(sample, nano_config())
        vectors = fw_cameras.cameras_to_vectors(sample.cameras)
        normalized, normalization = fw_cameras.normalize_cameras(vectors[:VIEWS])
        assert torch.allclose(prepared.cameras[:VIEWS], normalized.float(), atol=1e-6)
        assert torch.allclose(prepared.cameras[VIEWS:], normalization.apply(vectors[VIEWS:]).float(), atol=1e-6)
        assert torch.equal(
            prepared.raymaps, fw_cameras.raymaps(prepared.cameras[:VIEWS], *nano_config().latent_size(32, 48))
        )
    assert len(seen) == 4, seen


def test_lengths_without_meaning_are_divided_by_the_reach(indexed):
    """A clip of an up-to-scale set gives the same sample whatever unit its poses are in."""
    mixture = Mixture([Part(ClipIndex(indexed["dl3dv"]), "multiview")], views=VIEWS, width=48, height=32)
    sample = mixture.sample("multiview", 0, 2)
    scaled = sample.cameras.camera_to_world.clone()
    scaled[:, :3, 3] *= 1e-3
    other = dataclasses.replace(sample, cameras=Cameras(scaled, sample.cameras.intrinsics, 48, 32))
    first, second = (prepare(s, nano_config()) for s in (sample, other))
    assert torch.allclose(first.cameras, second.cameras, atol=1e-5)
    assert first.cameras[:VIEWS, 4:7].norm(dim=1).max() == pytest.approx(1 / 1.01, abs=1e-5)


def test_windows():
    rng = stream("windows")
    for _ in range(200):
        inputs, novel = windows.choose_window(rng, 40, 6, 5, (1, 3, 9))
        steps = set(np.diff(inputs))
        assert len(inputs) == 6 and len(novel) == 5 and novel == sorted(novel) and inputs == sorted(inputs)
        assert not set(inputs) & set(novel) and min(inputs + novel) >= 0 and max(inputs + novel) < 40
        assert 9 not in steps and (steps == {3} or max(inputs + novel) - min(inputs + novel) <= 10)
        if steps == {3}:
            assert inputs[0] < novel[0] and novel[-1] < inputs[-1]
    inputs, novel = windows.choose_window(rng, 7, 6, 5, (1,))
    assert len(set(inputs)) == 6 and len(novel) == 5 and len(set(novel)) == 1  # the only frame left, repeated
    still = torch.zeros(5, 3).double()
    line = torch.arange(100).double()[:, None] * torch.tensor([1.0, 0, 0]).double()
    assert windows.hardly_moves(still, line, 0.0) and not windows.hardly_moves(line[:5], line, 0.0)
    assert windows.hardly_moves(line[:5], line, 130.0) and not windows.hardly_moves(line[:5], line, 110.0)


def test_ood_samples_have_paths_of_all_kinds_and_one_picture(data):
    kinds, prompts = set(), set()
    for number in range(60):
        scene = data.sample("ood", number, NOVEL)
        assert scene.cameras.shape == (VIEWS + NOVEL, 11) and torch.isfinite(scene.cameras).all()
        assert scene.images.shape == (VIEWS + NOVEL, 32, 48, 3) and scene.posed
        prompts.add(scene.prompt)
        kinds.add((scene.has_image, scene.image_index == 0))
        if not scene.has_image:
            assert scene.prompt == "a blue box" and scene.image_index is None
        else:
            assert 0 <= scene.image_index < VIEWS and scene.images[0].std() > 0
    assert len(prompts) == 6 and kinds == {(True, True), (True, False), (False, False)}


def test_paths_of_moves():
    right = ood_paths.worldscore_path("move_right", 5)
    assert torch.allclose(right[:, 0, 3], torch.linspace(0, 0.5, 5).double()) and (right[:, 1:3, 3] == 0).all()
    pan = ood_paths.worldscore_path("pan_right", 3)[1]
    assert torch.allclose(pan[:3, 2], torch.tensor([np.sin(np.pi / 12), 0, np.cos(np.pi / 12)]))
    for name in ("orbit_left", "orbit_right"):
        end = ood_paths.worldscore_path(name, 5)[-1]
        assert torch.allclose(end[:3, 3] + end[:3, 2], torch.tensor([0.0, 0, 1]).double())  # it faces what it circles
        assert (end[0, 3] > 0) == (name == "orbit_right")
    rng = stream("novel")
    novel = ood_paths.between(rng, right, 5)
    assert (novel[:, :3, 3] - ood_paths.along(right, (np.arange(5) + 0.5) / 5)[:, :3, 3]).abs().max() <= 0.06 * 0.5
    assert torch.allclose(novel[:, :3, :3] @ novel[:, :3, :3].mT, torch.eye(3).double().expand(5, 3, 3))


def test_images_and_videos_have_no_cameras(data):
    image, video = data.sample("image", 1, 0), data.sample("video", 0, 0)
    assert image.images.shape == (1, 32, 48, 3) and image.views == 1 and not image.posed and not image.raymaps.any()
    assert video.views == VIEWS and not video.posed
    levels = video.images.mean((1, 2, 3)) * 40
    assert torch.allclose(levels.diff(), torch.full((3,), 5.0), atol=0.4)  # frames at stride 5


def test_upright_clips_are_prepared_upright(tmp_path):
    from flashworld_core.media.export import save_png

    save_png(tmp_path / "set" / "a.png", torch.rand(60, 40, 3))
    (tmp_path / "set" / "a.txt").write_text("a")
    write_index("image_text", tmp_path / "set", tmp_path / "index", notify=lambda text: None)
    part = Part(ClipIndex(tmp_path / "index"), "ood")
    sample = Mixture([part], views=2, width=48, height=32, turn=True).sample("ood", 0, 1)
    assert sample.images.shape[1:3] == (48, 32) and (sample.cameras.width, sample.cameras.height) == (32, 48)
    said = []
    kept = Mixture([part], views=2, width=48, height=32, notify=said.append)
    assert kept.sample("ood", 0, 1).images.shape[1:3] == kept.sample("ood", 1, 1).images.shape[1:3] == (32, 48)
    assert len(said) == 1 and "cropped" in said[0]


def test_clips_that_fail_are_replaced_counted_and_stop_a_run(tmp_path):
    folders.image_text(tmp_path / "set", 40)
    write_index("image_text", tmp_path / "set", tmp_path / "index", notify=lambda text: None)
    mixture = Mixture([Part(ClipIndex(tmp_path / "index"), "image")], views=1, width=48, height=32)
    before = [mixture.sample("image", n).id for n in range(40)]
    gone = before[7]
    (tmp_path / "set" / f"{gone}.png").unlink()
    after = [mixture.sample("image", n).id for n in range(40)]
    assert after[7] == before[8] and after[:7] + after[8:] == before[:7] + before[8:]
    assert list(mixture.failures) == [("image_text", gone)] and "missing" in mixture.failures["image_text", gone]
    for path in list((tmp_path / "set" / "deep").glob("*.png"))[:12]:
        path.unlink()
    with pytest.raises(FlashWorldError, match="more than 1%.*Index the sets again") as caught:
        for n in range(40):
            mixture.sample("image", n)
    assert gone in str(caught.value)
    shutil.rmtree(tmp_path / "set" / "deep")
    with pytest.raises(FlashWorldError, match="16 clips of image_text in a row|more than 1%"):
        Mixture([Part(ClipIndex(tmp_path / "index"), "image")], views=1, width=48, height=32).sample("image", 0)


def test_mistakes_are_one_sentence(indexed, tmp_path):
    config = nano_config()

    def refused(match, *sources, kind="multiview"):
        with pytest.raises(FlashWorldError, match=match):
            MixtureData(config, sources).sample(kind, 0, 0)

    refused("names no data")
    refused("has no root", source("dl3dv", ""))
    refused("There is no index", source("dl3dv", tmp_path))
    refused("is one of dl3dv, not of wildrgbd", source("wildrgbd", indexed["dl3dv"]))
    refused("cannot serve as multiview", source("videos", indexed["videos"]))
    refused("No clip of dl3dv has the 61 frames", source("dl3dv", indexed["dl3dv"], strides=(20,)))
    refused("camera paths only", source("dl3dv", indexed["dl3dv"], "ood"), kind="ood")
    refused("no data of kind ood; it has multiview", source("dl3dv", indexed["dl3dv"]), kind="ood")
    both = MixtureData(config, [source("toyworld", ""), source("dl3dv", indexed["dl3dv"])], toyworld={"simple": True})
    assert len({both.sample("multiview", n, 1).log_distance is None for n in range(12)}) == 2
    assert not both.has_distance and MixtureData(config, [source("toyworld", "")]).has_distance


def test_clips_too_short_are_said_to_be_left_out(indexed):
    said = []
    part = Part(ClipIndex(indexed["wildrgbd"]), "multiview", strides=(9,))
    with pytest.raises(FlashWorldError, match="has the 37 frames that 5 views at a stride of 9 need"):
        Mixture([part], views=5, width=48, height=32, notify=said.append)
    index = ClipIndex(indexed["wildrgbd"])
    index.frames[1] = 20
    Mixture([Part(index, "multiview", strides=(9,))], views=4, width=48, height=32, notify=said.append)
    assert said == ["1 of 2 clips of wildrgbd are left out: they have fewer than 28 frames."]


def test_upright_pictures_get_upright_paths(indexed, tmp_path, monkeypatch):
    from flashworld_core.media.export import save_png

    for name, shape in (("lying", (40, 60, 3)), ("upright", (60, 40, 3))):
        save_png(tmp_path / "set" / f"{name}.png", torch.rand(*shape))
        (tmp_path / "set" / f"{name}.txt").write_text(name)
    write_index("image_text", tmp_path / "set", tmp_path / "index", notify=lambda text: None)
    wild, dl3dv = ClipIndex(indexed["wildrgbd"]), ClipIndex(indexed["dl3dv"])
    clip = wild.clip
    monkeypatch.setattr(wild, "clip", lambda number: dataclasses.replace(clip(number), size=(48, 72)))
    parts = [
        Part(ClipIndex(tmp_path / "index"), "ood"),
        Part(wild, "ood", strides=(3,)),
        Part(dl3dv, "ood", strides=(3,)),
    ]
    mixture = Mixture(parts, views=VIEWS, width=48, height=32, turn=True)
    monkeypatch.setattr(ood_paths, "KINDS", {"clip": 1.0})
    for number in range(12):
        sample = mixture.sample("ood", number, 0)
        assert sample.metric == (sample.prompt == "upright")  # WildRGB-D's lengths are meters
