"""Camera Path, Load Camera Path and Save Camera Path: paths, files, and what is refused."""

from __future__ import annotations

import inspect
import json
import os

import pytest
import torch
from flashworld_pack.flashworld_core.errors import FlashWorldError
from flashworld_pack.flashworld_core.formats.cameras import FORMATS, colmap, write_cameras
from flashworld_pack.flashworld_core.geometry import vertical_fov_degrees
from flashworld_pack.flashworld_core.trajectories.comfyui import from_load3d, to_load3d, wan_camera_embedding
from flashworld_pack.flashworld_core.trajectories.presets import PRESETS, make_trajectory
from flashworld_pack.nodes.trajectory import CameraPath, WanCamera
from flashworld_pack.nodes.trajectory_files import LoadCameraPath, SaveCameraPath

SIZE = {"width": 64, "height": 48}
NODES = (CameraPath, LoadCameraPath, SaveCameraPath, WanCamera)


def inputs_of(node):
    return {i.id: i for i in node.GET_SCHEMA().inputs}


def run(node, **values):
    """Execute with the schema's defaults where ``values`` names none; the host fills widgets in the same way."""
    defaults = {i.id: i.default for i in inputs_of(node).values() if getattr(i, "default", None) is not None}
    return node.execute(**{**defaults, **values})


def camera_path(**values):
    return run(CameraPath, **{"frames": 5, **SIZE, **values})


@pytest.mark.parametrize("node", NODES)
def test_every_input_says_what_it_does(host, node):
    schema = node.GET_SCHEMA()
    assert schema.node_id.startswith("FlashWorld_") and schema.description
    for thing in (*schema.inputs, *schema.outputs):
        assert thing.tooltip and len(thing.tooltip) > 15, thing.id
    accepted = inspect.signature(node.execute).parameters
    extra = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    assert all(name in accepted or extra for name in inputs_of(node))


def test_the_order_of_the_widgets_is_the_saved_workflows(host):
    assert list(inputs_of(CameraPath))[:13] == [
        "source", "preset", "amount", "moves", "frames", "width", "height", "field_of_view", "focus_distance",
        "easing", "turns", "keyframes", "path_file",
    ]  # fmt: skip
    assert [o.id for o in CameraPath.GET_SCHEMA().outputs] == ["trajectory", "camera", "wan_camera", "cameras"]
    assert list(inputs_of(LoadCameraPath)) == [
        "file", "frames", "width", "height", "up", "dataparser", "image_width", "image_height",
    ]  # fmt: skip
    assert list(inputs_of(SaveCameraPath)) == ["trajectory", "filename_prefix", "format"]


# --- presets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_the_cores(host, preset):
    path = camera_path(preset=preset, amount=-0.4, turns=1.5, focus_distance=2.5, field_of_view=50.0, easing="ease_in")
    options = {"turns": 1.5, "focus_distance": 2.5, "vertical_fov_degrees": 50.0, "easing": "ease_in"}
    expected = make_trajectory(preset, amount=-0.4, views=5, **SIZE, **options)
    assert torch.equal(path[0].camera_to_world, expected.camera_to_world)
    assert torch.equal(path[0].intrinsics, expected.intrinsics)


@pytest.mark.parametrize("moves", ["dolly_in:0.3+pan:10", " + dolly_in:0.3 + pan:10 "])
def test_more_moves_follow_the_preset(host, moves):
    path = camera_path(amount=45.0, moves=moves)[0]
    expected = make_trajectory("orbit:45+dolly_in:0.3+pan:10", views=5, **SIZE)
    assert torch.equal(path.camera_to_world, expected.camera_to_world)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "loop the loop"}, "unknown preset"),
        ({"moves": "dolly_in:fast"}, "must be a number"),
        ({"amount": float("nan")}, "finite number"),
        ({"frames": 0}, "views must be"),
        ({"frames": 10**9}, "views must be"),
        ({"focus_distance": 0.0}, "focus_distance must be positive"),
        ({"field_of_view": 180.0}, "field of view"),
        ({"easing": "bounce"}, "easing must be one of"),
        ({"source": "keyframes", "keyframes": "{"}, "not valid JSON"),
        ({"source": "keyframes", "keyframes": '{"version":1,"keyframes":[{}]}'}, r"keyframes\[0\]\.position"),
        ({"source": "file"}, "path_file is none"),
    ],
)
def test_wrong_values_name_the_node(host, values, message):
    with pytest.raises(FlashWorldError, match=f"^FlashWorld Camera Path: .*{message}"):
        camera_path(**values)


def test_the_first_view_comes_out_as_a_camera(host):
    path, info, _, infos = camera_path(preset="arc", amount=40.0, focus_distance=3.0, field_of_view=35.0).args
    back = from_load3d(info, **SIZE)
    torch.testing.assert_close(back.camera_to_world[0], path.camera_to_world[0])
    torch.testing.assert_close(back.intrinsics[0], path.intrinsics[0])
    position, target = (torch.tensor([info[key][axis] for axis in "xyz"]) for key in ("position", "target"))
    assert float((position - target).norm()) == pytest.approx(3.0, abs=1e-5)
    assert json.loads(json.dumps(info)) == info
    assert len(infos) == len(path) and infos[0] == info and infos[3] == to_load3d(path, 3, 3.0)


def test_the_wan_camera_has_a_node_of_its_own(host):
    path, _, moved, _ = camera_path(frames=6).args
    assert "Add the node Wan Camera Embedding" in moved.message
    embedding = run(WanCamera, trajectory=path).args[0]
    assert embedding.shape == (1, 24, 3, 48, 64)
    torch.testing.assert_close(embedding, wan_camera_embedding(path))
    assert any("6 views became 9" in text for text, _ in host.server.texts)


# --- key poses ------------------------------------------------------------------------------------------------------


KEYS = json.dumps(
    {
        "version": 1,
        "spline": "linear",
        "timing": "times",
        "loop": True,
        "keyframes": [
            {"position": [0, 0, 0], "quaternion": [1, 0, 0, 0], "time": 0},
            {"position": [0, 0, 2], "quaternion": [1, 0, 0, 0], "vertical_fov_degrees": 30, "time": 1},
        ],
    }
)


def test_keyframes_from_the_editor(host):
    path = camera_path(source="keyframes", keyframes=KEYS, field_of_view=70.0)[0]
    torch.testing.assert_close(path.positions[:, 2], torch.tensor([0.0, 1, 2, 1, 0]))
    fovs = vertical_fov_degrees(path.intrinsics, 48)
    torch.testing.assert_close(fovs[[0, 2, 4]], torch.tensor([70.0, 30, 70]), rtol=0, atol=1e-3)
    still = camera_path(source="keyframes")[0]
    assert torch.equal(still.camera_to_world, torch.eye(4).expand(5, 4, 4))


def infos():
    cameras = make_trajectory("truck:4", views=3, vertical_fov_degrees=40, **SIZE)
    return [to_load3d(cameras, i) for i in range(3)]


@pytest.mark.parametrize("new_host", [True, False])
def test_connected_cameras_are_the_keyframes(host, new_host):
    """Whatever the source; the document says how they are joined. Gaps between the sockets do not matter."""
    sockets = {f"camera{i * 3}": info for i, info in enumerate(infos())} | {"camera1": None}
    path = camera_path(source="preset", keyframes=KEYS, **({"cameras": sockets} if new_host else sockets))[0]
    torch.testing.assert_close(path.positions[:, 0], torch.tensor([0.0, 2, 4, 2, 0]), rtol=0, atol=1e-5)
    fovs = vertical_fov_degrees(path.intrinsics, 48)
    torch.testing.assert_close(fovs, torch.full((5,), 40.0), rtol=0, atol=1e-3)


def test_a_list_of_cameras_is_as_many_keyframes(host):
    straight = {"cameras": {f"camera{i}": info for i, info in enumerate(infos())}}
    for lists in ({"camera0": infos()}, {"camera0": infos()[:1], "camera3": infos()[1:]}):
        path = camera_path(keyframes=KEYS, cameras=lists)[0]
        assert torch.equal(path.camera_to_world, camera_path(keyframes=KEYS, **straight)[0].camera_to_world)
    with pytest.raises(FlashWorldError, match=r"camera1\[1\] cannot be used. a perspective"):
        camera_path(camera0=infos()[0], camera1=[infos()[0], {**infos()[1], "cameraType": "orthographic"}])
    with pytest.raises(FlashWorldError, match="30,000 cameras are connected"):
        camera_path(**{f"camera{i}": infos()[:1] * 10_000 for i in range(3)})


def test_the_list_of_a_path_makes_the_path_again(host):
    path, *_, made = camera_path(amount=90.0)
    again = camera_path(camera0=made)[0]
    torch.testing.assert_close(again.camera_to_world, path.camera_to_world, rtol=0, atol=2e-3)
    torch.testing.assert_close(again.intrinsics, path.intrinsics)


def test_an_unusable_camera_is_named(host):
    for info, message in (({**infos()[0], "cameraType": "orthographic"}, "perspective"), (5, "LOAD3D_CAMERA, got int")):
        with pytest.raises(FlashWorldError, match=f"^FlashWorld Camera Path: .*camera1 .*{message}"):
            camera_path(camera0=infos()[0], camera1=info)


def test_no_camera_connected_on_a_host_that_grows(host):
    path = camera_path(cameras={})[0]
    assert torch.equal(path.camera_to_world, make_trajectory("orbit", amount=30.0, views=5, **SIZE).camera_to_world)


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(host):
    """A path in every format in the input folder."""
    cameras = make_trajectory("orbit:60", views=4, vertical_fov_degrees=50, **SIZE)
    names = {
        "flashworld": "a.json",
        "nerfstudio": "sub/b.json",
        "colmap": "sub/model",
        "realestate10k": "c.txt",
        "inria": "d.json",
    }
    for kind, name in names.items():
        write_cameras(host.input / name, cameras, kind)
    return cameras, names


def test_lists_name_files_and_colmap_folders(host, files):
    (host.input / "notes.md").write_text("no path")
    (host.input / ".hidden.json").write_text("{}")
    (host.input / ".hidden").mkdir()
    (host.input / ".hidden" / "x.json").write_text("{}")
    options = inputs_of(LoadCameraPath)["file"].options
    assert options == [".hidden.json", "a.json", "c.txt", "d.json", "sub/b.json", "sub/model"]
    assert inputs_of(CameraPath)["path_file"].options == ["none", *options]
    write_cameras(host.input, files[0], "colmap")  # the input folder itself has no name: its files stand for it
    assert {"images.txt", "sub/model"} <= set(inputs_of(LoadCameraPath)["file"].options)
    assert len(LoadCameraPath.execute("images.txt")[0]) == 4


@pytest.mark.parametrize("kind", FORMATS)
def test_load_reads_every_format(host, files, kind):
    cameras, names = files
    path, info, infos = LoadCameraPath.execute(names[kind], 0, 0, 0).args
    assert len(infos) == len(path) and infos[0] == info
    torch.testing.assert_close(path.camera_to_world, cameras.camera_to_world, rtol=0, atol=1e-6)
    torch.testing.assert_close(path.intrinsics, cameras.intrinsics, rtol=0, atol=1e-4)
    torch.testing.assert_close(from_load3d(info, **SIZE).camera_to_world, path.camera_to_world[:1])


def test_load_resamples_and_crops(host, files):
    path = LoadCameraPath.execute("a.json", 7, 96, 48)[0]
    assert len(path) == 7 and (path.width, path.height) == (96, 48)
    torch.testing.assert_close(path.camera_to_world[::2], files[0].camera_to_world, rtol=0, atol=1e-6)
    k = path.intrinsics[0]
    assert k[0, 0] == k[1, 1] and float(k[0, 0]) == pytest.approx(1.5 * float(files[0].intrinsics[0, 0, 0]), rel=1e-6)
    assert k[:2, 2].tolist() == [48, 24]


def test_camera_path_reads_a_file(host, files):
    path = camera_path(source="file", path_file="sub/model", frames=7)[0]
    torch.testing.assert_close(path.camera_to_world[::2], files[0].camera_to_world, rtol=0, atol=1e-6)
    (host.output / "kept.json").write_bytes((host.input / "a.json").read_bytes())
    assert len(camera_path(source="file", path_file="kept.json [output]")[0]) == 5


def test_camera_path_turns_and_moves_a_file_into_the_scenes_world(host):
    """As Load Camera Path and ``render`` do: the axis that points up, nerfstudio's dataparser, the images' size."""
    cameras = make_trajectory("orbit:60", views=4, **SIZE)
    write_cameras(host.input / "a.json", cameras, "inria")
    parser = {"transform": [[1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0]], "scale": 0.5}
    (host.input / "dataparser_transforms.json").write_text(json.dumps(parser))
    common = {"source": "file", "path_file": "a.json", "frames": 4}
    for world in ({}, {"up": "z up"}, {"dataparser": "beside the file"}):
        made = camera_path(**common, **world)[0]
        loaded = LoadCameraPath.execute("a.json", **world)[0]
        torch.testing.assert_close(made.camera_to_world, loaded.camera_to_world, rtol=0, atol=1e-6)
        assert bool(world) != torch.allclose(made.camera_to_world, cameras.camera_to_world, atol=1e-3)
    frame = {"fl_x": 64.0, "transform_matrix": torch.eye(4).tolist()}
    (host.input / "b.json").write_text(json.dumps({"frames": [frame], "scale": 2}))
    with pytest.raises(FlashWorldError, match="on the node image_width"):
        camera_path(source="file", path_file="b.json")
    output = camera_path(source="file", path_file="b.json", image_width=128, image_height=96)
    assert float(output[0].intrinsics[0, 0, 0]) == 32
    assert any("scale is ignored" in line for line in output.ui["flashworld_text"])
    for world in ({"up": "x up"}, {"dataparser": "somewhere"}):
        with pytest.raises(FlashWorldError, match="must be one of"):
            camera_path(**common, **world)


def test_a_file_without_a_size_takes_the_nodes(host):
    row = "0 0.5 0.75 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0\n"
    (host.input / "clip.txt").write_text("https://example.org\n" + row)
    path = camera_path(source="file", path_file="clip.txt", frames=1)[0]
    assert path.intrinsics[0].tolist() == [[32, 0, 32], [0, 36, 24], [0, 0, 1]]
    with pytest.raises(FlashWorldError, match="^Load Camera Path: 'clip.txt' .*width and height"):
        LoadCameraPath.execute("clip.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not valid JSON"), ("{}", "neither"), ("\0\1", "no camera path"), ('{"cameras":[]}', "holds no cameras")],
)
def test_unreadable_files_are_named_with_a_remedy(host, content, message):
    (host.input / "bad.json").write_text(content)
    for attempt in (
        lambda: LoadCameraPath.execute("bad.json"),
        lambda: camera_path(source="file", path_file="bad.json"),
    ):
        with pytest.raises(FlashWorldError, match=f"^(Load|FlashWorld) Camera Path: 'bad.json' .*choose.*{message}"):
            attempt()
    with pytest.raises(
        FlashWorldError, match="^Load Camera Path: the camera path 'gone.json' is not in ComfyUI's input"
    ):
        LoadCameraPath.execute("gone.json")


def test_hostile_names_are_refused(host, tmp_path):
    outside = tmp_path / "secret.json"
    write_cameras(outside, make_trajectory("pan", views=2, **SIZE))
    (host.input / "link.json").symlink_to(outside)
    for name in ("../secret.json", str(outside), "..\\secret.json", "link.json", "a\0b", "../secret.json [output]", ""):
        for attempt in (
            lambda name=name: LoadCameraPath.execute(name),
            lambda name=name: camera_path(source="file", path_file=name),
        ):
            with pytest.raises(FlashWorldError):
                attempt()
        assert LoadCameraPath.fingerprint_inputs(name) is not None


def test_a_request_cannot_ask_for_pictures_elsewhere(host, tmp_path):
    from PIL import Image

    Image.new("RGB", (150, 90)).save(tmp_path / "photo.png")
    write_cameras(host.input / "a.json", make_trajectory("pan", views=2, **SIZE))
    data = json.loads((host.input / "a.json").read_text()) | {"image_prompt": str(tmp_path / "photo.png")}
    (host.input / "a.json").write_text(json.dumps(data))
    with pytest.raises(FlashWorldError, match="names no file"):
        LoadCameraPath.execute("a.json")


def test_fingerprints_follow_the_file(host, files):
    before = {name: LoadCameraPath.fingerprint_inputs(name) for name in files[1].values()}
    assert before == {name: LoadCameraPath.fingerprint_inputs(name, frames=3) for name in before}
    for name in ("a.json", "sub/model/images.txt"):
        os.utime(host.input / name, ns=(1, 1))
    after = {name: LoadCameraPath.fingerprint_inputs(name) for name in before}
    assert {name for name in before if before[name] != after[name]} == {"a.json", "sub/model"}
    assert CameraPath.fingerprint_inputs(source="preset", path_file="a.json") == ""
    assert CameraPath.fingerprint_inputs(source="file", path_file="a.json") == after["a.json"]


@pytest.mark.parametrize("kind", FORMATS)
def test_save_writes_what_load_reads(host, kind):
    cameras = make_trajectory("spiral", views=6, **SIZE)
    for number in (1, 2):
        output = SaveCameraPath.execute(cameras, "paths/move", kind)
        assert output[0] is cameras
        (name,) = output.ui["text"]
        assert name.startswith(f"paths/move_0000{number}_")
        path = LoadCameraPath.execute(f"{name} [output]", 0, 64, 48)[0]
        torch.testing.assert_close(path.camera_to_world, cameras.camera_to_world, rtol=0, atol=1e-5)
        torch.testing.assert_close(path.intrinsics, cameras.intrinsics, rtol=0, atol=1e-3)
    assert len(list((host.output / "paths").iterdir())) == 2


@pytest.mark.parametrize("kind", FORMATS)
def test_a_failed_save_leaves_nothing(host, kind):
    cameras = make_trajectory("pan", views=2, **SIZE)
    cameras.intrinsics[:, 0, 1] = 3.0  # skew, which no file holds
    with pytest.raises(FlashWorldError, match="^Save Camera Path: .*skew"):
        SaveCameraPath.execute(cameras, "move", kind)
    assert list(host.output.iterdir()) == []
    for prefix in ("../move", "/tmp/move", "con", "a/../../b"):
        with pytest.raises(FlashWorldError, match="^Save Camera Path: filename_prefix"):
            SaveCameraPath.execute(cameras[:1], prefix, kind)
    with pytest.raises(FlashWorldError, match="^Save Camera Path: the trajectory input"):
        SaveCameraPath.execute("no path", "move", kind)
    assert list(host.output.iterdir()) == []


def test_a_full_disk_leaves_no_folder(host, monkeypatch):
    def full(texts):
        folder = next(iter(texts)).parent
        folder.mkdir(parents=True)
        (folder / "cameras.txt").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(colmap, "write_texts", full)
    with pytest.raises(OSError, match="No space"):
        SaveCameraPath.execute(make_trajectory("pan", views=2, **SIZE), "move", "colmap")
    assert list(host.output.iterdir()) == []


def test_an_unknown_format_is_refused(host):
    with pytest.raises(FlashWorldError, match="format must be one of .*'usd'"):
        SaveCameraPath.execute(make_trajectory("pan", views=2, **SIZE), "move", "usd")
