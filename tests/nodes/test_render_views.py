"""Render Scene Views: any SPLAT, along a path or from one camera, and what is refused."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from flashworld_pack.flashworld_core.errors import FlashWorldError
from flashworld_pack.flashworld_core.gaussians import Gaussians
from flashworld_pack.flashworld_core.rendering import render as core_render
from flashworld_pack.flashworld_core.trajectories.comfyui import to_load3d
from flashworld_pack.flashworld_core.trajectories.presets import make_trajectory
from flashworld_pack.nodes import sockets
from flashworld_pack.nodes.comfyui import memory as renderer
from flashworld_pack.nodes.comfyui.run import NodeRun
from flashworld_pack.nodes.render import RenderViews

SIZE = {"width": 48, "height": 32}
COLORS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0)}


def room(degree=0, metadata=None):
    """A red wall 2 units ahead on the left half, a green one 4 units ahead on the right."""
    scenes = []
    for color, depth, xs in (("red", 2.0, (-2.0, -0.4)), ("green", 4.0, (0.8, 4.0))):
        step = 0.05 * depth
        grid = torch.cartesian_prod(torch.arange(*xs, step), torch.arange(-1.2 * depth, 1.2 * depth, step))
        n = len(grid)
        sh = torch.zeros(n, (degree + 1) ** 2, 3)
        sh[:, 0] = (torch.tensor(COLORS[color]) - 0.5) / 0.28209479
        scenes.append(
            (
                torch.cat([grid, torch.full((n, 1), depth)], 1),
                torch.tensor([1.0, 0, 0, 0]).expand(n, 4),
                torch.tensor([step, step, 1e-3]).expand(n, 3),
                torch.full((n,), 0.99),
                sh,
            )
        )
    return Gaussians(*(torch.cat(parts) for parts in zip(*scenes, strict=True)), metadata or {})


@pytest.fixture
def splat():
    return sockets.splat_from_gaussians(room())


@pytest.fixture
def path():
    return make_trajectory("truck:0.2", views=3, **SIZE)


def test_every_input_says_what_it_does(host):
    schema = RenderViews.GET_SCHEMA()
    assert [i.id for i in schema.inputs] == [
        "splat", "width", "height", "frames", "background", "hole_threshold", "sh_degree", "softness",
        "trajectory", "camera",
    ]  # fmt: skip
    assert [o.display_name for o in schema.outputs] == ["images", "mask", "depth", "normal", "holes"]
    assert all(len(thing.tooltip) > 15 for thing in (*schema.inputs, *schema.outputs))


def test_large_pictures_are_as_soft_as_the_generation_views(host, path):
    scene = room(metadata={"focal_px": float(path.intrinsics[:, 0, 0].mean())})
    thin = sockets.splat_from_gaussians(dataclasses.replace(scene, scales=scene.scales * 0.3))
    covered = {
        softness: RenderViews.execute(thin, width=192, height=128, softness=softness, trajectory=path)[1][:, 40:90, :60]
        for softness in ("as generated", "sharp")
    }
    assert float(covered["sharp"].min()) < 0.5 < 0.6 < float(covered["as generated"].min())


def test_a_path_becomes_pictures(host, splat, path):
    images, mask, depth, normal, holes = RenderViews.execute(splat, trajectory=path, background="#0000ff").args
    assert images.shape == depth.shape == normal.shape == (3, 32, 48, 3)
    assert mask.shape == holes.shape == (3, 32, 48)
    for picture in (images, mask, depth, normal, holes):
        assert picture.dtype == torch.float32 and float(picture.min()) >= 0 and float(picture.max()) <= 1
    middle = images[0, 16]
    assert middle[5].argmax() == 0 and middle[40].argmax() == 1  # red left, green right
    gap = int(mask[0, 16].argmin())
    assert middle[gap].argmax() == 2 and holes[0, 16, gap] == 1 and depth[0, 16, gap, 0] < 0.2
    assert float(depth[0, 16, 5, 0]) > 0.95 and float(depth[0, 16, 44, 0]) < 0.1
    torch.testing.assert_close(normal[0, 16, 5], torch.tensor([0.5, 0.5, 1.0]), rtol=0, atol=0.05)
    assert not torch.equal(images[0], images[2])
    assert any(re.match(r"Depth: white is 2(\.\d+)?, black 4", text) for text, _ in host.server.texts)
    assert [u[0] for u in host.updates] == [1, 2, 3] and host.updates[-1][2][0] == "JPEG"


def test_size_and_frames(host, splat, path):
    images = RenderViews.execute(splat, 24, 0, 5, trajectory=path)[0]
    assert images.shape == (5, 32, 24, 3)
    same = RenderViews.execute(splat, 48, 32, 3, trajectory=path)[0]
    assert torch.equal(same, RenderViews.execute(splat, trajectory=path)[0])
    torch.testing.assert_close(images[::2], same[:, :, 12:36], rtol=0, atol=0.02)  # cropped in the middle


def test_a_lone_camera(host, splat, path):
    info = to_load3d(path, 1)
    image = RenderViews.execute(splat, 48, 32, camera=info)[0]
    torch.testing.assert_close(image[0], RenderViews.execute(splat, trajectory=path)[0][1], rtol=0, atol=2e-3)
    assert RenderViews.execute(splat, camera=info)[0].shape == (1, 480, 704, 3)
    assert RenderViews.execute(splat, 16, 16, 3, camera=info)[0].shape == (3, 16, 16, 3)


def test_a_list_of_cameras_is_filmed_as_it_is(host, splat, path):
    infos = [to_load3d(path, i) for i in range(3)]
    filmed = RenderViews.execute(splat, 48, 32, camera=infos)[0]
    torch.testing.assert_close(filmed, RenderViews.execute(splat, trajectory=path)[0], rtol=0, atol=2e-3)
    assert torch.equal(RenderViews.execute(splat, 48, 32, camera=infos[1:2])[0], filmed[1:2])
    assert RenderViews.execute(splat, 16, 16, 5, camera=tuple(infos))[0].shape == (5, 16, 16, 3)
    for broken, message in (
        ([], "needs 1 to 10,000 cameras, got a list of 0"),
        ([infos[0], 7], "number 1 of it is int"),
        ([infos[0], {**infos[1], "cameraType": "orthographic"}], r"camera\[1\] cannot be used. a perspective camera"),
    ):
        with pytest.raises(FlashWorldError, match=f"^Render Scene Views: .*{message}"):
            RenderViews.execute(splat, 48, 32, camera=broken)


def test_the_path_wins_over_the_camera_and_says_so(host, splat, path):
    away = to_load3d(make_trajectory("pan:180", views=2, **SIZE), 1)
    image = RenderViews.execute(splat, trajectory=path, camera=away)[0]
    assert float(image.max()) > 0.5
    assert any("the trajectory is rendered" in text for text, _ in host.server.texts)
    RenderViews.execute(splat, 16, 16, camera=away)
    assert any("Nothing of the scene is in sight" in text for text, _ in host.server.texts)


def test_a_splat_of_another_node(host, path):
    """A batch, padded, without metadata, in half precision: its first scene's real rows."""
    scene = room()
    fields = [torch.stack([t, t]).half() for t in (scene.means, scene.scales, scene.quats)]

    class Foreign:
        positions, scales, rotations = fields
        opacities = torch.stack([scene.opacities, scene.opacities])[..., None].half()
        sh = torch.stack([scene.sh, scene.sh]).half()
        counts = torch.tensor([len(scene) // 2, len(scene)])

    images = RenderViews.execute(Foreign(), trajectory=path)[0]
    assert images[0, 16, 5].argmax() == 0 and images.shape == (3, 32, 48, 3)


def test_view_dependent_color(host, path):
    scene = room(degree=1)
    scene.sh[:, 2, 2] = 1.0  # blue to the front
    splat = sockets.splat_from_gaussians(scene)
    glossy, matt = (RenderViews.execute(splat, sh_degree=d, trajectory=path)[0] for d in (3, 0))
    assert float(glossy[0, 16, 5, 2]) > 0.3 and float(matt[0, 16, 5, 2]) < 0.05


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trajectory": None}, "nothing to render from: connect a camera path"),
        ({"trajectory": "path"}, "needs a camera path"),
        ({"trajectory": None, "camera": "info"}, "needs a LOAD3D_CAMERA, got str"),
        ({"trajectory": None, "camera": {}}, "position"),
        ({"background": "blau"}, "background must be a color like #4080ff"),
        ({"width": 8192, "height": 8192, "frames": 10_000}, "GiB of main memory.*Use fewer frames"),
        ({"splat": None}, "needs a SPLAT"),
    ],
)
def test_wrong_values_name_the_node_and_the_remedy(host, splat, path, values, message):
    with pytest.raises(FlashWorldError, match=f"^Render Scene Views: .*{message}"):
        RenderViews.execute(**{"splat": splat, "trajectory": path, **values})


@pytest.mark.parametrize("field", ["positions", "scales", "rotations", "opacities", "sh"])
def test_nan_is_counted_and_clean_scene_recommended(host, splat, path, field):
    getattr(splat, field)[0, 3:5] = float("nan")
    with pytest.raises(FlashWorldError, match="^Render Scene Views: 2 of the scene's .* Clean Scene"):
        RenderViews.execute(splat, trajectory=path)


def test_cancel_stops_within_one_view(host, splat, path, monkeypatch):
    def stop_after_one(self, done, total, preview=None):
        host.management.interrupted = True
        calls.append(done)

    calls = []
    monkeypatch.setattr(NodeRun, "progress", stop_after_one)
    with pytest.raises(host.management.InterruptProcessingException):
        RenderViews.execute(splat, trajectory=path)
    assert calls == [1]


def test_the_inputs_are_not_changed(host, splat, path):
    before = [t.clone() for t in splat._comfy_cache_tensors()]
    with torch.inference_mode():
        RenderViews.execute(splat, trajectory=path)
    assert all(torch.equal(a, b) for a, b in zip(before, splat._comfy_cache_tensors(), strict=True))


def test_half_precision_hosts(host, splat, path, monkeypatch):
    monkeypatch.setattr(host.management, "intermediate_dtype", lambda: torch.float16, raising=False)
    assert all(picture.dtype == torch.float16 for picture in RenderViews.execute(splat, trajectory=path).args)


# --- where it renders -----------------------------------------------------------------------------------------------


@pytest.fixture
def cuda_host(host, monkeypatch):
    monkeypatch.setattr(host.management, "get_torch_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(core_render, "has_backend", lambda name: True)
    monkeypatch.setattr(host.management, "freed", [])
    return host


def test_on_a_graphics_card_room_is_asked_for(cuda_host):
    said = []
    assert renderer.on_render_device(room(), lambda device: device.type, said.append) == "cuda"
    assert cuda_host.management.freed[0] >= 3 * 4 * 14 * len(room()) and said == []


def test_out_of_memory_falls_back_to_the_cpu_and_says_so(cuda_host):
    said, tried = [], []

    def work(device):
        tried.append(device.type)
        if device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "done"

    assert renderer.on_render_device(room(), work, said.append) == "done"
    assert tried == ["cuda", "cpu"] and len(said) == 1 and "CPU" in said[0]
    with pytest.raises(ZeroDivisionError):
        renderer.on_render_device(room(), lambda device: 1 / 0, said.append)


def test_a_card_without_the_fast_renderer_is_not_used(cuda_host, monkeypatch):
    monkeypatch.setattr(core_render, "has_backend", lambda name: False)
    assert renderer.on_render_device(room(), lambda device: device.type, print) == "cpu"
