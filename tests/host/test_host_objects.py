"""Objects made in a real ComfyUI: the loader, the object nodes, and ComfyUI's own Save GLB behind them."""

from __future__ import annotations

from typing import Any

import pytest
from host_client import HostClient, output_files
from host_graphs import Graph
from host_scenes import HEIGHT, PICTURE, WIDTH, SceneGraph, pictures, upload_demo
from host_server import HostServer
from small_vfusion3d import save_small_model

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def model(client: HostClient, host: HostServer) -> str:
    """The name of a small VFusion3D model in the loader's list."""
    upload_demo(client)
    folder = host.base / "models" / "flashworld"
    folder.mkdir(parents=True, exist_ok=True)
    name = save_small_model(folder).name
    info = client.object_info()["FlashWorld_LoadModel"]["input"]["required"]["model"]
    assert name in str(info)
    return name


def add_object(graph: Graph, model: str):
    loaded = graph.add("FlashWorld_LoadModel", model=model)
    picture = graph.add("LoadImage", image=PICTURE)
    return graph.add("FlashWorld_ImageToObject", model=loaded[0], image=picture[0], mask=picture[1])


def test_an_object_goes_into_a_scene(
    client: HostClient, object_info: dict[str, Any], host: HostServer, model: str
) -> None:
    graph = SceneGraph(client.object_info())
    thing = add_object(graph, model)
    coarse = graph.add("FlashWorld_FieldToSplat", field=thing[3], resolution=32)
    placed = graph.add(
        "FlashWorld_PlaceObject", scene=graph.splat, object=coarse[0], trajectory=graph.path[0], scale=0.2, pixel_y=0.8
    )
    seen, around = graph.save(placed[1], "objects/placed"), graph.save(thing[1], "objects/around")
    before = graph.save(graph.views, "objects/before")
    run = client.run(graph)
    assert run.ending == "execution_success", run.error.get("exception_message")
    image = pictures(run, seen, host.base)
    assert image.shape[1:3] == (HEIGHT, WIDTH) and len(pictures(run, around, host.base)) > 3
    assert abs(image[0] - pictures(run, before, host.base)[0]).max() > 0.1


def test_a_field_becomes_a_mesh_file(
    client: HostClient, object_info: dict[str, Any], host: HostServer, model: str
) -> None:
    graph = Graph(client.object_info())
    mesh = graph.add("FlashWorld_FieldToMesh", field=add_object(graph, model)[3], resolution=32)
    saved = graph.add("SaveGLB", mesh=mesh[0], filename_prefix="objects/mesh")
    run = client.run(graph)
    if run.ending != "execution_success":
        assert "pip install scikit-image" in run.error.get("exception_message", ""), run.error
        pytest.skip("this ComfyUI has no scikit-image, which the node says")
    (file,) = output_files(run, saved.id, host.base)
    assert file.read_bytes()[:4] == b"glTF" and file.stat().st_size > 1000
