"""A scene as one web page: our viewer, the scene as a preview stream, a camera path, in a file that needs no network.

The viewer's modules (web/viewer) go in as they are, behind an import map of data addresses. The scene is gzip in
base64: it is about as large as the stream itself. The page forbids itself every connection and opens from a disk.

What a page cannot hold: exact numbers. It is for looking, not for going on with; write a PLY beside it for that.
"""

from __future__ import annotations

import base64
import html
import json
import os
import posixpath
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ...cameras import Cameras
from ...errors import FlashWorldError, check_stop
from ...gaussians import Gaussians
from ..files import atomic_writer
from .compression import gzip_pieces
from .stream import DEFAULT_BUDGET, poses_of, write_stream

_WEB = Path(__file__).resolve().parents[3] / "web"
_ENTRY = "viewer/page.mjs"  # in _WEB
_IMPORT = re.compile(r'(\bfrom\s+|^import\s+)"(\.{1,2}/[^"]+)"', re.MULTILINE)
_WORKER = re.compile(r'new URL\("(\./[^"]+)", import\.meta\.url\)')
_PIECE_BYTES = 3 << 18  # a multiple of 3, so that base64 of one piece follows that of another
_MAX_CAMERAS = 2000
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' data: blob:; worker-src data: blob:; connect-src data: blob:; "
    "style-src 'unsafe-inline'; img-src data: blob:"
)


def write_html(
    path: str | os.PathLike,
    gaussians: Gaussians,
    *,
    cameras: Cameras | None = None,
    title: str = "3D scene",
    budget: int = DEFAULT_BUDGET,
    sh_degree: int | None = None,
    progress=None,
    should_stop=None,
) -> None:
    """Write a page that shows the scene in a browser with WebGL2.

    Args:
        path: the file; replaced only when the new one is complete.
        gaussians: any float dtype, any device.
        cameras: a path to draw and play, in the scene's world; its first view is where the page opens. None: the page
            opens with the whole scene in sight.
        title: of the page.
        budget: Gaussians to write at most, the most important ones.
        sh_degree: color bands to keep, at most the scene's own; None for all.
        progress: called as ``progress(done, total)`` in Gaussians.
        should_stop: asked before each piece; True leaves nothing behind.

    Raises:
        FlashWorldError: the viewer's files are not there (an installation without the web folder), or what
            `stream.write_stream` raises.
        Cancelled: ``should_stop`` answered True.
    """
    total = len(gaussians)
    modules = _modules(_ENTRY, Path(path).name)
    degree = None if sh_degree is None else min(sh_degree, gaussians.sh_degree)
    points = None if cameras is None else cameras.positions
    with tempfile.TemporaryDirectory(prefix="flashworld-") as folder:
        stream_file = Path(folder) / "scene.fws"
        info = write_stream(
            stream_file,
            gaussians,
            budget=budget,
            sh_degree=degree,
            viewpoints=points,
            should_stop=should_stop,
        )
        if progress is not None:
            progress(total // 2, total)
        views = [] if cameras is None else poses_of(cameras[:: -(-len(cameras) // _MAX_CAMERAS)])
        about = {"title": title, "cameras": views, "gaussians": info.count}
        with atomic_writer(path) as out:
            out.write(_head(title, about, modules).encode())
            out.write(b'<script type="text/plain" id="scene">')
            with open(stream_file, "rb") as stream:
                _write_base64(out, gzip_pieces(_pieces(stream), bytes, should_stop))
            out.write(b"</script>\n")
            check_stop(should_stop)
    if progress is not None:
        progress(total, total)


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    while piece := stream.read(1 << 20):
        yield piece


def _write_base64(out: BinaryIO, parts: Iterator[bytes]) -> None:
    waiting = bytearray()
    for part in parts:
        waiting += part
        whole = len(waiting) - len(waiting) % 3
        out.write(base64.b64encode(waiting[:whole]))
        del waiting[:whole]
    out.write(base64.b64encode(waiting))


def _head(title: str, about: dict, modules: dict[str, str]) -> str:
    imports = {name: _data_address(text) for name, text in modules.items()}
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="ComfyUI-FlashWorld">
<title>{html.escape(title)}</title>
<style>html, body, #viewer {{ margin: 0; width: 100%; height: 100%; overflow: hidden; background: #fff; }}</style>
<div id="viewer"></div>
<script type="application/json" id="about">{_script_json(about)}</script>
<script type="importmap">{_script_json({"imports": imports})}</script>
<script type="module">import "{_ENTRY}";</script>
"""


def _script_json(value) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def _data_address(text: str) -> str:
    return "data:text/javascript;base64," + base64.b64encode(text.encode()).decode()


def _modules(entry: str, where: str) -> dict[str, str]:
    """Text of a module and of all it imports, by path below the web folder; imports name that path.

    Workers know no import map: they become data addresses with everything they import in them.
    """
    found: dict[str, str] = {}
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        text = _WORKER.sub(lambda m, name=name: f'"{_nested(_resolved(name, m[1]), where)}"', _source(name, where))
        waiting += [_resolved(name, m[2]) for m in _IMPORT.finditer(text)]
        found[name] = _IMPORT.sub(lambda m, name=name: f'{m[1]}"{_resolved(name, m[2])}"', text)
    return found


def _nested(name: str, where: str) -> str:
    """A module as a data address, what it imports inside of it in the same way."""
    text = _IMPORT.sub(lambda m: f'{m[1]}"{_nested(_resolved(name, m[2]), where)}"', _source(name, where))
    return _data_address(text)


def _resolved(name: str, specifier: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), specifier))


def _source(name: str, where: str) -> str:
    try:
        return (_WEB / name).read_text(encoding="utf-8")
    except OSError:
        raise FlashWorldError(
            f"{where}: the viewer's file web/{name} is missing; a page can be written from the full repository only."
        ) from None
