"""Scenes made, rendered and exported in a real ComfyUI, and handed to and taken from its own nodes."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import pytest
from host_client import HostClient, Run, output_files
from host_scenes import (
    DEMO,
    HEIGHT,
    INDEX,
    WIDTH,
    SceneGraph,
    as_array,
    likeness,
    pictures,
    psnr,
    stands_like,
    upload_demo,
)
from host_server import HostServer

from flashworld_core.formats.scenes import read_scene

pytestmark = pytest.mark.host


def needs(object_info: dict[str, Any], *nodes: str) -> None:
    """Skip where this ComfyUI has no such nodes yet."""
    missing = [node for node in nodes if node not in object_info]
    if missing:
        pytest.skip(f"this ComfyUI has no node {', '.join(missing)}")


def succeed(client: HostClient, graph: dict[str, Any]) -> Run:
    """Run ``graph``, which must end well."""
    run = client.run(graph)
    assert not run.node_errors, run.node_errors
    assert run.ending == "execution_success", f"{run.error.get('node_type')}: {run.error.get('exception_message')}"
    return run


@pytest.fixture(scope="module", autouse=True)
def demo(client: HostClient) -> None:
    upload_demo(client)


@pytest.fixture(scope="module")
def views(client: HostClient, object_info: dict[str, Any], host: HostServer) -> np.ndarray:
    """The generation views of the demo scene, [V, H, W, 3]."""
    graph = SceneGraph(object_info)
    saved = graph.save(graph.views, "views/made")
    return pictures(succeed(client, graph), saved, host.base)


def test_a_picture_becomes_a_scene_that_shows_it(views: np.ndarray) -> None:
    assert views.shape[1:] == (HEIGHT, WIDTH, 3) and len(views) == 8
    picture = as_array((DEMO / "picture.png").read_bytes(), (WIDTH, HEIGHT))
    assert psnr(views[INDEX], picture) > 24
    assert all(psnr(a, b) < 35 for a, b in zip(views, views[1:], strict=False)), "the views do not differ"
    assert all(likeness(a, b) > 0.5 for a, b in zip(views, views[1:], strict=False)), "the views are not of one scene"


def test_progress_and_previews_arrive_while_it_works(client: HostClient, object_info: dict[str, Any]) -> None:
    graph = SceneGraph(object_info, seed=1)
    graph.add("FlashWorld_PreviewScene", splat=graph.splat)  # whose viewer shows the steps
    shown: list[bytes] = []

    def fetch(name: str, data: dict[str, Any]) -> None:
        if name == "flashworld.scene":  # at once, as a browser does: older steps are deleted
            shown.append(client.view(data["file"]))

    run = client.run(graph, on_event=fetch)
    assert run.ending == "execution_success"
    made = [d for d in run.of("progress") if d["node"] == graph.made.id]
    assert len(made) >= 4 and made[-1]["value"] == made[-1]["max"]
    assert [d["value"] / d["max"] for d in made] == sorted(d["value"] / d["max"] for d in made)
    assert run.previews >= 4
    live = [d for d in run.of("flashworld.scene") if d["node"] == graph.made.id]
    assert [d["step"] for d in live] == [0, 1, 2, 3] and all(d["steps"] == 4 and d["count"] > 100 for d in live)
    assert len(set(shown)) == len(shown) >= 4


def test_a_sentence_becomes_a_scene(client: HostClient, object_info: dict[str, Any], host: HostServer) -> None:
    path = {"source": "preset", "preset": "orbit", "amount": 20.0, "frames": 4, "width": WIDTH, "height": HEIGHT}
    graph = SceneGraph(object_info, picture=False, path=path, prompt="a red box in a room", seed=3)
    saved = graph.save(graph.views, "views/text")
    made = pictures(succeed(client, graph), saved, host.base)
    assert made.shape == (4, HEIGHT, WIDTH, 3)
    assert 0.05 < made.mean() < 0.95 and made.std() > 0.02
    assert psnr(made[0], made[-1]) < 40
    other = SceneGraph(object_info, picture=False, path=path, prompt="a red box in a room", seed=4)
    saved = other.save(other.views, "views/text_other")
    assert psnr(made, pictures(succeed(client, other), saved, host.base)) < 35, "the seed changes nothing"


def test_render_views_gives_all_kinds_of_pictures(
    client: HostClient, object_info: dict[str, Any], host: HostServer, views: np.ndarray
) -> None:
    graph = SceneGraph(object_info)
    render = graph.render(trajectory=graph.path[0], background="#ffffff")  # as the generator shows its views
    color, depth, normal = (graph.save(render[i], f"render/{i}") for i in (0, 2, 3))
    mask = graph.save_mask(render[1], "render/mask")
    run = succeed(client, graph)
    assert psnr(pictures(run, color, host.base), views) > 30, "rendering again is not the generation's pictures"
    covered = pictures(run, mask, host.base)
    assert covered.shape == views.shape and covered.mean() > 0.8
    for node in (depth, normal):
        assert pictures(run, node, host.base).std() > 0.02


def test_render_views_makes_another_size_and_background(
    client: HostClient, object_info: dict[str, Any], host: HostServer
) -> None:
    graph = SceneGraph(object_info)
    away = graph.add(
        "FlashWorld_CameraPath", source="preset", preset="pan", amount=170.0, frames=2, width=WIDTH, height=HEIGHT
    )
    render = graph.render(trajectory=away[0], width=128, height=96, frames=3, background="#00ff00")
    saved, mask, holes = graph.save(render[0], "render/green"), *(graph.save_mask(render[i], "m") for i in (1, 4))
    run = succeed(client, graph)
    shown, covered, empty = (pictures(run, node, host.base) for node in (saved, mask, holes))
    assert shown.shape == (3, 96, 128, 3)
    green = (np.abs(shown[-1] - (0, 1, 0)).max(-1) < 0.1).mean()
    assert green > 0.5, "facing away from the scene there is only background"
    assert 0.05 < empty.mean() < 0.95
    assert ((empty > 0.5) == (covered < 0.5)).mean() > 0.95, "holes are where the scene does not cover"


def test_the_exported_file_holds_the_scene_and_its_story(
    client: HostClient, object_info: dict[str, Any], host: HostServer
) -> None:
    graph = SceneGraph(object_info)
    exported = graph.add("FlashWorld_ExportScene", splat=graph.splat, camera=graph.camera, filename_prefix="kept/scene")
    run = client.run(graph, extra={"extra_pnginfo": {"workflow": {"nodes": ["kept with the file"]}}})
    assert run.ending == "execution_success", run.error.get("exception_message")
    files = output_files(run, exported.id, host.base)
    plys = [file for file in files if file.suffix == ".ply"]
    assert len(plys) == 1 and plys[0].parent == host.base / "output" / "kept" and plys[0].name == "scene_00001_.ply"
    scene = read_scene(plys[0])
    assert len(scene.means) > 1000 and str(scene.metadata.get("seed")) == "109"
    beside = [f for f in plys[0].parent.iterdir() if f.stem == plys[0].stem and f != plys[0]]
    assert any(b"kept with the file" in f.read_bytes() for f in beside), "the workflow does not travel with the file"


@pytest.mark.parametrize("road", ["our file", "core's file"])
def test_core_get_splat_reads_the_scene(
    client: HostClient, object_info: dict[str, Any], host: HostServer, road: str
) -> None:
    needs(object_info, "File3DToSplat", "SplatToFile3D")
    graph = SceneGraph(object_info)
    if road == "our file":
        file = graph.add("FlashWorld_ExportScene", splat=graph.splat, filename_prefix="roads/scene")
    else:
        file = graph.add("SplatToFile3D", splat=graph.splat, format="ply")
    back = graph.add("File3DToSplat", model_3d=file[0])
    direct = graph.save(graph.render(trajectory=graph.path[0])[0], "roads/direct")
    through = graph.save(graph.render(splat=back[0], trajectory=graph.path[0])[0], "roads/through")
    run = succeed(client, graph)
    assert psnr(pictures(run, direct, host.base), pictures(run, through, host.base)) > 40


def test_our_camera_in_core_render_splat(
    client: HostClient, object_info: dict[str, Any], host: HostServer, views: np.ndarray
) -> None:
    needs(object_info, "RenderSplat")
    graph = SceneGraph(object_info)
    core = graph.add(
        "RenderSplat",
        splat=graph.splat,
        camera_info=graph.camera,
        width=WIDTH,
        height=HEIGHT,
        sharpen=1.0,
        background="#ffffff",
    )
    theirs = graph.save(core[0], "cameras/core_by_our_camera")
    rendered = graph.render(camera=graph.camera, width=WIDTH, height=HEIGHT, background="#ffffff")
    ours = graph.save(rendered[0], "cameras/ours_by_our_camera")
    run = succeed(client, graph)
    shown, rendered = pictures(run, theirs, host.base)[0], pictures(run, ours, host.base)
    assert rendered.shape == (1, HEIGHT, WIDTH, 3)
    assert stands_like(shown, rendered[0])
    assert psnr(rendered[0], views[0]) > 30, "the camera is the first view's"


@pytest.mark.parametrize(
    "mode",
    [
        {"mode": "look_at", "mode.position_x": 0.3, "mode.position_y": 0.2, "mode.position_z": 0.3},
        {"mode": "orbit", "mode.yaw": 10.0, "mode.pitch": 8.0, "mode.distance": 1.3},
    ],
    ids=["look_at", "orbit"],
)
def test_core_camera_in_our_renderer(
    client: HostClient, object_info: dict[str, Any], host: HostServer, mode: dict[str, Any]
) -> None:
    needs(object_info, "RenderSplat", "CreateCameraInfo")
    graph = SceneGraph(object_info)
    camera = graph.add("CreateCameraInfo", **mode, target_z=-1.0, roll=7.0, fov=50.0)
    core = graph.add("RenderSplat", splat=graph.splat, camera_info=camera[0], width=WIDTH, height=HEIGHT, sharpen=1.0)
    theirs = graph.save(core[0], f"cameras/core_{mode['mode']}")
    ours = graph.save(graph.render(camera=camera[0], width=WIDTH, height=HEIGHT)[0], f"cameras/ours_{mode['mode']}")
    run = succeed(client, graph)
    assert stands_like(pictures(run, theirs, host.base)[0], pictures(run, ours, host.base)[0])


def test_core_cameras_are_keyframes_of_a_path(
    client: HostClient, object_info: dict[str, Any], host: HostServer
) -> None:
    needs(object_info, "CreateCameraInfo")
    graph = SceneGraph(object_info)
    there = ({"mode.position_x": x, "mode.position_y": 0.0, "mode.position_z": 0.2} for x in (-0.2, 0.2))
    ends = [graph.add("CreateCameraInfo", mode="look_at", target_z=-1.0, fov=50.0, **at) for at in there]
    keys = {f"cameras.camera{i}": end[0] for i, end in enumerate(ends)}
    path = graph.add("FlashWorld_CameraPath", source="preset", frames=3, width=WIDTH, height=HEIGHT, **keys)
    along = graph.save(graph.render(trajectory=path[0])[0], "cameras/keyframes")
    last = graph.save(graph.render(camera=ends[1][0], width=WIDTH, height=HEIGHT)[0], "cameras/last_key")
    run = succeed(client, graph)
    frames = pictures(run, along, host.base)
    assert frames.shape[0] == 3 and psnr(frames[2], pictures(run, last, host.base)[0]) > 30
    assert psnr(frames[0], frames[2]) < 30


def test_the_video_stands_upright(
    client: HostClient, object_info: dict[str, Any], host: HostServer, views: np.ndarray
) -> None:
    graph = SceneGraph(object_info)
    video = graph.add("CreateVideo", images=graph.views, fps=8.0)
    saved = graph.add("SaveVideo", video=video[0], filename_prefix="video/views")
    (file,) = output_files(succeed(client, graph), saved.id, host.base)
    with av.open(io.BytesIO(file.read_bytes())) as film:
        frames = [frame.to_ndarray(format="rgb24") / 255 for frame in film.decode(video=0)]
    assert len(frames) == len(views)
    for frame, view in zip(frames, views, strict=True):
        assert stands_like(frame, view) and psnr(frame, view) > 20


def test_clean_scene_keeps_what_was_asked(client: HostClient, object_info: dict[str, Any], host: HostServer) -> None:
    graph = SceneGraph(object_info)
    clean = graph.add("FlashWorld_CleanScene", splat=graph.splat, min_opacity=0.05, max_gaussians=500)
    exported = graph.add("FlashWorld_ExportScene", splat=clean[0], filename_prefix="clean/scene")
    (file,) = [f for f in output_files(succeed(client, graph), exported.id, host.base) if f.suffix == ".ply"]
    scene = read_scene(file)
    assert 0 < len(scene.means) <= 500 and scene.opacities.min() >= 0.0499


def test_paths_are_saved_and_loaded_again(client: HostClient, object_info: dict[str, Any], host: HostServer) -> None:
    graph = SceneGraph(object_info)
    saved = graph.add("FlashWorld_SaveCameraPath", trajectory=graph.path[0], filename_prefix="paths/demo")
    (written,) = succeed(client, graph).outputs[saved.id]["text"]
    name = client.upload("saved_path.json", (host.base / "output" / written).read_bytes())
    again = SceneGraph(client.object_info())
    loaded = again.add("FlashWorld_LoadCameraPath", file=name)
    first = again.save(again.render(trajectory=again.path[0])[0], "paths/first")
    second = again.save(again.render(trajectory=loaded[0])[0], "paths/second")
    run = succeed(client, again)
    assert psnr(pictures(run, first, host.base), pictures(run, second, host.base)) > 45


def test_preview_shows_the_scene(client: HostClient, object_info: dict[str, Any], host: HostServer) -> None:
    graph = SceneGraph(object_info)
    preview = graph.add(
        "FlashWorld_PreviewScene", splat=graph.splat, trajectory=graph.path[0], width=WIDTH, height=HEIGHT, budget=2000
    )
    snapshot = graph.save(preview[1], "preview/snapshot")
    run = succeed(client, graph)
    (shown,) = run.outputs[preview.id]["flashworld_scene"]
    assert shown["count"] <= 2000 < shown["total"] and len(shown["cameras"]) == 8
    assert len(client.view(shown)) > 2000 * 10
    assert pictures(run, snapshot, host.base).shape[1:3] == (HEIGHT, WIDTH)
