"""The texts of the nodes in ``locales/en`` are those of the nodes, and the frontend can read them."""

from __future__ import annotations

import json
import re

import pytest
from flashworld_pack.nodes import NODES
from make_locales import FOLDER, as_file, locale


@pytest.mark.parametrize("name", ["nodeDefs.json", "main.json"])
def test_up_to_date(name: str, host) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == as_file(locale(NODES)[name]), (
        "run python scripts/make_locales.py"
    )


def test_every_input_and_output_has_a_name_and_a_tooltip() -> None:
    for node, texts in json.loads((FOLDER / "nodeDefs.json").read_text(encoding="utf-8")).items():
        assert texts["display_name"] and texts["description"], node
        for group in ("inputs", "outputs"):
            for id, text in texts[group].items():
                assert text.get("name") and len(text.get("tooltip", "")) > 15, f"{node}: {id}"


def test_no_text_has_signs_the_frontend_would_take_for_commands() -> None:
    """The frontend's translations take { } @ | as links, choices and places for values."""
    text = (FOLDER / "nodeDefs.json").read_text(encoding="utf-8")
    for string in re.findall(r': "((?:[^"\\]|\\.)*)"', text):
        assert not set("{}@|") & set(string), string
