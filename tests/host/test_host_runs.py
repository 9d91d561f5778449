"""How the nodes behave while a real ComfyUI runs them: Cancel, the cache, memory, errors."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from host_client import HostClient
from host_scenes import HEIGHT, PATH, WIDTH, SceneGraph, upload_demo
from host_server import HostServer

pytestmark = pytest.mark.host
MODEL_BYTES = 15 << 20  # the embedded model has more than this in its parameters


@pytest.fixture(scope="module", autouse=True)
def demo(client: HostClient) -> None:
    upload_demo(client)


def files_of(host: HostServer) -> set[Path]:
    """Everything below the output and temp folders."""
    return {file for name in ("output", "temp") for file in (host.base / name).rglob("*") if file.is_file()}


def small(object_info: dict[str, Any], seed: int, **make: Any) -> SceneGraph:
    """A quick scene, its views saved."""
    graph = SceneGraph(object_info, seed=seed, **make)
    graph.saved = graph.save(graph.views, f"runs/seed{seed}")
    return graph


def cancelled(client: HostClient, graph: dict[str, Any], node: str, after: int = 1) -> tuple[Any, float]:
    """Run, press Cancel at the ``after``-th progress of ``node``; the run and the seconds from Cancel to its end."""
    pressed: list[float] = []
    seen: list[Any] = []

    def press(name: str, data: dict[str, Any]) -> None:
        if name == "progress" and data["node"] == node:
            seen.append(data)
            if len(seen) == after:
                client.interrupt()
                pressed.append(time.monotonic())

    run = client.run(graph, on_event=press)
    assert pressed, f"no progress of node {node} came: {run.ending} {run.error.get('exception_message')}"
    return run, time.monotonic() - pressed[0]


def test_cancel_while_generating(client: HostClient, object_info: dict[str, Any], host: HostServer) -> None:
    path = {"source": "preset", "preset": "orbit", "frames": 24, "width": WIDTH, "height": HEIGHT}
    graph = SceneGraph(object_info, path=path, picture=False, prompt="a red box", seed=901, steps=50)
    graph.add("FlashWorld_ExportScene", splat=graph.splat, filename_prefix="cancel/scene")
    client.run(small(object_info, 902))  # the models are loaded, so that the time below is that of the steps
    before = files_of(host)
    run, seconds = cancelled(client, graph, graph.made.id, after=2)
    assert run.ending == "execution_interrupted" and run.status["status_str"] == "error"
    assert run.of("execution_interrupted")[0]["node_id"] == graph.made.id
    assert seconds < 10, "Cancel took longer than a step"
    left = files_of(host) - before
    assert all("flashworld" in file.name and file.parent.name == "temp" for file in left), "Cancel left files behind"
    assert not any(file.is_relative_to(host.base / "output") for file in left)
    assert client.run(small(object_info, 902)).ending == "execution_success", "the next prompt does not work"


def test_cancel_while_rendering(client: HostClient, object_info: dict[str, Any], host: HostServer) -> None:
    graph = SceneGraph(object_info)
    path = graph.add("FlashWorld_CameraPath", source="preset", preset="orbit", frames=200, width=704, height=480)
    render = graph.render(trajectory=path[0])
    graph.save(render[0], "cancel/views")
    client.run(small(object_info, 109))
    before = files_of(host)
    run, seconds = cancelled(client, graph, render.id)
    assert run.ending == "execution_interrupted" and seconds < 10
    assert files_of(host) == before


def test_the_same_graph_again_is_taken_from_the_cache(client: HostClient, object_info: dict[str, Any]) -> None:
    graph = small(object_info, 11)
    graph.add("FlashWorld_ExportScene", splat=graph.splat, filename_prefix="runs/cached")
    assert client.run(graph).ending == "execution_success"
    again = client.run(graph)
    assert again.ending == "execution_success" and again.executed == set() and again.cached == set(graph)


def test_another_seed_runs_only_what_depends_on_it(client: HostClient, object_info: dict[str, Any]) -> None:
    client.run(small(object_info, 12))
    graph = small(object_info, 13)
    run = client.run(graph)
    assert run.executed == {graph.made.id, graph.saved}
    assert {graph.model.id, graph.path.id, graph.picture.id} <= run.cached


def test_a_changed_path_file_is_read_again(client: HostClient, object_info: dict[str, Any], host: HostServer) -> None:
    graph = small(object_info, 14)
    assert client.run(graph).ending == "execution_success"
    file = host.base / "input" / PATH
    file.write_text(file.read_text() + "\n")  # the same path, but the node cannot know
    run = client.run(graph)
    assert graph.path.id in run.executed and graph.model.id in run.cached and graph.picture.id in run.cached


def models(client: HostClient) -> dict[str, Any]:
    """What the host holds in memory."""
    return client.get("/flashworld_probe/models")


def test_free_gives_the_memory_back(client: HostClient, object_info: dict[str, Any]) -> None:
    def freed(bound: int) -> dict[str, Any]:
        client.free()
        end = time.monotonic() + 30
        while (now := models(client))["parameter_bytes"] > bound and time.monotonic() < end:
            time.sleep(0.5)
        return now

    base = freed(0)["parameter_bytes"]
    assert client.run(small(object_info, 15)).ending == "execution_success"
    held = models(client)
    assert held["managed"], "nothing of the pack is under ComfyUI's model management"
    assert held["parameter_bytes"] > base + MODEL_BYTES and held["modules"] > 0
    after = freed(base + (1 << 20))
    assert after["managed"] == []
    assert after["parameter_bytes"] <= base + (1 << 20), "the weights stay in memory after /free"
    assert client.run(small(object_info, 16)).ending == "execution_success", "nothing runs after /free"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        ({"image_index": 99}, "image_index"),
        ({"path": {"source": "preset", "preset": "orbit", "frames": 4, "width": 100, "height": 64}}, "multiple of"),
        ({"picture": False, "prompt": "  "}, "prompt"),
    ],
    ids=["image index", "size", "neither image nor prompt"],
)
def test_errors_name_the_node_and_the_remedy(
    client: HostClient, object_info: dict[str, Any], make: dict[str, Any], words: str
) -> None:
    graph = small(object_info, 17, **make)
    run = client.run(graph)
    assert run.ending == "execution_error"
    assert run.error["node_type"] == "FlashWorld_Generate"
    assert "Generate Scene" in run.error["exception_message"] and words in run.error["exception_message"]
