"""Export Scene: the file, its sidecars, and nothing at all where something fails."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from flashworld_pack.flashworld_core.errors import FlashWorldError
from flashworld_pack.flashworld_core.formats.scenes import read_scene
from flashworld_pack.flashworld_core.gaussians import FIRST_VIEW, Gaussians
from flashworld_pack.flashworld_core.media import export as media
from flashworld_pack.flashworld_core.trajectories.comfyui import to_load3d
from flashworld_pack.flashworld_core.trajectories.presets import make_trajectory
from flashworld_pack.nodes import export, sockets
from flashworld_pack.nodes.comfyui.run import NodeRun
from flashworld_pack.nodes.export import ExportScene
from PIL import Image

METADATA = {"generator": "flashworld", "seed": 5, "scene_scale": 1.5, "prompt_sha256": "ab"}
PROMPT = {"7": {"class_type": "FlashWorld_ExportScene", "inputs": {}, "is_changed": [float("nan")]}}
WORKFLOW = {"nodes": [{"id": 7}], "version": 0.4}


def scene(n=400, degree=2, metadata=METADATA):
    """A red slab 3 units ahead."""
    g = torch.Generator().manual_seed(0)
    sh = torch.randn(n, (degree + 1) ** 2, 3, generator=g) * 0.05
    sh[:, 0] = torch.tensor([1.7, -1.7, -1.7])
    return Gaussians(
        torch.rand(n, 3, generator=g) * torch.tensor([2.0, 2, 0.2]) + torch.tensor([-1.0, -1, 3]),
        torch.nn.functional.normalize(torch.randn(n, 4, generator=g), dim=1),
        torch.rand(n, 3, generator=g) * 0.1 + 0.05,
        torch.rand(n, generator=g) * 0.4 + 0.5,
        sh,
        dict(metadata),
    )


@pytest.fixture
def node(host, monkeypatch):
    """The node with what the host hides in it."""
    hidden = SimpleNamespace(prompt=PROMPT, extra_pnginfo={"workflow": WORKFLOW})
    monkeypatch.setattr(ExportScene, "hidden", hidden, raising=False)
    return ExportScene


def run(node, start=None, prefix="FlashWorld/scene", **values):
    return node.execute(sockets.splat_from_gaussians(scene() if start is None else start), prefix, **values)


def files(host):
    return sorted(p.relative_to(host.output).as_posix() for p in host.output.rglob("*") if p.is_file())


def test_every_input_says_what_it_does(host):
    schema = ExportScene.GET_SCHEMA()
    ids = [
        "splat",
        "filename_prefix",
        "format",
        "camera",
        "sh_degree",
        "quality",
        "axes",
        "max_gaussians",
        "trajectory",
    ]
    assert [i.id for i in schema.inputs] == ids
    assert all(i.optional for i in schema.inputs[3:]), "saved workflows have none of them"
    assert schema.is_output_node and schema.inputs[2].options[0] == "ply"
    assert all(len(thing.tooltip) > 15 for thing in (*schema.inputs, *schema.outputs))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_what_is_written_is_read_back(host, node, degree):
    start = scene(degree=degree)
    output = run(node, start)
    path = host.output / "FlashWorld" / "scene_00001_.ply"
    assert files(host) == [f"FlashWorld/scene_00001_.{e}" for e in ("json", "ply", "png")]
    again = read_scene(path)
    for field in ("means", "quats", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(again, field), getattr(start, field), rtol=1e-5, atol=1e-6)
    assert again.metadata == METADATA
    assert (output[0].format, output[0].get_source()) == ("ply", str(path))
    result = {"filename": "scene_00001_.ply", "subfolder": "FlashWorld", "type": "output"}
    assert {key: output.ui[key] for key in ("3d", "images")} == {
        "3d": [result],
        "images": [{**result, "filename": "scene_00001_.png"}],
    }
    assert host.server.texts[-1][0].startswith("Saved FlashWorld/scene_00001_.ply: 400 Gaussians, 0.")
    values = [value for value, _, _ in host.updates]
    assert values == sorted(values) and values[-1] == 1000


@pytest.mark.parametrize("format", export.WRITABLE)
def test_every_format(host, node, format):
    options = {"sh_degree": "1", "quality": "high", "axes": "y-up", "max_gaussians": 300}
    output = run(node, prefix="a", format=format, **options)
    path = host.output / f"a_00001_.{format}"
    assert output[0].get_source() == str(path) and len(files(host)) == 3
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["gaussians"] == 300
    if format == "html":
        assert b'"cameras": [{' in path.read_bytes()
        return
    assert told["axes"].startswith("x right, y up")
    made = read_scene(path, frame="opengl" if format in ("splat", "ksplat") else "auto")
    assert len(made) == 300 and made.sh_degree == (0 if format == "splat" else 1)
    start = scene()
    for row in made.means[:5]:
        assert (start.means - row).norm(dim=1).min() < 0.01  # back in the scene's axes


def test_a_page_gets_the_path(host, node):
    path = make_trajectory("pan:-20", views=7, width=400, height=200, vertical_fov_degrees=50)
    run(node, prefix="a", format="html", trajectory=path)
    text = (host.output / "a_00001_.html").read_text()
    about = json.loads(text.split('id="about">')[1].split("</script>")[0])
    assert len(about["cameras"]) == 7 and about["title"] == "a_00001"


def test_the_story_travels_beside_the_file(host, node):
    run(node, prefix="a")
    with Image.open(host.output / "a_00001_.png") as picture:
        assert json.loads(picture.text["workflow"]) == WORKFLOW
        assert json.loads(picture.text["prompt"])["7"]["class_type"] == "FlashWorld_ExportScene"
    text = (host.output / "a_00001_.json").read_text()
    assert "NaN" not in text
    told = json.loads(text)
    assert (told["file"], told["gaussians"], told["sh_degree"]) == ("a_00001_.ply", 400, 2)
    assert told["metadata"] == METADATA and told["workflow"] == WORKFLOW
    assert told["prompt"]["7"]["is_changed"] == [None]
    assert told["preview_camera"]["cameraType"] == "perspective"


def test_a_huge_workflow_stays_out_of_the_header(host, node):
    node.hidden.extra_pnginfo = {"workflow": {"nodes": ["x" * 10_000] * 100}}
    run(node, prefix="a")
    head = (host.output / "a_00001_.ply").read_bytes()
    assert b"workflow" not in head and head.index(b"end_header") < 64 * 1024


def test_metadata_can_be_disabled(host, node, monkeypatch):
    monkeypatch.setattr(export, "metadata_disabled", lambda: True)
    run(node, prefix="a")
    with Image.open(host.output / "a_00001_.png") as picture:
        assert picture.text == {}
    told = json.loads((host.output / "a_00001_.json").read_text())
    assert "workflow" not in told and "prompt" not in told and told["gaussians"] == 400


def test_without_a_workflow(host, node):
    node.hidden.prompt = node.hidden.extra_pnginfo = None
    run(node, prefix="a")
    assert "prompt" not in json.loads((host.output / "a_00001_.json").read_text())


def picture(host, name="a_00001_"):
    with Image.open(host.output / f"{name}.png") as image:
        return torch.from_numpy(np.array(image)) / 255


def red(image):
    return (image[..., 0] > 0.7) & (image[..., 1] < 0.4)


def test_the_preview_is_seen_from_the_camera_given(host, node):
    left = make_trajectory("pan:-20", views=2, width=400, height=200, vertical_fov_degrees=50)
    run(node, prefix="a", camera=to_load3d(left, 1))
    image = picture(host)
    assert image.shape == (352, 704, 3)
    seen = red(image).nonzero().float().mean(dim=0)
    assert float(seen[1]) > 450 and abs(float(seen[0]) - 176) < 20  # what is ahead is on the right from there
    assert image[5, 5].tolist() == [1, 1, 1]


def test_of_a_list_of_cameras_the_first_is_the_preview(host, node):
    turn = make_trajectory("pan:-40", views=3, width=400, height=200, vertical_fov_degrees=50)
    infos = [to_load3d(turn, i) for i in (1, 2)]
    output = run(node, prefix="a", camera=infos)
    assert "The camera input holds 2 cameras; the first is used." in output.ui["flashworld_text"]
    alone = picture(host)
    run(node, prefix="a", camera=infos[0])
    assert torch.equal(picture(host), alone)


def test_the_preview_is_seen_from_the_generation_camera(host, node):
    tall = make_trajectory("static", views=1, width=100, height=200, vertical_fov_degrees=70)
    run(node, scene(metadata={**METADATA, FIRST_VIEW: to_load3d(tall)}), prefix="a")
    assert picture(host).shape == (704, 352, 3)
    assert 0.05 < float(red(picture(host)).float().mean()) < 0.5
    assert read_scene(host.output / "a_00001_.ply").metadata[FIRST_VIEW]["fov"] == pytest.approx(70)


@pytest.mark.parametrize("known", [None, 5, {}, {"position": {"x": "NaN"}, "aspect": "wide"}, {"aspect": 1e300}])
def test_the_preview_takes_everything_in_where_no_camera_is_known(host, node, known):
    run(node, scene(metadata={FIRST_VIEW: known}), prefix="a")
    image = picture(host)
    assert image.shape == (480, 704, 3)
    rows, columns = red(image).nonzero().unbind(1)
    assert len(rows) > 5000 and int(rows.min()) > 0 and int(rows.max()) < 479
    assert abs(float(columns.float().mean()) - 352) < 30


# --- failing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "exe"}, "there is no format 'exe'; choose one of: "),
        ({"axes": "z-up"}, "axes must be one of source, y-up"),
        ({"camera": "front"}, "needs a LOAD3D_CAMERA, got str"),
        ({"camera": {"position": {"x": 0, "y": 0, "z": 0}}}, "target must have"),
        ({"prefix": "../scene"}, "leads out of the folder"),
        ({"prefix": "/etc/scene"}, "absolute path"),
        ({"prefix": "a/con/scene"}, "reserves"),
        ({"prefix": "scene\0"}, "characters"),
        ({"prefix": ""}, "needs a name"),
    ],
)
def test_wrong_values_name_the_node_and_leave_nothing(host, node, values, message):
    with pytest.raises(FlashWorldError, match=f"^Export Scene: .*{message}"):
        run(node, **values)
    assert list(host.output.rglob("*")) == []


def test_a_broken_scene_is_refused_with_a_remedy(host, node):
    start = scene()
    start.sh[3, 1, 2] = float("nan")
    with pytest.raises(FlashWorldError, match="^Export Scene: 1 of the scene's 400 Gaussians .* Clean Scene"):
        run(node, start)
    with pytest.raises(FlashWorldError, match="^Export Scene: the scene is empty"):
        run(node, scene()[:0])
    assert files(host) == []


@pytest.mark.parametrize("moment", ["preview", "write"])
def test_cancel_leaves_nothing(host, node, monkeypatch, moment):
    """While the picture is drawn, and while the rows are written."""
    begin = 0 if moment == "preview" else 201
    progress = NodeRun.progress

    def stop(self, done, total, preview=None):
        progress(self, done, total, preview)
        host.management.interrupted = done > begin

    monkeypatch.setattr(NodeRun, "progress", stop)
    big = scene(60_000 if moment == "write" else 100)
    if moment == "write":
        big = Gaussians(big.means, big.quats, big.scales * 0.02, big.opacities, big.sh)
    else:
        host.management.interrupted = True
    with pytest.raises(host.management.InterruptProcessingException):
        run(node, big)
    assert files(host) == []


@pytest.mark.parametrize("broken", ["save_json", "save_png"])
def test_a_failing_sidecar_takes_the_scene_with_it(host, node, monkeypatch, broken):
    def full(*_):
        raise OSError(28, "No space left on device")

    (host.output / "scene_00001_.ply").write_text("another one")
    monkeypatch.setattr(media, broken, full)
    with pytest.raises(OSError, match="No space"):
        run(node, prefix="scene")
    assert files(host) == ["scene_00001_.ply"]
    assert (host.output / "scene_00001_.ply").read_text() == "another one"


def test_numbers_count_up(host, node):
    for _ in range(3):
        run(node, prefix="a")
    assert [name for name in files(host) if name.endswith(".ply")] == [f"a_0000{i}_.ply" for i in (1, 2, 3)]
