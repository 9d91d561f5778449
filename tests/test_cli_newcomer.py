"""The command line as a newcomer uses it: many scenes at once, paths of other programs, info on anything, maps."""

import json
import re

import av
import numpy as np
import pytest
import torch
from PIL import Image

from flashworld_core.cli import main
from flashworld_core.formats.cameras import read_cameras, write_cameras
from flashworld_core.formats.scenes import read_scene, write_scene
from flashworld_core.gaussians import Gaussians
from flashworld_core.trajectories.presets import make_trajectory


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def drawing(path, width, height):
    pixels = np.full((height, width, 3), (150, 190, 230), np.uint8)
    pixels[height // 2 :] = (110, 150, 90)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    path = tmp_path_factory.mktemp("scene") / "scene.ply"
    draw = torch.Generator().manual_seed(0)
    means = torch.randn(500, 3, generator=draw) + torch.tensor([0.0, 0.0, 4.0])
    quats = torch.eye(4)[:1].expand(500, 4)
    write_scene(
        path, Gaussians(means, quats, torch.full((500, 3), 0.2), torch.full((500,), 0.8), torch.ones(500, 1, 3))
    )
    return path


def test_several_scenes_load_the_model_once(capsys, tmp_path, monkeypatch):
    from flashworld_core.generators.flashworld import checkpoint

    loads = []
    load = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda *a, **k: loads.append(a) or load(*a, **k))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    drawing(pictures / "a.png", 96, 64), drawing(pictures / "b.png", 64, 96)
    (pictures / "notes.txt").write_text("no picture")
    code, out, err = run(
        capsys, "generate", "--image", pictures, "--seeds", "3-4", "--steps", 1, "--views", 2, "--size", "picture",
        "--no-video", "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    names = ["000_a_seed3", "001_a_seed4", "002_b_seed3", "003_b_seed4"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(report) == names and [entry["seed"] for entry in report.values()] == [3, 4, 3, 4]
    assert [entry["size"] for entry in report.values()] == [[96, 64], [96, 64], [64, 96], [64, 96]]
    assert all((tmp_path / "out" / name / "scene.ply").is_file() for name in names)
    assert Image.open(tmp_path / "out" / "contact_sheet.png").height > 400
    assert len(loads) == 1


def test_a_list_in_a_file(capsys, tmp_path):
    drawing(tmp_path / "a.png", 96, 64)
    lines = [{"image": "a.png", "seed": 5, "name": "First one"}, {"prompt": "a red ball", "trajectory": "truck:0.2"}]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    code, out, err = run(
        capsys, "generate", "--request", tmp_path / "list.jsonl", "--steps", 1, "--views", 2, "--no-video", "--out",
        tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads((tmp_path / "out" / "report.json").read_text())["000_first_one"]["seed"] == 5
    made = read_cameras(tmp_path / "out" / "001_a_red_ball" / "cameras.json")
    assert made.positions[-1, 0] == pytest.approx(0.2, abs=1e-4)
    assert "hardly follows words" in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"image": "missing.png"}', "line 1: .*missing.png: no such file"),
        ('{"picture": "a.png"}', "line 1: must be an object with some of the keys image"),
        ('{"prompt": "x", "seed": -1}', "seed must be a whole number"),
        ("{}", "needs an image"),
        ("", "holds no line"),
    ],
)
def test_a_bad_list_is_refused_before_the_model_loads(capsys, tmp_path, monkeypatch, line, message):
    from flashworld_core.generators.flashworld import checkpoint

    monkeypatch.setattr(checkpoint, "load", lambda *a, **k: pytest.fail("the model was loaded"))
    (tmp_path / "list.jsonl").write_text(line)
    code, _, err = run(capsys, "generate", "--request", tmp_path / "list.jsonl", "--out", tmp_path / "out")
    assert code == 1
    assert re.search(message, err), err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", ["100x100", "96x60"])
def test_sizes_are_checked_before_the_model_loads(capsys, tmp_path, monkeypatch, size):
    from flashworld_core.generators.flashworld import checkpoint

    monkeypatch.setattr(checkpoint, "load", lambda *a, **k: pytest.fail("the model was loaded"))
    code, _, err = run(capsys, "generate", "--prompt", "x", "--size", size, "--out", tmp_path / "out")
    assert code == 1 and "multiple of 8" in err


@pytest.mark.parametrize("shape", [(768, 768), (540, 960)])
def test_a_path_of_another_program_with_any_picture(capsys, tmp_path, shape):
    """The most natural line of all: a square or portrait picture beside a nerfstudio path of 704x480."""
    path = tmp_path / "transforms.json"
    write_cameras(path, make_trajectory("orbit", views=24, width=704, height=480))
    code, _, err = run(
        capsys, "generate", "--image", drawing(tmp_path / "p.png", *shape), "--trajectory", path, "--views", 4,
        "--steps", 1, "--no-video", "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    said = [line for line in err.splitlines() if "cropped" in line]
    assert len(said) == 1 and f"{shape[0]}x{shape[1]}" in said[0] and "views of 96x64" in said[0]
    assert "24 cameras are resampled to 4" in err
    made, given = read_cameras(tmp_path / "out" / "cameras.json"), read_cameras(path)
    assert (made.width, made.height) == (96, 64)
    # The picture's crop stands for what the cameras see, so their field of view is kept (the height is cut a little).
    assert made.intrinsics[0, 0, 0] / 96 == pytest.approx(given.intrinsics[0, 0, 0].item() / 704, rel=0.02)
    assert made.intrinsics[0, 0, 0] == pytest.approx(made.intrinsics[0, 1, 1].item(), rel=0.01)


def test_convert_size_rescales_a_path(capsys, tmp_path):
    path = tmp_path / "transforms.json"
    write_cameras(path, make_trajectory("orbit", views=6, width=704, height=480))
    code, out, err = run(capsys, "convert", path, tmp_path / "small.json", "--size", "96x64", "--views", 3)
    assert code == 0 and "3 cameras of 96x64" in out and "Scaled from 704x480 and cropped" in err
    small, given = read_cameras(tmp_path / "small.json"), read_cameras(path)
    assert len(small) == 3 and (small.width, small.height) == (96, 64)
    assert small.intrinsics[0, 0, 0] == pytest.approx(given.intrinsics[0, 0, 0].item() * 96 / 704, rel=1e-4)


def test_degree_3_of_a_flat_scene_is_said_to_be_larger(capsys, scene, tmp_path):
    code, _, err = run(capsys, "convert", scene, tmp_path / "a.ply", "--sh-degree", 3)
    assert code == 0 and "makes the file larger" in err
    assert len(read_scene(tmp_path / "a.ply")) == 500


def test_maps_as_16_bit_pictures_and_as_one_file(capsys, scene, tmp_path):
    for maps in ("npy", "png16", "npz", "none"):
        code, _, err = run(
            capsys, "render", scene, "--views", 2, "--size", "40x30", "--modes", "depth,normal", "--maps", maps,
            "--no-video", "--out", tmp_path / maps,
        )  # fmt: skip
        assert code == 0, err
    names = {maps: {f.name for f in (tmp_path / maps / "depth").iterdir()} for maps in ("npy", "png16", "npz", "none")}
    pictures = {"0000.png", "0001.png"}
    assert names["none"] == pictures and names["npy"] == pictures | {"0000.npy", "0001.npy"}
    assert names["npz"] == pictures | {"depth.npz"}
    assert names["png16"] == pictures | {"0000_16bit.png", "0001_16bit.png", "scale.json"}

    depth = np.load(tmp_path / "npy" / "depth" / "0001.npy")
    assert np.array_equal(np.load(tmp_path / "npz" / "depth" / "depth.npz")["depth"][1], depth) and (depth > 0).any()
    step = json.loads((tmp_path / "png16" / "depth" / "scale.json").read_text())["world_units_per_step"]
    stored = np.asarray(Image.open(tmp_path / "png16" / "depth" / "0001_16bit.png")).astype(np.float64)
    assert stored.max() > 10_000  # all sixteen bits are used
    assert np.abs(stored * step - depth).max() <= step and np.array_equal(stored == 0, depth == 0)

    normals = np.load(tmp_path / "npz" / "normal" / "normal.npz")["normal"][1]
    with av.open(str(tmp_path / "png16" / "normal" / "0001_16bit.png"), format="png_pipe") as container:
        stored = next(container.decode(video=0)).to_ndarray().astype(np.float64)
    assert stored.shape == (30, 40, 3)
    assert np.abs((stored - 32768) / 32767 - normals).max() < 1 / 32767


def test_info_knows_what_people_have(capsys, scene, tmp_path):
    from flashworld_core.media.export import save_video

    save_video(tmp_path / "v.mp4", torch.rand(5, 32, 48, 3), 10)
    drawing(tmp_path / "p.jpg", 64, 48)
    (tmp_path / "report.json").write_text(json.dumps({"model_id": "m", "gaussians": 3, "seconds": 1.5}))
    for name, said in (
        ("v.mp4", ["what: video", "48x32", "frames: 5", "frames_per_second: 10"]),
        ("p.jpg", ["what: picture", "64x48", "JPEG"]),
        ("report.json", ["report of a generation", "gaussians: 3"]),
    ):
        code, out, err = run(capsys, "info", tmp_path / name)
        assert code == 0 and all(text in out for text in said), out + err
    code, out, _ = run(capsys, "info", scene, "--json")
    facts = json.loads(out)
    low, high = (tuple(map(float, corner.split(","))) for corner in facts["bounding_box"].split(" to "))
    means = read_scene(scene).means
    assert low == pytest.approx(means.amin(0).tolist(), rel=1e-3)
    assert high == pytest.approx(means.amax(0).tolist(), rel=1e-3)
    assert facts["opacity_10_50_90_percent"].startswith("0.8 |") and facts["bytes_per_gaussian"] > 10


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.txt", b"hello", "a text file"),
        ("a.pdf", b"%PDF-1.7\n\xff\xfe", "a PDF document"),
        ("a.dat", bytes(range(256)), "a binary file of an unknown kind"),
        ("a.json", b'{"a": 1}', "JSON of another kind"),
        ("a.dat", b"", "empty"),
    ],
)
def test_info_names_what_it_does_not_know(capsys, tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    code, _, err = run(capsys, "info", tmp_path / name)
    assert code == 1 and f"{name} is {kind}" in err and "info knows" in err
