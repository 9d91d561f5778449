"""Pages say what the code says: the API page is its docstrings, the commands exist, their files are there."""

import re
import shlex
from pathlib import Path

from make_api_page import PAGE, page

from flashworld_core.cli import build_parser

ROOT = Path(__file__).parents[1]
PASTED = ("README.md", "docs/official_weights.md", "docs/faq.md", "docs/open_it_in.md")


def commands(name: str) -> list[str]:
    """What a page has a reader type that begins with ``flashworld``: in blocks, and in the running text."""
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^(flashworld .*)$", text, re.MULTILINE)
    return blocks + [line for line in re.findall(r"`(flashworld \w+ [^`]*)`", text) if "COMMAND" not in line]


def test_the_api_page_is_the_docstrings():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python scripts/make_api_page.py"


def test_every_command_of_the_pages_is_one_the_parser_takes():
    found = [(name, line) for name in PASTED for line in commands(name)]
    assert len(found) > 20
    parser = build_parser()
    for name, line in found:
        arguments = shlex.split(line)[1:]
        if "--help" not in arguments:
            try:
                parser.parse_args(arguments)
            except SystemExit as error:
                raise AssertionError(f"{name}: {line}") from error


def test_the_readme_names_files_that_are_there_and_writes_below_output():
    for line in commands("README.md"):
        for word in shlex.split(line)[1:]:
            if word.startswith("flashworld_core/"):
                assert (ROOT / word).exists(), line
        out = re.search(r"(?:--out|convert \S+) (\S+)", line)
        assert out is None or out[1].startswith("output/"), f"{line}: writes outside of output/, which git ignores"
