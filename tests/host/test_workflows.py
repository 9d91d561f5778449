"""Every saved workflow in a real ComfyUI: opened by its frontend, run, and what it makes looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_client import HostClient, Run
from host_frontend import Frontend, NoBrowser, frontend
from host_scenes import DEMO, as_array, likeness, psnr, stands_like
from host_server import HostServer
from host_workflows import EARLIER, NAMES, files_of, fitted, frames_of, pictures_of, put_example, read, run_saved
from PIL import Image
from ui_to_api import to_api

from flashworld_core.formats.scenes import read_scene

pytestmark = pytest.mark.host

VIEWS = "The scene from every view of the path"
BY_FRONTEND = {"control_after_generate", "speed", "upload", "choose file to upload"}  # widgets that nodes do not know


@pytest.fixture(scope="module", autouse=True)
def example(host: HostServer) -> np.ndarray:
    """The picture the workflows load, [H, W, 3]; the demo's, so that it is known what should come out."""
    put_example(host.base)
    return as_array((DEMO / "picture.png").read_bytes())


@pytest.fixture
def run(client: HostClient, object_info: dict[str, Any]) -> Any:
    return lambda name: run_saved(client, name, object_info)


def differ(views: np.ndarray) -> bool:
    """Whether neighbors are different pictures of one scene."""
    pairs = list(zip(views, views[1:], strict=False))
    return all(psnr(a, b) < 45 for a, b in pairs) and all(likeness(a, b) > 0.5 for a, b in pairs)


def scene_file(run: Run, name: str, base: Path) -> Any:
    """The scene Export Scene wrote, read back; its picture and story lie beside it."""
    files = files_of(run, name, base, "FlashWorld_ExportScene")
    (ply,) = [file for file in files if file.suffix == ".ply"]
    assert ply.with_suffix(".json").is_file() and Image.open(ply.with_suffix(".png")).width >= 384
    return read_scene(ply)


@pytest.mark.parametrize("file", EARLIER, ids=lambda file: file.stem)
def test_workflows_of_earlier_versions_run(run: Any, file: Path) -> None:
    run(file)


def test_a_picture_becomes_a_scene(run: Any, host: HostServer, example: np.ndarray) -> None:
    done = run("image_to_scene")
    views = pictures_of(done, "image_to_scene", host.base, title=VIEWS)
    assert len(views) == 8 and differ(views)
    assert stands_like(views[4], example), "the view in the middle is the picture"
    assert len(scene_file(done, "image_to_scene", host.base).means) > 1000
    assert files_of(done, "image_to_scene", host.base, "FlashWorld_PreviewScene")


def test_a_sentence_becomes_a_scene(run: Any, host: HostServer) -> None:
    done = run("text_to_scene")
    views = pictures_of(done, "text_to_scene", host.base, title=VIEWS)
    assert len(views) == 8 and views.std() > 0.02
    assert psnr(views[0], views[-1]) < 40, "the camera does not move"
    assert len(scene_file(done, "text_to_scene", host.base).means) > 1000


def test_a_picture_of_core_nodes_becomes_a_scene(run: Any, host: HostServer) -> None:
    done = run("core_image_to_scene")
    (painted,) = pictures_of(done, "core_image_to_scene", host.base, title="The picture that is generated from")
    views = pictures_of(done, "core_image_to_scene", host.base, title=VIEWS)
    assert painted.shape == (256, 384, 3) and len(views) == 8 and differ(views)
    assert stands_like(views[0], painted), "the first view is the picture"


def test_a_path_of_keyframes_is_filmed(run: Any, host: HostServer, example: np.ndarray) -> None:
    done = run("custom_path_keyframes")
    (film,) = files_of(done, "custom_path_keyframes", host.base, "SaveVideo", "Along the path")
    frames = frames_of(film)
    assert frames.shape == (36, 256, 384, 3)
    assert likeness(frames[0], frames[-1]) < 0.99 and stands_like(frames[len(frames) // 2], example)
    assert [p.suffix for p in (host.base / "output" / "FlashWorld").glob("custom_path_*_.json")]


def test_pictures_and_depth_become_videos_and_holes_are_marked(run: Any, host: HostServer, example: np.ndarray) -> None:
    name = "render_depth_and_holes_video"
    done = run(name)
    frames, depth = (frames_of(files_of(done, name, host.base, "SaveVideo", t)[0]) for t in ("Pictures", "Depth"))
    assert frames.shape == depth.shape == (24, 256, 384, 3)
    assert stands_like(frames[12], example) and likeness(frames[0], frames[-1]) < 0.97
    assert np.abs(depth - depth.mean(-1, keepdims=True)).mean() < 0.02, "depth is gray"
    assert depth[12, -20:].mean() > depth[12, :20].mean() + 0.1, "the ground before us is nearer than the wall behind"
    holes = pictures_of(done, name, host.base, "MaskPreview", "Holes, for inpainting")
    assert len(holes) == 24 and 0.005 < holes[0].mean() < 0.5 and holes[12].mean() < holes[0].mean()
    normals = pictures_of(done, name, host.base, title="Normals")
    assert len(normals) == 24 and normals[12].std() > 0.1


def test_a_cleaned_scene_is_smaller_and_looks_alike(run: Any, host: HostServer) -> None:
    done = run("clean_and_export")
    before = pictures_of(done, "clean_and_export", host.base, title="Before: all Gaussians")
    after = pictures_of(done, "clean_and_export", host.base, title="After: 5 000 at most")
    assert all(likeness(a, b) > 0.97 for a, b in zip(before, after, strict=True)) and not np.array_equal(before, after)
    assert 1000 < len(scene_file(done, "clean_and_export", host.base).means) <= 5000


def test_the_chosen_view_is_rendered(run: Any, host: HostServer, example: np.ndarray) -> None:
    done = run("preview_and_fly")
    (still,) = pictures_of(done, "preview_and_fly", host.base, title="This view, rendered")
    (snapshot,) = files_of(done, "preview_and_fly", host.base, "PreviewImage", "Snapshot, transparent")
    assert still.shape == (512, 768, 3) and likeness(still, example) > 0.7
    with Image.open(snapshot) as picture:
        assert picture.mode == "RGBA" and picture.size == (384, 256)


def test_the_template_browser_lists_them_with_pictures(client: HostClient) -> None:
    (folder,) = [f for f, names in client.get("/api/workflow_templates").items() if set(NAMES) <= set(names)]
    for name in NAMES:
        address = f"/api/workflow_templates/{folder}/{name}"
        assert client.get(address + ".json") == read(name)
        assert client.request(address + ".jpg")[:3] == b"\xff\xd8\xff"


def test_texts_and_help_pages_are_served(client: HostClient, object_info: dict[str, Any]) -> None:
    texts = client.get("/api/i18n")["en"]["nodeDefs"]
    ours = [node for node in object_info if node.startswith("FlashWorld_")]
    assert set(ours) <= set(texts)
    for node in ours:
        page = client.request(f"/extensions/ComfyUI-FlashWorld/docs/{node}.md").decode()
        assert page.startswith(f"# {object_info[node]['display_name']}")


@pytest.fixture(scope="module")
def browser(host: HostServer) -> Iterator[Frontend]:
    try:
        with frontend(host.url) as opened:
            yield opened
    except NoBrowser as reason:
        pytest.skip(str(reason))


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
def test_opens_in_the_frontend(name: str, browser: Frontend, object_info: dict[str, Any]) -> None:
    workflow = read(name)
    before = len(browser.complaints)
    assert browser.load(workflow) == [], "nodes the frontend does not know"
    browser.page.wait_for_timeout(1500)  # widgets are loaded on first use
    assert browser.page.locator("[role=dialog]:visible").count() == 0, "it asks for missing nodes or models"
    saved, sent = browser.prompt()
    wanted = to_api(fitted(workflow, object_info), object_info)
    assert set(sent) == set(wanted)
    for id, node in wanted.items():
        inputs = {key: value for key, value in sent[id]["inputs"].items() if key not in BY_FRONTEND}
        assert sent[id]["class_type"] == node["class_type"]
        assert inputs.items() >= node["inputs"].items(), f"{node['class_type']} is sent with other inputs"
    kept = {n["id"]: n.get("widgets_values") for n in saved["nodes"]}
    for node in workflow["nodes"]:
        if node["type"].startswith("FlashWorld_"):
            assert kept[node["id"]] == node["widgets_values"], f"{node['type']} is saved with other values"
    ours = [c for c in browser.complaints[before:] if "flashworld" in c.lower() or c.startswith("page error")]
    assert not ours
