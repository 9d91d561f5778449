"""The files of ``workflows/`` without ComfyUI: they fit the nodes, and name nothing of one machine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from flashworld_pack.nodes import NODES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "workflows"
FILES = sorted(FOLDER.glob("*.json"))
NAMES = {
    "image_to_scene", "text_to_scene", "core_image_to_scene", "custom_path_keyframes", "render_depth_and_holes_video",
    "clean_and_export", "preview_and_fly", "open_clean_convert", "image_to_object",
}  # fmt: skip
# Every host from 0.3.60 has them; a workflow with others would open with a missing node on some.
CORE = {
    "LoadImage", "PreviewImage", "MaskPreview", "CreateVideo", "SaveVideo", "EmptyImage", "ImageStitch",
    "ImageCompositeMasked", "SolidMask", "MaskComposite",
}  # fmt: skip
NOTES = {"MarkdownNote"}
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
TITLE_BAR = 30  # graph pixels
every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


@pytest.fixture
def schemas(host) -> dict[str, Any]:
    """Of the pack's nodes, by id."""
    return {schema.node_id: schema for schema in (node.GET_SCHEMA() for node in NODES)}


def read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def widgets_of(schema: Any) -> list[Any]:
    """The inputs that have a value in the file, in its order; None stands for what happens to a seed after a run."""
    found = []
    for thing in schema.inputs:
        if thing.io_type in WIDGETS:
            found.append(thing)
            if getattr(thing, "control_after_generate", None):
                found.append(None)
    return found


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(s for v in value.values() for s in strings(v))]
    if isinstance(value, list):
        return [s for v in value for s in strings(v)]
    return [value] if isinstance(value, str) else []


def test_all_are_here() -> None:
    assert {file.stem for file in FILES} == NAMES


@every_file
def test_nodes_are_known_and_say_which_pack_they_are_from(file: Path, schemas: dict[str, Any]) -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
    nodes = read(file)["nodes"]
    assert any(node["type"] in schemas for node in nodes) and any(node["type"] in NOTES for node in nodes)
    for node in nodes:
        if node["type"] in NOTES:
            continue
        assert node["type"] in CORE or node["type"] in schemas, node["type"]
        source = {key: node["properties"].get(key) for key in ("cnr_id", "ver")}
        if node["type"] in schemas:
            assert source == {"cnr_id": "flashworld", "ver": version}
        else:
            assert source["cnr_id"] == "comfy-core" and re.fullmatch(r"\d+\.\d+\.\d+", source["ver"])


@every_file
def test_widget_values_fit_the_nodes(file: Path, schemas: dict[str, Any]) -> None:
    for node in read(file)["nodes"]:
        if node["type"] not in schemas:
            continue
        widgets, values = widgets_of(schemas[node["type"]]), node.get("widgets_values", [])
        assert len(values) == len(widgets), node["type"]
        for widget, value in zip(widgets, values, strict=True):
            if widget is None:
                assert value == "fixed", f"{node['type']}: another seed after each run"
            elif (node["type"], widget.id) == ("FlashWorld_LoadScene", "file"):
                assert value == "scene.ply"  # of the user
            elif widget.io_type == "COMBO":
                assert value in widget.options, f"{node['type']}.{widget.id}"
            elif widget.io_type in ("INT", "FLOAT"):
                assert widget.min <= value <= widget.max, f"{node['type']}.{widget.id}"
            else:
                assert isinstance(value, bool if widget.io_type == "BOOLEAN" else str), f"{node['type']}.{widget.id}"


@pytest.mark.parametrize("file", sorted((ROOT / "tests" / "data" / "workflows").glob("*.json")), ids=lambda f: f.stem)
def test_workflows_of_earlier_versions_fit(file: Path, schemas: dict[str, Any]) -> None:
    """Their values are the first of today's, in the same order; what came later has a default."""
    for node in read(file)["nodes"]:
        if node["type"] not in schemas:
            continue
        schema, values = schemas[node["type"]], node.get("widgets_values", [])
        widgets = widgets_of(schema)
        assert len(values) <= len(widgets), node["type"]
        for widget, value in zip(widgets, values, strict=False):
            if widget is not None and widget.io_type in ("INT", "FLOAT"):
                assert widget.min <= value <= widget.max, f"{node['type']}.{widget.id}"
            elif widget is not None and widget.io_type == "COMBO":
                assert value in widget.options, f"{node['type']}.{widget.id}"
        assert all(widget is None or widget.optional for widget in widgets[len(values) :]), node["type"]
        outputs = node.get("outputs", [])
        assert [old["type"] for old in outputs] == [new.io_type for new in schema.outputs[: len(outputs)]]


@every_file
def test_links_join_sockets_of_one_type(file: Path, schemas: dict[str, Any]) -> None:
    workflow = read(file)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for id, source, slot, target, entry, kind in workflow["links"]:
        out, into = nodes[source]["outputs"][slot], nodes[target]["inputs"][entry]
        assert id in out["links"] and into["link"] == id
        assert out["type"] == into["type"] == kind
    linked = {link[0] for link in workflow["links"]}
    for node in nodes.values():
        named = {thing["name"]: thing.get("link") for thing in node.get("inputs", [])}
        assert {link for link in named.values() if link is not None} <= linked
        if node["type"] in schemas:
            needed = [t.id for t in schemas[node["type"]].inputs if not t.optional and t.io_type not in WIDGETS]
            assert all(named.get(name) is not None for name in needed), f"{node['type']} lacks an input"
            kinds = [thing.io_type for thing in schemas[node["type"]].outputs]
            assert [thing["type"] for thing in node["outputs"]] == kinds


@every_file
def test_runs_without_files_of_the_user(file: Path) -> None:
    """The embedded model at its own size, and the picture that comes with ComfyUI; but for what opens a scene."""
    nodes = read(file)["nodes"]
    if any(node["type"] in ("FlashWorld_LoadScene", "FlashWorld_ImageToObject") for node in nodes):
        return
    for node in nodes:
        if node["type"] == "FlashWorld_LoadModel":
            assert node["widgets_values"][0].endswith("-tiny (embedded)")
            assert {m["name"] for m in node["properties"]["models"]} == {"model.ckpt"}
            for model in node["properties"]["models"]:
                assert model["directory"] == "flashworld" and model["url"].startswith("https://huggingface.co/")
        if node["type"] == "LoadImage":
            assert node["widgets_values"][0] == "example.png"
    assert sum(node["type"] == "FlashWorld_Generate" for node in nodes) == 1


@every_file
def test_no_path_of_a_machine(file: Path) -> None:
    for text in strings(read(file)):
        assert not re.search(r"(^|[\s\"'=(])(/|~|[A-Za-z]:[\\/])\w", text), text
        assert "\\\\" not in text and ".." not in text.replace("...", ""), text
    assert file.read_text(encoding="utf-8").isascii()


@every_file
def test_nodes_lie_in_their_groups_and_on_no_other(file: Path) -> None:
    workflow = read(file)
    boxes = [(*n["pos"][:2], *n["size"][:2]) for n in workflow["nodes"]]
    for i, (x, y, w, h) in enumerate(boxes):
        for left, top, width, height in (group["bounding"] for group in workflow["groups"]):
            if left <= x and x + w <= left + width and top <= y - TITLE_BAR and y + h <= top + height:
                break
        else:
            raise AssertionError(f"node at {x}, {y} is in no group")
        for ox, oy, ow, oh in boxes[i + 1 :]:
            assert x + w <= ox or ox + ow <= x or y + h <= oy - TITLE_BAR or oy + oh <= y - TITLE_BAR


@every_file
def test_has_a_thumbnail(file: Path) -> None:
    from PIL import Image

    picture = file.with_suffix(".jpg")
    assert picture.stat().st_size < 100_000
    with Image.open(picture) as opened:
        assert opened.format == "JPEG" and opened.width >= 384 and 1.2 < opened.width / opened.height < 2
        spread = opened.convert("L").getextrema()
        assert spread[1] - spread[0] > 60, "there is nothing on it"
    assert {p.suffix for p in FOLDER.iterdir()} == {".json", ".jpg"}
