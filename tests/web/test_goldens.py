"""The camera paths the JavaScript tests replay are the ones the core gives today."""

import json

from make_goldens import FILE, make_cases


def test_the_golden_paths_are_what_the_core_gives():
    kept, today = json.loads(FILE.read_text(encoding="utf-8")), make_cases()
    assert [case["values"] for case in kept] == [case["values"] for case in today]
    for i, (old, new) in enumerate(zip(kept, today, strict=True)):
        for frame, (a, b) in enumerate(zip(old["cameras"], new["cameras"], strict=True)):
            worst = max(abs(x - y) for x, y in zip(a, b, strict=True))
            assert worst < 2e-6, f"case {i}, frame {frame} differs by {worst}; run python tests/web/make_goldens.py"
