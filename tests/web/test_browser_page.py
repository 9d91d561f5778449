"""A scene exported as one web page: opened from the disk, it shows the scene and asks for nothing else."""

from __future__ import annotations

import time

import pytest
from viewer_tools import BACKGROUND, POSES, cameras, keep, picture, psnr, scene

from flashworld_core.formats.scenes import write_scene
from flashworld_core.formats.scenes.stream import write_stream
from flashworld_core.rendering.render import render

pytestmark = pytest.mark.browser


def opened(page, path, requests):
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    # Asked from outside: the page lets nothing evaluate texts, which is how playwright waits within it.
    end = time.monotonic() + 30
    while not page.evaluate("window.viewer?.stats.count > 0") and time.monotonic() < end:
        page.wait_for_timeout(50)
    page.evaluate("viewer.setSettings({background: '#204060'})")
    page.evaluate("viewer.settled()")
    return picture(page.evaluate("viewer.stage.canvas.toDataURL('image/png').split(',')[1]"))


def test_the_page_shows_the_scene_at_its_first_view(page, tmp_path, shots):
    page.set_viewport_size({"width": 360, "height": 240})
    gaussians, requests = scene(), []
    path = tmp_path / "page.html"
    write_scene(path, gaussians, cameras=cameras(POSES[1]), title='</title><script>alert(1)</script> "x"')
    seen = opened(page, path, requests)
    height, width = seen.shape[:2]  # the toolbar takes some of the window
    background = [int(BACKGROUND[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    wanted = render(gaussians, cameras(POSES[1], width, height), background=background).rgb[0]
    keep(shots, "page", seen, wanted)
    assert height > 100 and psnr(seen, wanted) > 38
    assert page.title() == '</title><script>alert(1)</script> "x"'
    assert page.evaluate("!!viewer.sorter.worker"), "sorted by its worker, not on the page's own thread"
    assert all(address.startswith(("file:", "blob:", "data:")) for address in requests), requests


def test_the_page_is_small_beside_its_scene(tmp_path):
    write_scene(tmp_path / "page.html", scene(2000))
    write_stream(tmp_path / "scene.fws", scene(2000))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    inside = text.split('id="scene">')[1].split("</script>")[0]
    assert len(text) - len(inside) < 300_000
    # Base64 takes a third more than it says, gzip gives most of that back.
    assert len(inside) < 1.3 * (tmp_path / "scene.fws").stat().st_size
