"""ComfyUI's own frontend in a headless browser: opens workflows, says what it would send, presses Run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FLAGS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
APP = "window.comfyAPI.app.app"


class NoBrowser(Exception):
    """No headless browser can be started; the message says why."""


@contextmanager
def frontend(url: str, width: int = 1600, height: int = 1000) -> Iterator[Frontend]:
    """The frontend served at ``url``, its start-up dialogs closed.

    Raises:
        NoBrowser: playwright or Chromium is missing.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise NoBrowser("playwright is not installed") from None
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise NoBrowser("no Chromium is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            opened = Frontend(page)
            opened.open(url)
            yield opened
        finally:
            browser.close()


class Frontend:
    """A page with the frontend in it.

    Attributes:
        page: playwright's page.
        complaints: what the page logged as errors or threw, in order.
    """

    def __init__(self, page: Any):
        self.page, self.complaints = page, []
        page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        page.on("console", lambda m: m.type == "error" and self.complaints.append(f"{m.text} ({m.location})"))

    def open(self, url: str) -> None:
        """Go to the frontend and wait until it knows the nodes and shows a graph."""
        self.page.request.post(url + "/settings", data={"Comfy.TutorialCompleted": True})
        self.page.goto(url)
        # Frontends differ in when these globals appear, one after the other.
        known = "Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 100"
        self.page.wait_for_function(f"window.comfyAPI?.app?.app?.graph && {known}", timeout=120_000)
        self.page.wait_for_selector("canvas#graph-canvas")
        # It opens a workflow of its own first, which would replace one that is loaded earlier.
        opened = f"{APP}.extensionManager?.workflow?.activeWorkflow && {APP}.graph.nodes.length"
        self.page.wait_for_function(opened, timeout=120_000)
        self.page.wait_for_timeout(1000)

    def load(self, workflow: dict[str, Any]) -> list[str]:
        """Open a saved workflow; the types of nodes the frontend does not know."""
        self.page.evaluate(f"w => {APP}.loadGraphData(JSON.parse(w))", json.dumps(workflow))
        missing = "g => g.nodes.filter(n => !(n.type in window.LiteGraph.registered_node_types)).map(n => n.type)"
        return self.page.evaluate(f"({missing})({APP}.graph)")

    def load_api(self, graph: dict[str, Any]) -> None:
        """Open an API graph; the frontend lays the nodes out."""
        self.page.evaluate(f"g => {APP}.loadApiJson(JSON.parse(g), 'graph')", json.dumps(graph))

    def prompt(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The open graph as the frontend saves it, and as it would send it to /prompt."""
        text = self.page.evaluate(f"async () => JSON.stringify(await {APP}.graphToPrompt())")
        answer = json.loads(text)
        return answer["workflow"], answer["output"]

    def queue(self) -> None:
        """Press Run."""
        self.page.evaluate(f"async () => {{ await {APP}.queuePrompt(0, 1) }}")
