"""The command line, run in this process on the embedded model and on files it made."""

import json

import av
import numpy as np
import pytest
import torch
from PIL import Image

from flashworld_core.cli import build_parser, main
from flashworld_core.cli.progress import ProgressBar
from flashworld_core.formats.cameras import read_cameras
from flashworld_core.formats.scenes import read_scene


@pytest.fixture(scope="module")
def scene_folder(tmp_path_factory):
    """What `generate` leaves, for a picture and a prompt."""
    out = tmp_path_factory.mktemp("generate")
    picture = out / "picture.png"
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[:60], pixels[60:] = (150, 190, 230), (110, 150, 90)
    Image.fromarray(pixels).save(picture)
    arguments = ["generate", "--image", str(picture), "--prompt", "a red box on a green ground under a blue sky"]
    code = main([*arguments, "--trajectory", "truck:0.3", "--seed", "5", "--steps", "2", "--out", str(out)])
    assert code == 0
    return out


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_generate_leaves_scene_path_report_sheet_and_video(scene_folder):
    report = json.loads((scene_folder / "report.json").read_text())
    scene = read_scene(scene_folder / "scene.ply")
    assert report["gaussians"] == len(scene) > 1000
    assert report["seed"] == 5 and report["timestep_indices"] == [0, 500] and report["seconds"] > 0
    assert scene.metadata["seed"] == 5
    cameras = read_cameras(scene_folder / "cameras.json")
    assert len(cameras) == report["views"] and [cameras.width, cameras.height] == report["size"]
    assert cameras.positions[-1, 0] == pytest.approx(0.3, abs=1e-4)
    assert np.asarray(Image.open(scene_folder / "contact_sheet.png")).std() > 5
    with av.open(str(scene_folder / "path.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) > 24
    assert np.abs(frames[0].astype(int) - frames[len(frames) // 2]).mean() > 0.5  # the camera moves


def test_the_same_seed_gives_the_same_scene(scene_folder, tmp_path):
    arguments = ["generate", "--image", str(scene_folder / "picture.png"), "--trajectory", "truck:0.3", "--no-video"]
    arguments += ["--prompt", "a red box on a green ground under a blue sky", "--steps", "2", "--seed"]
    assert main([*arguments, "5", "--out", str(tmp_path / "a"), "--views-per-chunk", "1"]) == 0
    assert main([*arguments, "6", "--out", str(tmp_path / "b")]) == 0
    first, again, other = (read_scene(f / "scene.ply") for f in (scene_folder, tmp_path / "a", tmp_path / "b"))
    assert torch.equal(first.means, again.means) and torch.equal(first.sh, again.sh)
    assert not torch.allclose(first.means, other.means)
    assert not (tmp_path / "a" / "path.mp4").exists()


def test_generate_from_text_alone(tmp_path, capsys):
    code, out, _ = run(
        capsys, "generate", "--prompt", "a blue sphere in a room with a grey floor and rose walls", "--steps", 1,
        "--no-video", "--out", tmp_path,
    )  # fmt: skip
    assert code == 0 and "Gaussians" in out
    assert json.loads((tmp_path / "report.json").read_text())["image_index"] is None


def test_generate_from_an_official_request(tmp_path, scene_folder, capsys):
    request = {
        "image_prompt": str(scene_folder / "picture.png"),
        "text_prompt": "a green ground",
        "cameras": [
            {"quaternion": [1, 0, 0, 0], "position": [0.1 * i, 0, 0], "fx": 130.0, "fy": 130.0, "cx": 80.0, "cy": 60.0}
            for i in range(3)
        ],
        "resolution": [4, 64, 96],
        "image_index": 1,
    }
    (tmp_path / "request.json").write_text(json.dumps(request))
    code, _, err = run(
        capsys,
        "generate",
        "--request",
        tmp_path / "request.json",
        "--steps",
        1,
        "--no-video",
        "--out",
        tmp_path / "out",
    )
    assert code == 0, err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["views"] == 4 and report["image_index"] == 1 and report["prompt"] == "a green ground"
    # The picture is 160x120 and the views 96x64: the crop keeps the width, so the focal length scales by 0.6.
    made = read_cameras(tmp_path / "out" / "cameras.json")
    assert made.intrinsics[0, 0, 0] == pytest.approx(130 * 96 / 160, rel=0.02)


def test_render_writes_every_mode(scene_folder, tmp_path, capsys):
    code, out, _ = run(
        capsys, "render", scene_folder / "scene.ply", "--trajectory", scene_folder / "cameras.json", "--modes",
        "rgb,depth,alpha,normal", "--views", 3, "--size", "48x32", "--out", tmp_path,
    )  # fmt: skip
    assert code == 0 and "3 views" in out
    for mode in ("rgb", "depth", "alpha", "normal"):
        assert np.asarray(Image.open(tmp_path / mode / "0002.png")).shape == (32, 48, 3)
        assert (tmp_path / f"{mode}.mp4").stat().st_size > 0
    depth = np.load(tmp_path / "depth" / "0000.npy")
    assert depth.shape == (32, 48) and depth.dtype == np.float32 and (depth > 0).any()


def test_render_takes_presets(scene_folder, tmp_path, capsys):
    code, _, err = run(
        capsys, "render", scene_folder / "scene.ply", "--trajectory", "orbit:10+dolly_in:0.1", "--views", 4, "--size",
        "32x32", "--no-video", "--background", "0,0,0", "--out", tmp_path,
    )  # fmt: skip
    assert code == 0, err
    assert len(list((tmp_path / "rgb").iterdir())) == 4


def test_convert_scenes(scene_folder, tmp_path, capsys):
    target = tmp_path / "small.ply"
    code, out, _ = run(capsys, "convert", scene_folder / "scene.ply", target, "--max-gaussians", 100, "--sh-degree", 3)
    assert code == 0 and "100 of" in out
    small = read_scene(target)
    assert len(small) == 100 and small.sh_degree == 3


def test_convert_to_several_formats(scene_folder, tmp_path, capsys):
    code, out, err = run(
        capsys, "convert", scene_folder / "scene.ply", tmp_path / "made", "--to", "spz,sog,compressed-ply,ksplat,glb",
        "--quality", "high", "--max-gaussians", 50,
    )  # fmt: skip
    assert code == 0, err
    names = {"scene.spz", "scene.sog", "scene.compressed.ply", "scene.ksplat", "scene.glb"}
    assert {path.name for path in (tmp_path / "made").iterdir()} == names
    assert all(len(read_scene(tmp_path / "made" / name)) == 50 for name in names)
    code, out, _ = run(capsys, "info", tmp_path / "made" / "scene.spz")
    assert code == 0 and "SPZ version 3" in out and "gaussians: 50" in out


def test_convert_a_folder(scene_folder, tmp_path, capsys):
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    assert run(capsys, "convert", scene_folder / "scene.ply", scenes / "a.spz", "--max-gaussians", 20)[0] == 0
    assert run(capsys, "convert", scene_folder / "scene.ply", scenes / "b.ply", "--max-gaussians", 30)[0] == 0
    (scenes / "bad.ply").write_bytes(b"ply\nformat ascii 1.0\nend_header\n")
    (scenes / "notes.txt").write_text("no scene")
    code, out, err = run(capsys, "convert", scenes, tmp_path / "splats", "--to", "splat", "--axes", "y-up")
    assert code == 1 and "1 of 3 scenes could not be converted" in err and "bad.ply" in err
    assert {path.name: len(read_scene(path)) for path in (tmp_path / "splats").iterdir()} == {
        "a.splat": 20,
        "b.splat": 30,
    }


def test_convert_says_what_a_format_has_not(scene_folder, tmp_path, capsys):
    code, _, err = run(capsys, "convert", scene_folder / "scene.ply", tmp_path / "a.splat", "--sh-degree", 1)
    assert code == 1 and ".splat files have no --sh-degree" in err
    code, _, err = run(capsys, "convert", scene_folder / "scene.ply", "--to", "ply")
    assert code == 1 and "would replace the file it is made from" in err
    assert not list(tmp_path.iterdir())


def test_convert_paths_through_every_format(scene_folder, tmp_path, capsys):
    source = scene_folder / "cameras.json"
    for name in ("transforms.json", "path.txt", "colmap", "back.json"):
        assert run(capsys, "convert", source, tmp_path / name)[0] == 0
        source = tmp_path / name
    there, back = read_cameras(scene_folder / "cameras.json"), read_cameras(source)
    assert torch.allclose(there.camera_to_world, back.camera_to_world, atol=1e-5)
    assert torch.allclose(there.intrinsics, back.intrinsics, atol=1e-3)


def test_info_of_scene_path_and_model(scene_folder, capsys):
    code, out, _ = run(capsys, "info", scene_folder / "scene.ply", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["what"] == "scene" and facts["metadata"]["seed"] == 5
    code, out, _ = run(capsys, "info", scene_folder / "cameras.json")
    assert code == 0 and "views: 8" in out and "camera path" in out
    from flashworld_core.generators import EMBEDDED

    code, out, _ = run(capsys, "info", EMBEDDED["tiny"])
    assert code == 0 and "checkpoint" in out and "flashworld-tiny" in out and "Apache-2.0" in out


def test_plan_of_the_official_sizes(capsys):
    code, out, _ = run(capsys, "plan", "--views-per-chunk", 4)
    assert code == 0
    transformer = next(line for line in out.splitlines() if line.startswith("transformer"))
    assert float(transformer.split()[1]) == pytest.approx(10.1, abs=0.1)  # 5.03 billion weights in two bytes each


def test_checkpoint_convert(tmp_path, capsys):
    from flashworld_core.generators import EMBEDDED

    target = tmp_path / "model.safetensors"
    code, out, err = run(capsys, "checkpoint", "convert", EMBEDDED["tiny"], target, "--dtype", "bf16")
    assert code == 0, err
    code, out, _ = run(capsys, "info", target, "--json")
    facts = json.loads(out)
    assert facts["kind"] == "flashworld" and facts["dtypes"]["bfloat16"] > facts["dtypes"].get("float32", 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate"], "--image, --prompt or both"),
        (["generate", "--image", "missing.png"], "no such file"),
        (["generate", "--prompt", "x", "--trajectory", "loop"], "neither a file nor a preset"),
        (["generate", "--prompt", "x", "--model", "missing.ckpt"], "missing.ckpt"),
        (["generate", "--prompt", "x", "--size", "100x64"], "multiple of 8"),
        (["generate", "--prompt", "x", "--steps", "two"], "--steps"),
        (["generate", "--prompt", "x", "--steps", "500,0"], "rise"),
        (["generate", "--request", "missing.json"], "missing.json"),
        (["render", "missing.ply"], "missing.ply"),
        (["render", "scene.xyz"], "scene.xyz"),
        (["convert", "missing.ply"], "no such file"),
        (["render", "missing.ply", "--modes", "rgb,heat"], "heat"),
        (["convert", "missing.ply", "out.ply"], "no such file"),
        (["info", "missing"], "no such file"),
        (["checkpoint", "convert", "missing.ckpt", "out.safetensors"], "missing.ckpt"),
    ],
)
def test_mistakes_end_with_one_clear_line(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *arguments)
    assert code == 1
    assert message in err and "Traceback" not in err
    assert err.startswith("flashworld: ") and len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_not_a_picture(capsys, tmp_path):
    (tmp_path / "a.png").write_text("<html>")
    code, _, err = run(capsys, "generate", "--image", tmp_path / "a.png", "--out", tmp_path / "out")
    assert code == 1 and "a.png" in err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [["generate", "--size", "big"], ["render"], ["nonsense"], ["render", "x.ply", "--background", "9,9"]]
)  # noqa: E501
def test_wrong_usage_exits_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_every_command_explains_itself(capsys):
    parser = build_parser()
    for command in ("generate", "render", "convert", "info", "plan", "demo", "checkpoint"):
        with pytest.raises(SystemExit) as exit_info:
            parser.parse_args([command, "--help"])
        assert exit_info.value.code == 0
        assert len(capsys.readouterr().out) > 200


def test_ctrl_c_is_not_a_crash(capsys, monkeypatch):
    import flashworld_core.cli.info as info

    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "run", interrupted)
    code, _, err = run(capsys, "info", "x")
    assert code == 130 and "Stopped" in err


def test_progress_bar_without_a_terminal(capsys):
    with ProgressBar("work") as progress:
        for i in range(101):
            progress(i, 100)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11 and "100 %" in lines[-1]


def test_a_path_is_turned_and_moved_into_another_world(capsys, tmp_path):
    """``generate`` and ``convert`` take the same words for it as ``render``."""
    from flashworld_core.cli.jobs import _request
    from flashworld_core.formats.cameras import write_cameras
    from flashworld_core.generators.base import GeneratorInfo
    from flashworld_core.trajectories.presets import make_trajectory

    path, parser = tmp_path / "cameras.json", tmp_path / "dataparser_transforms.json"
    write_cameras(path, make_trajectory("orbit:60", views=4, width=96, height=64), "inria")
    parser.write_text(json.dumps({"transform": [[1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0]], "scale": 0.5}))
    as_it_is = read_cameras(path)
    for words, expected in (
        ((), as_it_is),
        (("--up", "z"), read_cameras(path, up="z")),
        (("--dataparser", str(parser)), read_cameras(path, dataparser=parser)),
    ):
        options = build_parser().parse_args(["generate", "--prompt", "a", "--trajectory", str(path), *words])
        info = GeneratorInfo("x", "x", views=4, width=96, height=64)
        made = _request(options, info, None, None, "a", 0, 0).cameras
        torch.testing.assert_close(made.camera_to_world, expected.camera_to_world)
        assert bool(words) != torch.allclose(made.camera_to_world, as_it_is.camera_to_world)
        out = tmp_path / "out.json"
        assert run(capsys, "convert", path, out, *words, "--format", "inria")[0] == 0
        torch.testing.assert_close(read_cameras(out).camera_to_world, expected.camera_to_world)
