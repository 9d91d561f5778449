"""Every node has a help page that names all its inputs and outputs and shows a picture made by us."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flashworld_pack.nodes import NODES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "web" / "docs"


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_page(node: Any, host) -> None:
    schema = node.GET_SCHEMA()
    text = (FOLDER / f"{schema.node_id}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {schema.display_name}\n")
    assert "## If it does not work" in text
    for thing in schema.inputs:
        if not re.fullmatch(r"camera[1-9]", thing.id):  # one growing input on newer hosts
            assert re.search(rf"(\*\*|`|, ){thing.id}\b", text), f"the page does not explain {thing.id}"
    for thing in schema.outputs:
        assert f"**{thing.display_name}**" in text, f"the page does not explain the output {thing.display_name}"
    pictures = re.findall(r"!\[.{10,}\]\((\S+)\)", text)
    assert pictures == [f"{schema.node_id}.jpg"]
    assert 5_000 < (FOLDER / pictures[0]).stat().st_size < 150_000


def test_the_folder_holds_nothing_else() -> None:
    ids = {"FlashWorld_" + node.__name__ for node in NODES}
    assert {file.name for file in FOLDER.iterdir()} == {id + ending for id in ids for ending in (".md", ".jpg")}
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 1_500_000
