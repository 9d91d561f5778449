"""Preview Scene: what goes to the browser, the view as a camera and as a picture."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from flashworld_pack.flashworld_core.errors import FlashWorldError
from flashworld_pack.flashworld_core.formats.scenes.stream import read_stream
from flashworld_pack.flashworld_core.gaussians import Gaussians
from flashworld_pack.flashworld_core.rendering.render import render
from flashworld_pack.flashworld_core.trajectories.comfyui import from_load3d, to_load3d
from flashworld_pack.flashworld_core.trajectories.presets import make_trajectory
from flashworld_pack.nodes import preview, preview_stream, sockets
from flashworld_pack.nodes.comfyui import api
from flashworld_pack.nodes.preview import PreviewScene

VIEW = {"position": [0.1, -0.2, -0.5], "quaternion": [0.98, 0.05, 0.1, 0.0], "vertical_fov_degrees": 50}


def scene(n=400, **metadata) -> Gaussians:
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.rand(*shape, generator=g)  # noqa: E731
    means = torch.stack([draw(n) * 2 - 1, draw(n) * 2 - 1, draw(n) + 2], -1)
    quats = torch.nn.functional.normalize(draw(n, 4) - 0.5, dim=-1)
    sh = (draw(n, 4, 3) - 0.5) * torch.tensor([2.0, 1, 1, 1])[:, None]
    return Gaussians(means, quats, draw(n, 3) * 0.2 + 0.02, draw(n) * 0.9 + 0.1, sh, metadata)


def run_node(splat, **inputs):
    """(what the browser gets, camera, image)"""
    output = PreviewScene.execute(splat, **{"width": 96, "height": 64, **inputs})
    assert list(output.ui) == [preview.UI_KEY, "flashworld_text"] and isinstance(output.ui[preview.UI_KEY], list)
    json.dumps(output.ui)
    camera, image = output.result
    return output.ui[preview.UI_KEY][0], camera, image


def test_schema_order_is_the_saved_order():
    schema = PreviewScene.GET_SCHEMA()
    assert [i.id for i in schema.inputs] == ["splat", "view", "width", "height", "budget", "trajectory", "camera"]
    assert [o.display_name for o in schema.outputs] == ["camera", "image"] and schema.is_output_node
    assert all(i.tooltip for i in schema.inputs)


def test_stream_is_in_the_temp_folder_and_holds_the_scene(host):
    shown, _, _ = run_node(sockets.splat_from_gaussians(scene()), budget=300)
    assert shown["type"] == "temp" and (shown["count"], shown["total"], shown["sh_degree"]) == (300, 400, 1)
    read, info = read_stream(host.temp / shown["subfolder"] / shown["filename"])
    assert info.count == 300 and set(map(tuple, read.means.tolist())) < set(map(tuple, scene().means.tolist()))


def test_opens_at_the_first_camera_of_the_path(host):
    path = make_trajectory("orbit:20", views=5, width=96, height=64, vertical_fov_degrees=40)
    shown, camera, _ = run_node(sockets.splat_from_gaussians(scene()), trajectory=path)
    assert len(shown["cameras"]) == 5 and shown["view"]["position"] == shown["cameras"][0]["position"]
    assert shown["cameras"][0]["vertical_fov_degrees"] == pytest.approx(40, abs=1e-4)
    assert torch.allclose(from_load3d(camera, 96, 64).camera_to_world, path[0].camera_to_world, atol=1e-5)


def test_opens_at_a_connected_camera_and_at_the_first_of_a_list(host):
    path = make_trajectory("orbit:20", views=5, width=96, height=64, vertical_fov_degrees=40)
    there = make_trajectory("truck:2", views=2, width=96, height=64, vertical_fov_degrees=30)
    infos = [to_load3d(there, i) for i in (1, 0)]
    for given in (infos[0], infos):
        shown, camera, _ = run_node(sockets.splat_from_gaussians(scene()), trajectory=path, camera=given)
        assert torch.allclose(from_load3d(camera, 96, 64).camera_to_world, there[1].camera_to_world, atol=1e-5)
        assert shown["view"]["vertical_fov_degrees"] == pytest.approx(30, abs=1e-4) and len(shown["cameras"]) == 5
    said = [text for text, _ in host.server.texts]
    assert said == ["The camera input holds 2 cameras; the first is used."]
    view = '{"position": [0, 0, -1], "quaternion": [1, 0, 0, 0]}'
    _, camera, _ = run_node(sockets.splat_from_gaussians(scene()), view=view, camera=infos[0])
    assert camera["position"] == {"x": 0, "y": 0, "z": 1}


def test_without_a_path_a_generated_scene_is_seen_from_the_origin_and_another_one_whole(host):
    shown, _, _ = run_node(sockets.splat_from_gaussians(scene(generator="flashworld")))
    assert shown["view"]["position"] == [0, 0, 0] and shown["view"]["quaternion"] == [1, 0, 0, 0]
    elsewhere = scene()
    elsewhere.means[:, 0] += 50
    _, camera, image = run_node(sockets.splat_from_gaussians(elsewhere))
    assert camera["position"]["x"] == pytest.approx(50, abs=0.2)
    edge = torch.cat([image[0, 0, :, 3], image[0, -1, :, 3], image[0, :, 0, 3], image[0, :, -1, 3]])
    assert image[0, ..., 3].max() > 0.9 and edge.mean() < 0.2


@pytest.mark.parametrize("size", [1e-4, 1e5])
def test_scenes_of_any_size_are_pictured(host, size):
    gaussians = scene(generator="flashworld")
    resized = dataclasses.replace(gaussians, means=gaussians.means * size, scales=gaussians.scales * size)
    wanted = run_node(sockets.splat_from_gaussians(gaussians))[2]
    torch.testing.assert_close(run_node(sockets.splat_from_gaussians(resized))[2], wanted, rtol=0, atol=2e-3)


def test_picture_is_the_renderers_at_the_view_with_straight_alpha(host):
    gaussians = scene()
    shown, camera, image = run_node(sockets.splat_from_gaussians(gaussians), view=json.dumps(VIEW))
    assert image.shape == (1, 64, 96, 4)
    assert shown["view"]["position"] == pytest.approx(VIEW["position"]) and camera["fov"] == pytest.approx(50, abs=1e-3)
    seen = render(gaussians, from_load3d(camera, 96, 64), modes=("rgb", "alpha"), background=(0.2, 0.4, 0.6))
    on_blue = image[..., :3] * image[..., 3:] + (1 - image[..., 3:]) * torch.tensor([0.2, 0.4, 0.6])
    assert (on_blue - seen.rgb.clamp(0, 1)).abs().quantile(0.99) < 0.01
    assert image[..., 3].min() < 0.05


@pytest.mark.parametrize(
    "view",
    [
        "x", "[]", "1", "{}", '{"position": [0, 0]}', '{"position": [0, 0, 0], "quaternion": [0, 0, 0, 0]}',
        '{"position": [0, NaN, 0], "quaternion": [1, 0, 0, 0]}',
        '{"position": [1e300, 0, 0], "quaternion": [1, 0, 0, 0]}',
        '{"position": [0, 0, 0], "quaternion": [1, 0, 0, 0], "vertical_fov_degrees": 180}', "[" * 100_000,
        '{"position": {"0": 1}, "quaternion": [1, 0, 0, 0]}', '{"position": [[1], 2, 3], "quaternion": [1, 0, 0, 0]}',
    ],
)  # fmt: skip
def test_a_view_that_is_none_is_refused_by_name(host, view):
    with pytest.raises(FlashWorldError, match="Preview Scene: view"):
        run_node(sockets.splat_from_gaussians(scene()), view=view)


def test_nothing_to_see_is_an_error_that_says_so(host):
    faint = scene().map(lambda t: t.clone())
    faint.opacities[:] = 0
    with pytest.raises(FlashWorldError, match="none of the scene's 400 Gaussians"):
        run_node(sockets.splat_from_gaussians(faint))


def test_the_file_is_written_once_per_scene_and_budget(host):
    splat = sockets.splat_from_gaussians(scene())
    first, again, other = (run_node(splat, **more)[0] for more in ({}, {"view": json.dumps(VIEW)}, {"budget": 1000}))
    assert first["filename"] == again["filename"] != other["filename"]
    (host.temp / first["filename"]).unlink()
    anew = run_node(splat)[0]["filename"]
    assert anew != first["filename"] and (host.temp / anew).exists()


def test_a_splat_of_another_pack_that_cannot_be_remembered(host):
    class Splat:
        __slots__ = ("positions", "rotations", "scales", "opacities", "sh", "counts")

    ours, other = sockets.splat_from_gaussians(scene()), Splat()
    for name in Splat.__slots__:
        setattr(other, name, getattr(ours, name))
    assert run_node(other)[0]["count"] == 400


def test_steps_are_sent_and_old_files_go(host):
    path = make_trajectory("orbit:20", views=2, width=96, height=64)
    for step in range(4):
        preview_stream.send_scene("3:7", scene(), step=step, steps=4, budget=100, cameras=path if step == 0 else None)
    events = [data for event, data, *_ in host.server.sent if event == "flashworld.scene"]
    assert [(e["node"], e["step"], e["steps"], e["final"], e["count"], e["total"]) for e in events] == [
        ("3:7", step, 4, False, 100, 400) for step in range(4)
    ]
    json.dumps(events)
    assert len(events[0]["cameras"]) == 2 and "cameras" not in events[1]
    left = sorted(p.name for p in host.temp.iterdir())
    assert left == sorted(e["file"]["filename"] for e in events[-2:])


def test_outside_of_an_execution_nothing_is_sent(host):
    preview_stream.send_scene(None, scene(), budget=100)
    assert not host.server.sent and not list(host.temp.iterdir())


def test_cancel_leaves_no_file(host):
    host.management.interrupted = True
    with pytest.raises(BaseException) as caught:
        run_node(sockets.splat_from_gaussians(scene()))
    assert type(caught.value).__name__ == "InterruptProcessingException"
    assert not host.temp.exists() or not list(host.temp.iterdir())


def test_node_output_is_the_hosts(host):
    assert isinstance(PreviewScene.execute(sockets.splat_from_gaussians(scene()), width=32, height=32), api.NodeOutput)
