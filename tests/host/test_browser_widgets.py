"""The camera path editor and the preview in ComfyUI's own frontend: edited, run, saved, opened again, in both kinds of
nodes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from host_frontend import APP, NoBrowser, frontend

pytestmark = [pytest.mark.host, pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "output" / "screenshots"
PICTURE = ROOT / "flashworld_core" / "assets" / "demo" / "picture.png"

PATIENCE = 90_000  # milliseconds; software GL on a busy machine is slow

GRAPH = """async () => {
    const app = window.comfyAPI.app.app;
    app.graph.clear();
    const add = (type, x, y) => {
        const node = window.LiteGraph.createNode(type);
        node.pos = [x, y];
        app.graph.add(node);
        return node;
    };
    const set = (node, values) => {
        for (const [name, value] of Object.entries(values)) node.widgets.find((w) => w.name === name).value = value;
    };
    const model = add("FlashWorld_LoadModel", 60, 100), path = add("FlashWorld_CameraPath", 400, 100);
    const image = add("LoadImage", 60, 480), make = add("FlashWorld_Generate", 840, 760);
    const preview = add("FlashWorld_PreviewScene", 840, 100);
    set(image, { image: "flashworld_demo.png" });
    set(path, { width: 96, height: 64, frames: 6, focus_distance: 2 });
    set(make, { steps: 2, seed: 3 });
    set(preview, { width: 96, height: 64 });
    model.connect(0, make, "model");
    path.connect(0, make, "trajectory");
    image.connect(0, make, "image");
    make.connect(0, preview, "splat");
    path.connect(0, preview, "trajectory");
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [0, 0];
    app.canvas.setDirty(true, true);
}"""
HELPERS = """async () => {
    const files = await (await fetch("/extensions")).json();
    const ours = files.find((file) => /FlashWorld.*extension\\.js$/.test(file)).replace(/extension\\.js$/, "");
    const names = ["widgets/camera_path", "widgets/preview_scene", "path/document", "widgets/registry"];
    const [path, preview, document_, registry] = await Promise.all(names.map((name) => import(`${ours}${name}.mjs`)));
    const find = (type) => {
        const walk = (graph) => {
            for (const node of graph.nodes) {
                if (node.type === type) return node;
                const inner = node.subgraph && walk(node.subgraph);
                if (inner) return inner;
            }
            return null;
        };
        return walk(window.comfyAPI.app.app.rootGraph ?? window.comfyAPI.app.app.graph);
    };
    window.fw = {
        find, ...path, ...preview, ...document_, ...registry,
        editor: () => registry.editorOf(find("FlashWorld_CameraPath")),
        value: (name) => find("FlashWorld_CameraPath").widgets.find((w) => w.name === name).value,
        placeOf: (index) => {
            const editor = fw.editor(), canvas = editor.plan.element, box = canvas.getBoundingClientRect();
            const zoom = box.width / canvas.clientWidth;
            return editor.plan.placeOf(editor.model(), index).map((at, i) => [box.left, box.top][i] + at * zoom);
        },
    };
}"""


@pytest.fixture(scope="module", params=["classic", "nodes2"])
def window(request, host):
    """The frontend with one kind of nodes."""
    shutil.copyfile(PICTURE, host.base / "input" / "flashworld_demo.png")
    settings = host.url + "/settings"
    try:
        with frontend(host.url, 1600, 1250) as window:
            window.page.request.post(settings, data={"Comfy.VueNodes.Enabled": request.param == "nodes2"})
            window.open(host.url)
            window.kind = request.param
            # The frontend opens a workflow of its own first.
            ready = f"{APP}.extensionManager?.workflow?.activeWorkflow && {APP}.graph.nodes.length"
            window.page.wait_for_function(ready, timeout=PATIENCE)
            window.page.wait_for_timeout(1000)
            yield window
            window.page.request.post(settings, data={"Comfy.VueNodes.Enabled": False})
    except NoBrowser as reason:
        pytest.skip(str(reason))


@pytest.fixture
def opened(window):
    """The frontend with our nodes in the graph; none of our files may have complained when the test ends."""
    page = window.page
    page.set_default_timeout(PATIENCE)
    window.complaints.clear()
    page.evaluate(f"{APP}.canvas.setGraph({APP}.rootGraph ?? {APP}.graph)")
    page.evaluate(GRAPH)
    page.evaluate(HELPERS)
    page.wait_for_function("window.fw.editor()?.element.isConnected")
    page.wait_for_timeout(500)
    yield window
    assert not [text for text in window.complaints if "flashworld" in text.lower() or "page error" in text]


def keyframes(page) -> list[dict]:
    return json.loads(page.evaluate("fw.value('keyframes')") or '{"keyframes": []}')["keyframes"]


def press(page, name: str) -> None:
    page.get_by_role("button", name=name).first.click()


def picture(page, window, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(300)
    page.screenshot(path=SHOTS / f"host_{window.kind}_{name}.png")


def make_keyframes(page) -> None:
    """Turn the preset into keyframes, and wait until the node has made room for them and stands still: the host lays
    widgets out with its next frames, which take long in software GL."""
    press(page, "Make keyframes that follow")
    page.wait_for_function("fw.editor().element.clientHeight > 480")
    settle(page)


def settle(page) -> None:
    last, same = None, 0
    while same < 4:
        box = page.locator(".fwp-view canvas").nth(1).bounding_box()
        last, same = box, same + 1 if box == last else 0
        page.wait_for_timeout(150)


def drag_point(page, index: int, by: tuple[float, float]) -> None:
    settle(page)
    x, y = page.evaluate("index => fw.placeOf(index)", index)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by[0] / 2, y + by[1] / 2)
    page.mouse.move(x + by[0], y + by[1])
    page.mouse.up()


def reopen(page) -> None:
    """Save the graph and load what was saved, as closing and opening the workflow does."""
    page.evaluate(
        f"async () => {{ const saved = JSON.stringify({APP}.graph.serialize()); "
        f"{APP}.graph.clear(); await {APP}.loadGraphData(JSON.parse(saved)); }}"
    )
    page.wait_for_function("window.fw.editor()?.element.isConnected")
    page.wait_for_timeout(300)


def test_a_path_is_edited_saved_and_opened_again(opened):
    page = opened.page
    picture(page, opened, "preset")
    make_keyframes(page)
    before = keyframes(page)
    drag_point(page, 1, (25, -20))
    page.wait_for_timeout(200)
    after = keyframes(page)
    assert after[1]["position"][0] > before[1]["position"][0] and after[1]["position"][2] > before[1]["position"][2]
    picture(page, opened, "keyframes")

    workflow, prompt = opened.prompt()
    node = next(node for node in workflow["nodes"] if node["type"] == "FlashWorld_CameraPath")
    sent = next(node["inputs"] for node in prompt.values() if node["class_type"] == "FlashWorld_CameraPath")
    assert json.loads(sent["keyframes"])["keyframes"] == after and sent["source"] == "keyframes"
    assert sent["path_file"] == "none" and "camera_path_editor" not in sent
    path = page.evaluate("fw.editor().model().path")
    reopen(page)
    assert keyframes(page) == after
    assert page.evaluate("fw.editor().model().path") == path
    saved = next(n for n in opened.prompt()[0]["nodes"] if n["type"] == "FlashWorld_CameraPath")
    assert saved["widgets_values"] == node["widgets_values"]
    picture(page, opened, "reopened")


def test_undo_in_the_editor_is_not_undo_in_the_graph(opened):
    page = opened.page
    make_keyframes(page)
    page.evaluate("() => { fw.kept = fw.find('FlashWorld_CameraPath'); fw.editor().plan.focus(); }")
    before = keyframes(page)
    for key in ("n", "ArrowUp", "PageUp"):
        page.keyboard.press(key)
    assert keyframes(page) != before
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.wait_for_timeout(300)
    assert keyframes(page) == before
    page.keyboard.press("Control+Shift+Z")
    page.wait_for_timeout(300)
    assert keyframes(page) != before
    page.keyboard.press("Delete")
    page.wait_for_timeout(300)
    assert len(keyframes(page)) == len(before) - 1
    assert page.evaluate(f"fw.kept === fw.find('FlashWorld_CameraPath') && {APP}.graph.nodes.length") == 5


def test_one_drag_is_one_undo_and_one_step_of_the_graph(opened):
    page = opened.page
    make_keyframes(page)
    page.evaluate("() => { fw.kept = fw.find('FlashWorld_CameraPath'); }")
    steps = f"{APP}.extensionManager.workflow.activeWorkflow.changeTracker.undoQueue.length"
    before = keyframes(page)
    settle(page)
    x, y = page.evaluate("fw.placeOf(1)")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 4, y)
    recorded = page.evaluate(steps)
    for step in range(2, 8):
        page.mouse.move(x + 4 * step, y - 2 * step)
    page.wait_for_timeout(300)
    assert page.evaluate(steps) == recorded
    page.mouse.up()
    page.wait_for_timeout(300)
    assert page.evaluate(steps) == recorded + 1
    assert keyframes(page)[1] != before[1]
    page.keyboard.press("Control+z")
    page.wait_for_timeout(500)
    assert keyframes(page) == before
    assert page.evaluate("fw.kept === fw.find('FlashWorld_CameraPath') && fw.editor().plan.surface.focused")


def test_copy_and_paste_act_on_keyframes(opened):
    page = opened.page
    make_keyframes(page)
    count = len(keyframes(page))
    page.evaluate(f"() => {{ {APP}.canvas.selectNode(fw.find('FlashWorld_CameraPath')); fw.editor().plan.focus(); }}")
    for key in ("n", "Control+c", "Control+v", "Control+d"):
        page.keyboard.press(key)
    page.wait_for_timeout(500)
    assert len(keyframes(page)) == count + 2
    assert page.evaluate(f"{APP}.graph.nodes.length") == 5


def test_a_run_shows_the_scene_and_the_browser_drew_the_servers_path(opened):
    page = opened.page
    make_keyframes(page)
    before = keyframes(page)
    drag_point(page, 2, (15, 10))
    assert keyframes(page) != before
    opened.queue()
    page.wait_for_function(
        "fw.sceneAddress(fw.find('FlashWorld_PreviewScene')) && fw.editor().host.scene()", timeout=120_000
    )
    page.wait_for_timeout(1500)
    picture(page, opened, "scene")
    sent = page.evaluate(
        f"Object.values({APP}.nodeOutputs).map((output) => output.flashworld_scene?.[0]).find(Boolean).cameras"
    )
    drawn = page.evaluate("fw.editor().model().path")
    assert len(sent) == len(drawn) == 6
    for server, browser in zip(sent, drawn, strict=True):
        numbers = zip(
            [*server["position"], *server["quaternion"], server["vertical_fov_degrees"]],
            [*browser["position"], *browser["quaternion"], browser["fov"]],
            strict=True,
        )
        assert max(abs(a - b) for a, b in numbers) < 1e-4

    before = keyframes(page)
    page.get_by_role("button", name="Use this view").click()
    page.wait_for_timeout(300)
    assert len(keyframes(page)) == len(before) + 1
    press(page, "See what the camera sees")
    page.wait_for_timeout(1000)
    picture(page, opened, "through")


def test_the_editor_works_inside_a_subgraph_and_leaves_with_its_node(opened):
    page = opened.page
    make_keyframes(page)
    kept = keyframes(page)
    if not page.evaluate(f"Boolean({APP}.graph.convertToSubgraph)"):
        pytest.skip("this frontend has no subgraphs")
    page.evaluate(
        f"() => {{ const node = fw.find('FlashWorld_CameraPath'); {APP}.graph.convertToSubgraph(new Set([node])); }}"
    )
    page.wait_for_timeout(300)
    page.evaluate(f"{APP}.canvas.setGraph({APP}.graph.nodes.find((node) => node.subgraph).subgraph)")
    page.wait_for_function("window.fw.editor()?.element.isConnected && fw.editor().plan.element.clientWidth > 50")
    page.wait_for_timeout(500)
    assert keyframes(page) == kept
    drag_point(page, 1, (20, -10))
    page.wait_for_timeout(200)
    moved = [after - before for after, before in zip(keyframes(page)[1]["position"], kept[1]["position"], strict=True)]
    assert moved[0] > 0 and moved[1] == 0 and moved[2] > 0
    picture(page, opened, "subgraph")
    page.evaluate("() => { const node = fw.find('FlashWorld_CameraPath'); node.graph.remove(node); }")
    page.wait_for_timeout(500)
    assert page.locator(".fwp").count() == 0
