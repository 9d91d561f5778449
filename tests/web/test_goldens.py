"""What the JavaScript tests replay (camera paths, documents, constants) is what the core gives today."""

import json

from make_goldens import FOLDER, make_cases, make_constants, make_documents

REMEDY = "run python scripts/make_goldens.py"


def kept(name):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def test_the_golden_paths_are_what_the_core_gives():
    old_cases, new_cases = kept("paths.json"), make_cases()
    assert [case["values"] for case in old_cases] == [case["values"] for case in new_cases], REMEDY
    for i, (old, new) in enumerate(zip(old_cases, new_cases, strict=True)):
        for frame, (a, b) in enumerate(zip(old["cameras"], new["cameras"], strict=True)):
            worst = max(abs(x - y) for x, y in zip(a, b, strict=True))
            assert worst < 2e-6, f"case {i}, frame {frame} differs by {worst}; {REMEDY}"


def test_the_core_reads_and_refuses_the_same_documents():
    documents = make_documents()
    assert {document["read"] for document in documents} == {True, False}
    assert kept("documents.json") == documents, REMEDY


def test_the_renderer_constants_are_the_cores():
    assert kept("constants.json") == make_constants(), REMEDY
