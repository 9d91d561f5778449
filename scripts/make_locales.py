"""Writes ``locales/en``, the texts of the nodes for translators, from the nodes themselves.

python scripts/make_locales.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "locales" / "en"


def locale(nodes: list[type]) -> dict[str, dict[str, Any]]:
    """The content of each file by its name: keys as ComfyUI's frontend looks them up."""
    definitions = {}
    for node in nodes:
        schema = node.GET_SCHEMA()
        definitions[_key(schema.node_id)] = {
            "display_name": schema.display_name,
            "description": schema.description,
            "inputs": {_key(thing.id): _text(thing, thing.display_name or thing.id) for thing in schema.inputs},
            "outputs": {str(i): _text(thing, thing.display_name) for i, thing in enumerate(schema.outputs or [])},
        }
    categories = {part: part for node in nodes for part in node.GET_SCHEMA().category.split("/")}
    return {"nodeDefs.json": definitions, "main.json": {"nodeCategories": categories}}


def as_file(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def _key(id: str) -> str:
    return id.replace(".", "_")  # a dot would be a level of the file


def _text(thing: Any, name: str) -> dict[str, str]:
    return {"name": name, **({"tooltip": thing.tooltip} if thing.tooltip else {})}


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "nodes"))
    from conftest import load_pack

    pack = load_pack()
    import folder_paths  # the stand-in's, found once the pack is loaded

    with tempfile.TemporaryDirectory() as empty:
        folder_paths.use(empty)
        pack.nodes.comfyui.folders.register_model_folder()
        files = locale(pack.nodes.NODES)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (FOLDER / name).write_text(as_file(content), encoding="utf-8")


if __name__ == "__main__":
    main()
