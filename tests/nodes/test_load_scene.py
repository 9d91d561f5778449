"""Load Scene: files of any format from the host's folders, and what it says about them."""

from __future__ import annotations

import shutil

import pytest
import torch
from flashworld_pack.flashworld_core.errors import FlashWorldError
from flashworld_pack.flashworld_core.formats.scenes import FORMATS, write_scene
from flashworld_pack.flashworld_core.gaussians import FIRST_VIEW, Gaussians
from flashworld_pack.flashworld_core.trajectories.comfyui import to_load3d
from flashworld_pack.flashworld_core.trajectories.presets import make_trajectory
from flashworld_pack.nodes import load_scene, sockets
from flashworld_pack.nodes.load_scene import LoadScene
from scene_fixtures import DATA

READABLE = [name for name, known in FORMATS.items() if known.read]


def scene(n=50, metadata=None):
    g = torch.Generator().manual_seed(0)
    quats = torch.nn.functional.normalize(torch.randn(n, 4, generator=g), dim=1)
    sh = torch.rand(n, 4, 3, generator=g) * 0.2
    return Gaussians(
        torch.randn(n, 3, generator=g),
        quats,
        torch.rand(n, 3, generator=g),
        torch.rand(n, generator=g),
        sh,
        metadata or {},
    )


@pytest.mark.parametrize("name", READABLE)
def test_every_format(host, name):
    file = "a" + FORMATS[name].extensions[0]
    write_scene(host.input / file, scene())
    splat, camera = LoadScene.execute(file).args[:2]
    made = sockets.gaussians_from_splat(splat)
    assert len(made) == 50 and camera["cameraType"] == "perspective"
    assert float(made.means.mean(0).sub(scene().means.mean(0)).abs().max()) < 0.01
    assert "50 Gaussians, SH degree" in host.server.texts[-1][0]


def test_what_the_file_tells_reaches_the_node(host):
    view = to_load3d(make_trajectory("static", views=1, width=100, height=200, vertical_fov_degrees=70))
    write_scene(
        host.output / "a.ply", scene(metadata={FIRST_VIEW: view, "generator": "x", "seed": 7, "filter": "antialiased"})
    )
    output = LoadScene.execute("a.ply [output]")
    assert output.args[1]["fov"] == pytest.approx(70)
    assert output.args[0].metadata["seed"] == 7
    text = output.ui["text"][0]
    assert all(word in text for word in ("SH degree 1", "antialiased filter", "made by x", "seed 7")), text


def test_axes_and_budget(host):
    write_scene(host.input / "a.splat", scene())
    plain = sockets.gaussians_from_splat(LoadScene.execute("a.splat").args[0])
    turned = sockets.gaussians_from_splat(LoadScene.execute("a.splat", axes="y up").args[0])
    assert torch.equal(turned.means, plain.means * torch.tensor([1.0, -1, -1]))
    lying = sockets.gaussians_from_splat(LoadScene.execute("a.splat", axes="z up").args[0])
    torch.testing.assert_close(lying.means, plain.means[:, [0, 2, 1]] * torch.tensor([1.0, -1, 1]))
    output = LoadScene.execute("a.splat", max_gaussians=10)
    assert len(sockets.gaussians_from_splat(output.args[0])) == 10 and "10 Gaussians of 50" in output.ui["text"][0]
    with pytest.raises(FlashWorldError, match="^Load Scene: axes must be one of"):
        LoadScene.execute("a.splat", axes="x up")


def test_the_list_holds_both_folders_and_unpacked_scenes(host):
    write_scene(host.input / "b.spz", scene())
    (host.output / "deep").mkdir()
    write_scene(host.output / "deep" / "c.compressed.ply", scene())
    shutil.copytree(DATA / "files" / "sog_v2_d1_folder", host.input / "sogs" / "room")
    (host.input / "notes.txt").write_text("no scene")
    assert load_scene.scene_names() == ["b.spz", "sogs/room", "deep/c.compressed.ply [output]"]
    assert len(sockets.gaussians_from_splat(LoadScene.execute("sogs/room").args[0])) == 257


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("missing.ply", "is not in ComfyUI's input folder"),
        ("../secret.ply", "leads out of the folder"),
        ("/etc/passwd", "absolute path"),
        ("picture.png", "is no scene file; what can be read"),
        ("bad.spz", "cut short"),
    ],
)
def test_mistakes_name_the_node(host, file, message):
    (host.input / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    write_scene(host.input / "good.spz", scene())
    (host.input / "bad.spz").write_bytes((host.input / "good.spz").read_bytes()[:-40])
    with pytest.raises(FlashWorldError, match=f"^Load Scene: .*{message}"):
        LoadScene.execute(file)
