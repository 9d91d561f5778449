"""The stand-in host of the unit tests has nothing that this real ComfyUI lacks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from host_server import PACK, NoHost, find_host, find_python, host_environment

pytestmark = pytest.mark.host
STANDIN = PACK / "tests" / "nodes" / "standin"
FOR_TESTS = {"folder_paths:use", "server:PromptServer"}  # the stand-in's own controls, and what the host itself makes
POSITIONAL = ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD")


def differences(standin: dict[str, Any], real: dict[str, Any]) -> list[str]:
    """What a caller could do with the stand-in and not with the real thing, or must do there and not here."""
    found = []
    for name in standin.keys() - FOR_TESTS:
        ours, theirs = standin[name], real[name]
        if theirs is None:
            found.append(f"{name}: not in the host")
            continue
        if ours.get("value") != theirs.get("value"):
            found.append(f"{name}: {ours.get('value')!r} here, {theirs.get('value')!r} there")
        there = {p: (kind, required) for p, kind, required in theirs.get("parameters", [])}
        here = [p for p, _, _ in ours.get("parameters", [])]
        catches_all = any(kind == "VAR_KEYWORD" for kind, _ in there.values())
        found += [f"{name}: parameter {p!r} not in the host" for p in here if p not in there and not catches_all]
        found += [f"{name}: {p!r} must be given in the host" for p, (_, need) in there.items()
                  if need and p not in here and not there[p][0].startswith("VAR")]  # fmt: skip
        order = [p for p, (kind, _) in there.items() if kind in POSITIONAL]
        places = [order.index(p) for p, kind, _ in ours.get("parameters", []) if kind in POSITIONAL and p in order]
        if places != list(range(len(places))):
            found.append(f"{name}: positional order {here} here, {order} there")
    return sorted(found)


def _run(python: Path | str, *arguments: object, **options: Any) -> dict[str, Any]:
    command = [python, Path(__file__).parents[1] / "support" / "signatures.py", *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def standin() -> dict[str, Any]:
    return _run(sys.executable, "walk", STANDIN)


@pytest.fixture(scope="module")
def real(standin: dict[str, Any]) -> dict[str, Any]:
    try:
        host = find_host()
        python = find_python(host)
    except NoHost as reason:
        pytest.skip(str(reason))
    return _run(python, "look", host, cwd=host, env=host_environment(), input=json.dumps(sorted(standin)))


def test_everything_of_the_standin_is_in_the_host(standin: dict[str, Any], real: dict[str, Any]) -> None:
    assert len(standin) > 40  # the walk found the stand-in's modules
    found = differences(standin, real)
    assert not found, "\n" + "\n".join(found)


def test_the_comparison_sees_what_the_host_lacks(standin: dict[str, Any], real: dict[str, Any]) -> None:
    bar = "comfy.utils:ProgressBar"
    extra = {"parameters": [*standin[bar]["parameters"], ["color", "POSITIONAL_OR_KEYWORD", False]]}
    assert any("color" in line for line in differences({**standin, bar: extra}, real))
    swapped = {"parameters": standin[bar]["parameters"][::-1]}
    assert any("order" in line for line in differences({**standin, bar: swapped}, real))
    assert any("not in the host" in line for line in differences({bar: standin[bar]}, {bar: None}))
    assert any("must be given" in line for line in differences({bar: {"parameters": []}}, real))
