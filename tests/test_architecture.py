"""ARCHITECTURE.md shows the imports as they are, and names files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import draw_architecture
import pytest

ROOT = Path(__file__).parents[1]


def test_the_diagram_is_up_to_date():
    page = draw_architecture.PAGE.read_text(encoding="utf-8")
    assert page.count(draw_architecture.BEGIN) == page.count(draw_architecture.END) == 1
    assert draw_architecture.drawn(page) == page, "run python scripts/draw_architecture.py"


PAGES = [
    *("ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "CHANGELOG.md"),
    *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    paths = re.findall(r"`((?:flashworld_core|nodes|web|tests|scripts|benchmarks|workflows|examples)/[\w./-]*)`", text)
    beside = (ROOT / page).parent
    missing = [p for p in links + paths if "NAME" not in p and not (ROOT / p).exists() and not (beside / p).exists()]
    assert not missing
