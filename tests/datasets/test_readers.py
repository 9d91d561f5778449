"""Readers of every layout: poses as written, images that lie under them, what is broken skipped and counted."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tarfile

import data_folders as folders
import numpy as np
import pytest
import torch

from flashworld_core.datasets import READERS
from flashworld_core.datasets.index import ClipIndex, layout_of, write_index
from flashworld_core.datasets.pixels import load_frames, load_views
from flashworld_core.datasets.toyworld import render_scene
from flashworld_core.errors import FlashWorldError
from flashworld_core.evaluation.metrics import psnr_db
from flashworld_core.geometry import invert_pose


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Folder and index of every multi-view layout."""
    made = {}
    for name, (reader, write) in folders.MULTIVIEW.items():
        root = tmp_path_factory.mktemp(name)
        write(root)
        out = root.parent / f"{name}_index"
        write_index(reader, root, out, notify=lambda text: None)
        made[name] = root, ClipIndex(out)
    return made


@pytest.mark.parametrize("name", folders.MULTIVIEW)
def test_poses_come_back(sets, name):
    _, index = sets[name]
    assert len(index) == 2 and not index.facts["skipped"]
    for number, seed in enumerate(folders.SCENES):
        clip, cameras = index.clip(number), folders.scene_and_views(seed)[1]
        written = cameras.camera_to_world.double()
        relative = invert_pose(clip.poses[:1]) @ clip.poses
        assert (relative - invert_pose(written[:1]) @ written).abs().max() < 1e-6
        lenses = cameras.resized(*clip.size).intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]].double()
        assert (clip.lenses / lenses - 1).abs().max() < 1e-6


@pytest.mark.parametrize("name", folders.MULTIVIEW)
def test_the_cameras_see_the_images(sets, name):
    """The true scene rendered at what was read gives the pictures that were loaded, crop included."""
    root, index = sets[name]
    scene, cameras, _ = folders.scene_and_views(folders.SCENES[0])
    frames = [0, 11, 29]
    images, read = load_views(root, index.clip(0), frames, 48, 48)
    world = cameras.camera_to_world[:1].double() @ invert_pose(read.camera_to_world[:1]) @ read.camera_to_world
    truth, _ = render_scene(scene, type(read)(world.float(), read.intrinsics.float(), 48, 48), 1)
    db = psnr_db(images, truth.permute(0, 2, 3, 1))
    wrong = psnr_db(images.roll(1, 0), truth.permute(0, 2, 3, 1))
    # Scaling and the video's compression cost a little; another frame's picture costs more than 6 dB.
    assert db.min() > 24 and (db - wrong).min() > 6, (db, wrong)


def test_captions_and_their_stand_ins(sets, tmp_path):
    assert sets["realestate10k_videos"][1].clip(1).prompt == "room 1"
    assert sets["mvimgnet"][1].clip(0).prompt == "bottle" and sets["wildrgbd"][1].clip(0).prompt == "apple"
    assert sets["realestate10k"][1].clip(0).prompt == "" and sets["realestate10k"][1].facts["without_caption"] == 2
    captions = tmp_path / "captions.jsonl"
    captions.write_text('{"id": "7/instance1", "caption": "a green bottle"}\n')
    write_index("mvimgnet", sets["mvimgnet"][0], tmp_path / "index", captions=captions, notify=lambda text: None)
    assert [ClipIndex(tmp_path / "index").clip(i).prompt for i in range(2)] == ["bottle", "a green bottle"]
    captions.write_text('{"id": "7/instance1"}\n')
    with pytest.raises(FlashWorldError, match=r"captions.jsonl, line 1: expected"):
        write_index("mvimgnet", sets["mvimgnet"][0], tmp_path / "index", captions=captions)


def test_scene_depth_is_read_from_colmap_points(sets):
    clip = sets["mvimgnet"][1].clip(0)
    depth = (torch.tensor([0.0, -0.5, 0.0]).double() - clip.poses[:, :3, 3]) * clip.poses[:, :3, 2]
    assert clip.depth == pytest.approx(float(depth.sum(1).median()), rel=0.05)
    assert sets["wildrgbd"][1].clip(0).metric and not clip.metric


def test_pairs_lists_shards_and_videos(tmp_path):
    folders.image_text(tmp_path / "pairs")
    save = tmp_path / "pairs" / "deep"
    (save / "broken.png").write_bytes(b"no picture")
    (save / "broken.txt").write_text("words")
    (save / "silent.png").write_bytes((save / "picture0.png").read_bytes())
    facts = write_index("image_text", tmp_path / "pairs", tmp_path / "a", notify=lambda text: None)
    assert facts["clips"] == 3 and {k: list(v) for k, v in facts["skipped"].items()} == {
        "it is no image": ["deep/broken"],
        "it has no text": ["deep/silent"],
    }
    folders.shard(tmp_path / "tars" / "00000.tar", extra={"x.pkl": pickle.dumps(print), "y.png": b"no picture"})
    facts = write_index("shards", tmp_path / "tars", tmp_path / "b", notify=lambda text: None)
    assert facts["clips"] == 3 and set(facts["skipped"]) == {"it has no picture", "it has no text"}
    for name, root in (("a", "pairs"), ("b", "tars")):
        index = ClipIndex(tmp_path / name)
        for i in range(3):
            clip = index.clip(i)
            assert clip.prompt == f"picture number {i}" and clip.kind == "image"
            loaded = torch.tensor(np.array(load_frames(tmp_path / root, clip, [0])[0]))
            assert (loaded / 255 - folders.picture(i)).abs().max() < 1 / 200

    (tmp_path / "list").mkdir()
    folders.video(tmp_path / "list" / "v.mp4")
    shutil.copy(save / "picture1.png", tmp_path / "list")
    lines = [
        {"image": "picture1.png", "text": "one"}, {"video": "v.mp4", "caption": "two"}, {"prompt": "three"},
        {"image": "../pairs/deep/picture0.png", "text": "outside"}, {"image": "picture1.png"},
    ]  # fmt: skip
    (tmp_path / "list" / "list.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n{bad\n")
    (tmp_path / "list" / "table.csv").write_text("path,text\npicture1.png,four\n")
    facts = write_index("listing", tmp_path / "list", tmp_path / "c", notify=lambda text: None)
    assert facts["kinds"] == {"image": 2, "video": 1, "prompt": 1}
    assert sorted(facts["skipped"]) == [
        "it has no text", "its file is missing or lies outside the folder", "its line is no JSON object",
    ]  # fmt: skip
    folders.video(tmp_path / "clips" / "v.mp4", 120)
    (tmp_path / "clips" / "v.txt").write_text("a fade")
    write_index("videos", tmp_path / "clips", tmp_path / "d", notify=lambda text: None)
    clip = ClipIndex(tmp_path / "d").clip(0)
    for frames in ([0, 5, 39], [70, 75, 119], [119]):  # from the start, and after a seek
        levels = [picture.getpixel((20, 16))[0] / 255 for picture in load_frames(tmp_path / "clips", clip, frames)]
        assert levels == pytest.approx([i / 120 for i in frames], abs=0.004)


def test_broken_clips_are_skipped_and_counted(tmp_path):
    folders.mvimgnet(tmp_path / "set")
    good = tmp_path / "set" / "7" / "instance0"
    broken = {name: tmp_path / "set" / "7" / name for name in ("empty_sparse", "no_images", "cut", "other_shape")}
    for path in broken.values():
        shutil.copytree(good, path)
    for file in (broken["empty_sparse"] / "sparse" / "0").iterdir():
        file.unlink()
    shutil.rmtree(broken["no_images"] / "images")
    (broken["no_images"] / "images").mkdir()
    images = broken["cut"] / "sparse" / "0" / "images.bin"
    images.write_bytes(images.read_bytes()[:-100])
    for path in (broken["other_shape"] / "images").iterdir():
        from PIL import Image

        Image.new("RGB", (40, 40)).save(path)
    (tmp_path / "set" / "7" / "instance1" / "images" / "004.png").unlink()
    said = []
    facts = write_index("mvimgnet", tmp_path / "set", tmp_path / "index", notify=said.append)
    assert facts["clips"] == 2 and {reason: list(clips) for reason, clips in facts["skipped"].items()} == {
        "there is no camera model in sparse/0": ["7/empty_sparse"],
        "its images are missing": ["7/no_images"],
        "its cameras cannot be read": ["7/cut"],
        "its images have another shape than its cameras": ["7/other_shape"],
    }
    assert any("instance1: 1 of 30 images are missing" in text for text in said)
    index = ClipIndex(tmp_path / "index")
    assert index.frames.tolist() == [30, 29] and "7/images/004.png" not in index.clip(1).frames
    assert sum("skipped" in text for text in said) == 4


def test_cameras_of_broken_layouts_do_not_stop_an_index(tmp_path):
    folders.dl3dv(tmp_path / "dl3dv")
    shutil.copytree(tmp_path / "dl3dv" / "1K" / "hash0", tmp_path / "dl3dv" / "2K" / "bad")
    (tmp_path / "dl3dv" / "2K" / "bad" / "transforms.json").write_text("{")
    folders.wildrgbd(tmp_path / "wild")
    (tmp_path / "wild" / "apple" / "scenes" / "scenes_0000" / "metadata").write_text("[]")
    shutil.rmtree(tmp_path / "wild" / "apple" / "scenes" / "scenes_0001" / "rgb")
    folders.realestate10k(tmp_path / "re10k")
    shutil.rmtree(tmp_path / "re10k" / "frames" / "train" / "clip0")
    found = {
        name: write_index(reader, tmp_path / name, tmp_path / f"{name}_index", notify=lambda text: None)
        for name, reader in (("dl3dv", "dl3dv"), ("wild", "wildrgbd"), ("re10k", "realestate10k"))
    }
    assert [facts["clips"] for facts in found.values()] == [2, 1, 1]
    assert all(sum(map(len, facts["skipped"].values())) == 1 for facts in found.values())
    assert ClipIndex(tmp_path / "wild_index").clip(0).frames == ()  # without pictures it serves for its path


def test_names_never_lead_out_of_the_folder(tmp_path):
    """A camera file of a stranger that names images elsewhere, and a link that leads there."""
    folders.dl3dv(tmp_path / "set")
    secret = tmp_path / "secret"
    secret.mkdir()
    shutil.copytree(tmp_path / "set" / "1K" / "hash0" / "images_4", secret / "images_4")
    shutil.rmtree(tmp_path / "set" / "1K" / "hash0" / "images_4")
    os.symlink(secret / "images_4", tmp_path / "set" / "1K" / "hash0" / "images_4")
    facts = write_index("dl3dv", tmp_path / "set", tmp_path / "index", notify=lambda text: None)
    assert facts["clips"] == 1 and list(facts["skipped"]) == ["its images are missing"]


def test_wrong_folders_are_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme.md").write_text("words")
    for name in READERS:
        with pytest.raises(FlashWorldError, match="There is no folder"):
            write_index(name, tmp_path / "missing", tmp_path / "index")
        with pytest.raises(FlashWorldError, match="is empty; the layout of"):
            write_index(name, tmp_path / "empty", tmp_path / "index")
        with pytest.raises(FlashWorldError, match="holds nothing of") as caught:
            write_index(name, tmp_path / "other", tmp_path / "index")
        assert layout_of(name) in str(caught.value)
    with pytest.raises(FlashWorldError, match="There is no data set 'kitti'; known are"):
        write_index("kitti", tmp_path / "other", tmp_path / "index")
    with pytest.raises(FlashWorldError, match="make one: python -m flashworld_core.training index"):
        ClipIndex(tmp_path / "index")


def test_an_index_goes_to_other_processes_and_knows_what_changed(sets, tmp_path):
    root, index = sets["wildrgbd"]
    again = pickle.loads(pickle.dumps(index))
    assert torch.equal(again.clip(1).poses, index.clip(1).poses)
    shutil.copytree(root, tmp_path / "set")
    write_index("wildrgbd", tmp_path / "set", tmp_path / "index", notify=lambda text: None)
    path = tmp_path / "set" / "apple" / "scenes" / "scenes_0000" / "cam_poses.txt"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(FlashWorldError, match="has changed since it was indexed.*index again"):
        load_frames(tmp_path / "set", ClipIndex(tmp_path / "index").clip(0), [0])


def test_compressed_and_damaged_shards_are_named(tmp_path):
    folders.shard(tmp_path / "tars" / "a.tar")
    (tmp_path / "tars" / "b.tar.gz").write_bytes(b"")
    (tmp_path / "tars" / "c.tar").write_bytes(b"no tar at all" * 100)
    data = (tmp_path / "tars" / "a.tar").read_bytes()
    with tarfile.open(tmp_path / "tars" / "a.tar") as archive:
        last = archive.getmembers()[-2]
    (tmp_path / "tars" / "d.tar").write_bytes(data[: last.offset_data + 100])  # in the middle of the last picture
    facts = write_index("shards", tmp_path / "tars", tmp_path / "index", notify=lambda text: None)
    assert facts["clips"] == 5
    assert set(facts["skipped"]) == {"the shard is compressed", "the shard is damaged"}
    index = ClipIndex(tmp_path / "index")
    assert all(load_frames(tmp_path / "tars", index.clip(i), [0]) for i in range(5))
