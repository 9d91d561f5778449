"""Nodes keep to their places: after a run of a template, with its results on the nodes, none lies on another."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from host_frontend import APP, Frontend, NoBrowser, frontend
from host_workflows import NAMES, put_example, read
from splat_scenes import make_gaussians

from flashworld_core.formats.scenes import write_scene

pytestmark = [pytest.mark.host, pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "output" / "screenshots"
RUN_SECONDS = 300
GROWTH_SECONDS = 15  # that pictures and viewers get to appear
TOLERANCE = 2.0  # graph units: borders

# Not laid out for these yet: notes, previews and results are 6 to 110 units taller in them.
TALLER = pytest.mark.xfail(reason="nodes of Nodes 2.0 are taller than the templates have room for")

PLACES = f"""() => {{
    const app = {APP}, scale = app.canvas.ds.scale;
    return app.graph.nodes.map((node) => {{
        const element = document.querySelector(`[data-node-id="${{node.id}}"]`);
        const title = `${{node.id}} ${{node.title || node.type}}`;
        if (element) {{
            const box = element.getBoundingClientRect();
            return [title, box.left / scale, box.top / scale, box.width / scale, box.height / scale];
        }}
        const head = node.flags?.collapsed || node.type === "MarkdownNote" ? 0 : window.LiteGraph.NODE_TITLE_HEIGHT;
        return [title, node.pos[0], node.pos[1] - head, node.size[0], node.size[1] + head];
    }});
}}"""


@pytest.fixture(scope="module", params=["classic", pytest.param("nodes2", marks=TALLER)])
def window(request, host):
    try:
        with frontend(host.url, 2400, 1500) as window:
            window.page.request.post(host.url + "/settings", data={"Comfy.VueNodes.Enabled": request.param == "nodes2"})
            window.open(host.url)
            window.page.wait_for_timeout(2000)
            window.kind = request.param
            yield window
            window.page.request.post(host.url + "/settings", data={"Comfy.VueNodes.Enabled": False})
    except NoBrowser as reason:
        pytest.skip(str(reason))


def overlaps(places: list) -> list[str]:
    """Pairs of titles whose boxes share more than a border."""
    found = []
    for i, (name, x, y, w, h) in enumerate(places):
        for other, left, top, width, height in places[i + 1 :]:
            across = min(x + w, left + width) - max(x, left)
            down = min(y + h, top + height) - max(y, top)
            if min(across, down) > TOLERANCE:
                found.append(f"{name} and {other} share {across:.0f} x {down:.0f}")
    return found


def history_of(window: Frontend, address: str) -> dict:
    return window.page.request.get(address + "/history").json()


def run(window: Frontend, address: str, workflow: dict) -> None:
    """Open, press Run, and wait for the end of it and for what it shows."""
    assert window.load(workflow) == []
    window.page.wait_for_timeout(1500)
    before = len(history_of(window, address))
    window.queue()
    end = time.monotonic() + RUN_SECONDS
    while True:
        history = history_of(window, address)
        if len(history) > before:
            break
        assert time.monotonic() < end, "the run takes too long"
        window.page.wait_for_timeout(500)
    (done,) = [entry for key, entry in history.items() if key == list(history)[-1]]
    assert done["status"]["status_str"] == "success", done["status"]
    window.page.wait_for_timeout(1000 * GROWTH_SECONDS / 3)


@pytest.mark.parametrize("name", NAMES)
def test_no_node_lies_on_another_after_a_run(name: str, window: Frontend, host) -> None:
    put_example(host.base)
    write_scene(host.base / "input" / "scene.ply", make_gaussians(2000))
    workflow = read(name)
    run(window, host.url, workflow)
    places = window.page.evaluate(PLACES)
    end = time.monotonic() + GROWTH_SECONDS
    while time.monotonic() < end:  # until it stands still
        window.page.wait_for_timeout(1000)
        last, places = places, window.page.evaluate(PLACES)
        if json.dumps(last) == json.dumps(places):
            break
    SHOTS.mkdir(parents=True, exist_ok=True)
    window.page.evaluate(f"{APP}.canvas.fitViewToSelectionAnimated?.(), 0")
    window.page.screenshot(path=SHOTS / f"room_{window.kind}_{name}.png")
    assert not overlaps(places), "\n".join(overlaps(places))
