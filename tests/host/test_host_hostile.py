"""Hostile workflows: whatever they say, nothing outside ComfyUI's folders is read or written, and nothing crashes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from host_client import HostClient, Rejected
from host_scenes import HEIGHT, WIDTH, SceneGraph, upload_demo
from host_server import HostServer

pytestmark = pytest.mark.host
UNTOUCHED = {"user", "temp", "host.log", "__pycache__"}  # the host's own, and the place for live previews
LONG = "x" * 5000
NAMES = {
    "absolute": "/tmp/flashworld_escaped/scene",
    "windows absolute": "C:\\flashworld_escaped\\scene",
    "share": "\\\\server\\share\\scene",
    "home": "~/flashworld_escaped",
    "up": "../flashworld_escaped/scene",
    "up within": "a/../../flashworld_escaped",
    "up with backslashes": "..\\..\\flashworld_escaped",
    "symlink": "linked_out/scene",
    "device": "CON",
    "device with ending": "aux.ply",
    "device as folder": "nul/scene",
    "device with blanks": "COM1 .txt",
    "stream": "scene.ply:hidden",
    "zero byte": "scene\x00.ply",
    "line break": "scene\nname",
    "wildcards": "scene*?",
    "dot at the end": "scene./x.",
    "long": LONG,
    "empty": "",
}


@pytest.fixture(scope="module")
def outside(client: HostClient, host: HostServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder outside the host's, which links in its output and input folders point to."""
    upload_demo(client)
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret.json").write_text('{"cameras": "secret words"}')
    for name in ("output", "input"):
        (host.base / name / "linked_out").symlink_to(folder, target_is_directory=True)
    (host.base / "input" / "linked.json").symlink_to(folder / "secret.json")
    yield folder
    for link in (host.base / "output/linked_out", host.base / "input/linked_out", host.base / "input/linked.json"):
        link.unlink()


def everything(host: HostServer, outside: Path) -> set[Path]:
    """Files of the host's base folder, of its parent's top, of ``outside`` and of the usual targets of an escape."""
    found = {p for p in host.base.rglob("*") if not UNTOUCHED & set(p.relative_to(host.base).parts)}
    found |= set(host.base.parent.iterdir()) | set(outside.rglob("*")) | set(Path("/tmp").glob("flashworld_esc*"))
    return found | set(host.host.glob("*")) | set(Path.home().glob("flashworld_esc*"))


def refused(client: HostClient, graph: dict[str, Any], node: str) -> str:
    """The message with which ``graph`` fails, which must be about ``node``."""
    try:
        run = client.run(graph)
        errors = run.node_errors  # of branches the host left out
    except Rejected as rejected:
        errors = rejected.answer["node_errors"]
    if errors:
        assert list(errors) == [node], errors
        return " ".join(f"{e['message']} {e['details']}" for e in errors[node]["errors"])
    assert run.ending == "execution_error", "it was accepted"
    assert run.error["node_id"] == node
    message = run.error["exception_message"]
    assert run.error["exception_type"].endswith("FlashWorldError"), f"not a planned refusal: {message}"
    return message


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("kind", ["FlashWorld_ExportScene", "FlashWorld_SaveCameraPath"])
def test_file_prefixes_stay_inside(
    client: HostClient, object_info: dict[str, Any], host: HostServer, outside: Path, kind: str, name: str
) -> None:
    graph = SceneGraph(object_info)
    given = {"splat": graph.splat} if kind == "FlashWorld_ExportScene" else {"trajectory": graph.path[0]}
    writer = graph.add(kind, filename_prefix=name, **given)
    before = everything(host, outside)
    message = refused(client, graph, writer.id)
    assert everything(host, outside) == before
    assert "filename_prefix" in message and len(message) < 600, message
    assert host.alive


FILES = {
    "up": "../../../../../../etc/passwd",
    "absolute": "/etc/passwd",
    "up with ending": "../outside0/secret.json",
    "linked file": "linked.json",
    "through a link": "linked_out/secret.json",
    "zero byte": "demo_path.json\x00",
    "other folder": "x [../]",
    "device": "con",
    "not there": "missing.json",
    "a number": 7,
    "a list": {"__value__": ["a", "b"]},
    "nothing": None,
}


@pytest.mark.parametrize("name", FILES.values(), ids=FILES)
@pytest.mark.parametrize("kind", ["FlashWorld_LoadModel.model", "FlashWorld_CameraPath.path_file",
                                  "FlashWorld_LoadCameraPath.file"])  # fmt: skip
def test_file_choices_stay_inside(
    client: HostClient, object_info: dict[str, Any], host: HostServer, outside: Path, kind: str, name: Any
) -> None:
    node_kind, input_name = kind.split(".")
    graph = SceneGraph(object_info)
    if node_kind == "FlashWorld_LoadCameraPath":
        node = graph.add(node_kind, file=name)
        graph.add("FlashWorld_SaveCameraPath", trajectory=node[0], filename_prefix="hostile/path")
    else:
        node = graph.model if node_kind == "FlashWorld_LoadModel" else graph.path
        graph[node.id]["inputs"][input_name] = name
        graph.save(graph.views, "hostile/views")
    before = everything(host, outside)
    message = refused(client, graph, node.id)
    assert everything(host, outside) == before
    assert "secret words" not in message and "root:" not in message
    assert host.alive


VALUES = [
    ("FlashWorld_CameraPath", "frames", 10**12),
    ("FlashWorld_CameraPath", "width", -64),
    ("FlashWorld_CameraPath", "height", 10**9),
    ("FlashWorld_CameraPath", "amount", float("nan")),
    ("FlashWorld_CameraPath", "field_of_view", float("inf")),
    ("FlashWorld_CameraPath", "moves", "orbit:1e400+" * 50),
    ("FlashWorld_CameraPath", "preset", "__import__('os')"),
    ("FlashWorld_CameraPath", "source", {"a": 1}),
    ("FlashWorld_CameraPath", "easing", "sideways"),
    ("FlashWorld_LoadModel", "dtype", "int1"),
    ("FlashWorld_Generate", "size_from", "the moon"),
    ("FlashWorld_RenderViews", "softness", ["a", "b", "c"]),
    ("FlashWorld_ExportScene", "format", "../ply"),
    ("FlashWorld_CleanScene", "crop", "\x00"),
    ("FlashWorld_Generate", "steps", 10**9),
    ("FlashWorld_Generate", "seed", -1),
    ("FlashWorld_Generate", "image_index", -(10**20)),
    ("FlashWorld_RenderViews", "width", 10**8),
    ("FlashWorld_RenderViews", "frames", 10**8),
    ("FlashWorld_RenderViews", "background", "url(http://127.0.0.1/)"),
    ("FlashWorld_RenderViews", "background", LONG),
    ("FlashWorld_CleanScene", "max_size", float("nan")),
    ("FlashWorld_CleanScene", "max_gaussians", -5),
    ("FlashWorld_PreviewScene", "view", "{" * 10000),
    ("FlashWorld_PreviewScene", "view", '{"position": [1e999, 0, 0], "quaternion": [0, 0, 0, 0]}'),
    ("FlashWorld_PreviewScene", "budget", 10**15),
]
DOCUMENTS = [
    "not json",
    "[" * 100000,
    '{"version": 1e999, "keyframes": []}',
    '{"version": 99, "keyframes": []}',
    '{"version": 1, "keyframes": [{"position": [NaN, 0, 0], "quaternion": [1, 0, 0, 0]}]}',
    '{"version": 1, "keyframes": [{"position": [1, 0], "quaternion": [1, 0, 0, 0]}]}',
    '{"version": 1, "keyframes": [{"position": [1, 0, 0], "quaternion": [0, 0, 0, 0]}]}',
    '{"version": 1, "keyframes": 7}',
    '{"__proto__": {"x": 1}}',
]
VALUES += [("FlashWorld_CameraPath", "keyframes", document) for document in DOCUMENTS]


@pytest.mark.parametrize(("kind", "name", "value"), VALUES, ids=[f"{n}={str(v)[:30]}" for _, n, v in VALUES])
def test_values_out_of_range_are_refused(
    client: HostClient, object_info: dict[str, Any], host: HostServer, outside: Path, kind: str, name: str, value: Any
) -> None:
    graph = SceneGraph(object_info)
    of_the_scene = {
        "FlashWorld_CameraPath": graph.path,
        "FlashWorld_Generate": graph.made,
        "FlashWorld_LoadModel": graph.model,
    }
    if kind in of_the_scene:
        node = of_the_scene[kind]
        if kind == "FlashWorld_CameraPath":
            graph[node.id]["inputs"] |= {"source": "keyframes" if name == "keyframes" else "preset", "frames": 3}
            graph[node.id]["inputs"] |= {"width": WIDTH, "height": HEIGHT}
        graph[node.id]["inputs"][name] = value
    else:
        node = graph.add(kind, splat=graph.splat, **{name: value})
        if kind == "FlashWorld_RenderViews":
            graph[node.id]["inputs"]["trajectory"] = graph.path[0]
        if kind == "FlashWorld_CleanScene":
            graph.add("FlashWorld_ExportScene", splat=node[0], filename_prefix="hostile/scene")
        if kind == "FlashWorld_RenderViews":
            graph.save(node[0], "hostile/views")
    if kind in of_the_scene:
        graph.save(graph.views, "hostile/made")
    before = everything(host, outside)
    refused(client, graph, node.id)
    written = everything(host, outside) - before
    assert all(p.is_relative_to(host.base / "output" / "hostile") for p in written), written
    assert host.alive


def test_links_to_the_wrong_kind_are_refused(client: HostClient, object_info: dict[str, Any], host: HostServer) -> None:
    graph = SceneGraph(object_info)
    export = graph.add("FlashWorld_ExportScene", splat=graph.model[0])
    assert "splat" in refused(client, graph, export.id)
    with pytest.raises(Rejected):
        client.run({"1": {"class_type": "FlashWorld_ExportScene"}})
    with pytest.raises(Rejected):
        client.run({"1": {"class_type": "FlashWorld_ExportScene", "inputs": {"splat": ["1", 0]}}})
    assert host.alive
