"""A local site of the checkout and a headless Chromium for the browser tests."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from viewer_tools import viewer  # noqa: F401  a fixture

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "output" / "screenshots"
FLAGS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {".mjs": "text/javascript", ".js": "text/javascript", ".html": "text/html", ".json": "text/json"}

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """Address under which the checkout's files are served, without a slash at its end."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=ROOT))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium with software GL; skips where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A fresh page; the test fails if it logs an error or a warning, or throws."""
    context = chromium.new_context(viewport={"width": 900, "height": 900})
    page = context.new_page()
    noise: list[str] = []
    page.on("pageerror", lambda error: noise.append(f"page error: {error}"))
    page.on("console", lambda message: message.type in ("error", "warning") and noise.append(message.text))
    yield page
    context.close()
    assert not noise


@pytest.fixture
def shots() -> Path:
    """Where screenshots are left to be looked at."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    return SHOTS
