"""The Preview Scene widget on a stand-in node: results, live steps, reload, the view as a camera."""

from __future__ import annotations

import json

import pytest
from viewer_tools import scene

from flashworld_core.formats.scenes.stream import write_stream

pytestmark = pytest.mark.browser

VIEW = {"position": [0, 0, -0.5], "quaternion": [1, 0, 0, 0], "vertical_fov_degrees": 50}
CAMERAS = [VIEW, {**VIEW, "position": [0.5, 0, 0]}, {**VIEW, "position": [1, 0, 0]}]


@pytest.fixture
def stand(page, site, tmp_path):
    """The page; files of several sizes under /view."""
    for count in (1000, 2000, 3000):
        write_stream(tmp_path / f"{count}.fws", scene(count, degree=1))

    def view(route):
        name = route.request.url.split("filename=")[1].split("&")[0]
        path = tmp_path / name
        route.fulfill(body=path.read_bytes()) if path.exists() else route.fulfill(status=404)

    page.route("**/view?*", view)
    page.goto(f"{site}/tests/web/pages/preview_scene.html")
    page.wait_for_function("window.ready")
    return page


def shown(count: int, **more) -> dict:
    file = {"filename": f"{count}.fws", "subfolder": "", "type": "temp", "count": count, "total": count, "sh_degree": 1}
    return {"flashworld_scene": [{**file, "width": 96, "height": 64, "view": VIEW, "cameras": CAMERAS, **more}]}


def step(page, count: int, number: int, node: str = "5:7", **more) -> None:
    file = {"filename": f"{count}.fws", "subfolder": "", "type": "temp"}
    detail = {"node": node, "step": number, "steps": 4, "file": file, "count": count, "total": count, "final": False}
    page.evaluate("detail => stand.send('flashworld.scene', detail)", {**detail, **more})


def wait_for(page, count: int) -> None:
    page.wait_for_function(f"stand.viewer()?.figures?.startsWith('{count:,} splats')")


def test_before_anything_ran(stand, shots):
    assert (
        stand.evaluate("stand.preview.widgets.at(-1).element.textContent") == "Run the workflow to see the scene here."
    )
    assert stand.evaluate(
        "[stand.preview.widgets.at(-1).serialize, stand.preview.widgets.at(-1).options.serialize]"
    ) == [
        False,
        False,
    ]
    assert stand.evaluate("stand.widget(stand.preview, 'view').hidden") is True


def test_what_the_node_says_stands_below_the_viewer(stand, shots):
    strip = stand.locator("#node").get_by_role("status", name="What this node says")
    assert not strip.is_visible()
    said = ["The camera input holds 2 cameras; the first is used."]
    stand.evaluate("output => stand.preview.onExecuted(output)", {**shown(1000), "flashworld_text": said})
    wait_for(stand, 1000)
    assert strip.inner_text() == said[0]
    node, box = stand.locator("#node").bounding_box(), strip.bounding_box()
    assert node["y"] < box["y"] and box["y"] + box["height"] <= node["y"] + node["height"]
    stand.screenshot(path=shots / "preview_says.png")
    stand.evaluate("output => stand.preview.onExecuted(output)", {**shown(1000), "flashworld_text": []})
    assert not strip.is_visible()
    assert stand.evaluate("stand.viewer().figures").startswith("1,000 splats")


def test_result_use_this_view_and_snapshot(stand, shots):
    stand.evaluate("output => stand.preview.onExecuted(output)", shown(1000))
    wait_for(stand, 1000)
    assert stand.evaluate("stand.viewer().views") == "1 / 3"
    assert "1000.fws" in stand.evaluate("stand.sceneAddress(stand.preview)")
    stand.get_by_label("View of the path").fill("2")
    stand.get_by_label("Use this view").click()
    view = json.loads(stand.evaluate("stand.widget(stand.preview, 'view').value"))
    assert view == {"position": [1, 0, 0], "quaternion": [1, 0, 0, 0], "vertical_fov_degrees": 50}
    keyframes = json.loads(stand.evaluate("stand.widget(stand.path, 'keyframes').value"))["keyframes"]
    assert keyframes[-1]["position"] == [1, 0, 0] and keyframes[-1]["vertical_fov_degrees"] == pytest.approx(50)
    assert "keyframe" in stand.evaluate("stand.viewer().status")
    stand.get_by_label("View of the path").fill("1")
    stand.get_by_label("Snapshot").click()
    assert json.loads(stand.evaluate("stand.widget(stand.preview, 'view').value"))["position"] == [0.5, 0, 0]
    again = json.loads(stand.evaluate("stand.widget(stand.path, 'keyframes').value"))["keyframes"]
    assert len(again) == len(keyframes), "a snapshot is no keyframe"
    stand.screenshot(path=shots / "preview_node.png")


def test_steps_of_the_node_upstream_are_shown_and_others_are_not(stand):
    step(stand, 3000, 0, node="12")
    step(stand, 3000, 0, node="5:99")
    assert stand.evaluate("stand.viewer()") is None
    step(stand, 1000, 0)
    wait_for(stand, 1000)
    assert stand.evaluate("stand.viewer().status") == "Step 1 of 4"
    step(stand, 2000, 1)
    wait_for(stand, 2000)
    stand.evaluate("output => stand.preview.onExecuted(output)", shown(3000))
    wait_for(stand, 3000)
    assert stand.evaluate("stand.viewer().status") == ""
    step(stand, 1000, 0)
    stand.wait_for_function("stand.viewer().status === 'Step 1 of 4'")
    wait_for(stand, 1000)
    # The host repeats old results whenever another node has one.
    stand.evaluate("output => stand.extensions[0].onNodeOutputsUpdated({ 9: output })", shown(3000))
    assert "1000.fws" in stand.evaluate("stand.sceneAddress(stand.preview)")
    stand.evaluate("stand.send('execution_interrupted', {})")
    assert stand.evaluate("stand.viewer().status") == "Cancelled after step 1 of 4"
    assert "1000.fws" in stand.evaluate("stand.sceneAddress(stand.preview)"), "the unfinished step stays"
    stand.evaluate("stand.send('execution_interrupted', {})")
    assert stand.evaluate("stand.viewer().status") == "Cancelled after step 1 of 4", (
        "another run's end says nothing new"
    )
    step(stand, 2000, 1)
    wait_for(stand, 2000)
    assert stand.evaluate("stand.viewer().status") == "Step 2 of 4"


def test_after_a_reload_the_result_comes_back(stand):
    stand.evaluate("output => stand.extensions[0].onNodeOutputsUpdated({ 9: output, 4: {} })", shown(2000))
    wait_for(stand, 2000)


def test_a_file_that_is_gone(stand):
    # A real 404 would also be in the browser's own log.
    stand.evaluate("window.real = fetch; window.fetch = async () => new Response('', { status: 404 }); null")
    stand.evaluate("output => stand.preview.onExecuted(output)", shown(1234))
    stand.wait_for_function("stand.viewer()?.message?.includes('Run the workflow again')")
    stand.evaluate("window.fetch = real; null")
    stand.evaluate("output => stand.preview.onExecuted(output)", shown(1000))
    wait_for(stand, 1000)
    assert stand.evaluate("stand.viewer().message") == ""


def test_settings_live_in_the_node(stand):
    stand.evaluate("output => stand.preview.onExecuted(output)", shown(1000))
    wait_for(stand, 1000)
    stand.get_by_label("What to show").select_option("depth")
    assert stand.evaluate("stand.preview.properties.flashworld_preview.mode") == "depth"


def test_a_removed_node_leaves_nothing(stand):
    stand.evaluate("output => stand.preview.onExecuted(output)", shown(1000))
    wait_for(stand, 1000)
    stand.evaluate("stand.preview.onRemoved()")
    assert stand.evaluate("stand.preview.widgets.at(-1).element.childElementCount") == 0
    assert stand.evaluate("stand.sceneAddress(stand.preview)") == ""
    step(stand, 2000, 1)
    stand.evaluate("output => stand.extensions[0].onNodeOutputsUpdated({ 9: output })", shown(2000))
    assert stand.evaluate("stand.preview.widgets.at(-1).element.childElementCount") == 0
