"""Imports in web/ go down only and never in a circle, dynamic ones included."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "web"
# What a folder's files may import: themselves, and what stands here. path/math3d.mjs is everybody's.
BELOW = {
    "": {"widgets"},  # extension.js
    "widgets": {"path", "viewer"},
    "viewer": set(),
    "path": set(),
}
SHARED = "path/math3d.mjs"
HOST = {"../../scripts/app.js", "../../scripts/api.js"}  # ComfyUI's own
_STATIC = re.compile(r'^(?:import|export)\b[^;"]*?\bfrom\s+"([^"]+)"|^import\s+"([^"]+)"', re.MULTILINE)
_DYNAMIC = re.compile(r'\bimport\(\s*"([^"]+)"\s*\)')
_COMMENT = re.compile(r"/\*.*?\*/|^\s*//.*$", re.DOTALL | re.MULTILINE)


def imports_of(text: str) -> list[str]:
    """The addresses a module imports, static ones first."""
    text = _COMMENT.sub("", text)
    return [a or b for a, b in _STATIC.findall(text)] + _DYNAMIC.findall(text)


def graph(root: Path) -> dict[str, list[str]]:
    """Module -> the modules it imports, all as paths below ``root``.

    Raises:
        AssertionError: an import of a file that does not exist, or of something neither ours nor ComfyUI's.
    """
    found = {}
    for file in sorted([*root.rglob("*.mjs"), *root.rglob("*.js")]):
        name = file.relative_to(root).as_posix()
        found[name] = []
        for address in imports_of(file.read_text(encoding="utf-8")):
            if name == "extension.js" and address in HOST:
                continue
            target = (file.parent / address).resolve()
            assert address.startswith(".") and target.is_file(), f"{name} imports {address}, which is not there"
            found[name].append(target.relative_to(root.resolve()).as_posix())
    return found


def upward(modules: dict[str, list[str]]) -> list[str]:
    """Imports that the floors do not allow, as "a -> b"."""
    wrong = []
    for name, targets in modules.items():
        floor = name.rpartition("/")[0]
        for target in targets:
            other = target.rpartition("/")[0]
            if other != floor and other not in BELOW[floor] and target != SHARED:
                wrong.append(f"{name} -> {target}")
    return wrong


def circle(modules: dict[str, list[str]]) -> list[str]:
    """The modules of one import circle in order, [] if there is none."""
    done: set[str] = set()

    def walk(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        for target in modules.get(name, []):
            if found := walk(target, [*trail, name]):
                return found
        done.add(name)
        return []

    return next((found for name in modules if (found := walk(name, []))), [])


@pytest.fixture(scope="module")
def modules() -> dict[str, list[str]]:
    return graph(WEB)


def test_imports_go_down(modules):
    assert len(modules) > 30 and sum(map(len, modules.values())) > 60, "the imports are not found"
    assert not upward(modules)


def test_no_module_imports_itself_through_others(modules):
    assert not circle(modules)


def test_everything_is_reached_from_the_extension(modules):
    """What nothing imports is dead; widgets are imported by name, the worker by its address."""
    imported = {target for targets in modules.values() for target in targets}
    text = "".join((WEB / name).read_text(encoding="utf-8") for name in ("extension.js", "viewer/sorter.mjs"))
    named = {name for name in modules if name.rpartition("/")[2] in text}
    assert set(modules) - imported - named == {"extension.js", "viewer/page.mjs"}  # the latter starts an exported page


def test_violations_are_found(tmp_path):
    for name, text in {
        "extension.js": 'import { app } from "../../scripts/app.js";',
        "widgets/a.mjs": 'import { b } from "./b.mjs";\nimport "../viewer/v.mjs";',
        "widgets/b.mjs": 'export const load = async () => {\n  const { a } = await import("./a.mjs");\n};',
        "viewer/v.mjs": 'import {\n  one,\n  two,\n} from "../path/p.mjs";\n/* import { x } from "../gone.mjs"; */',
        "path/p.mjs": 'export { a } from "../widgets/a.mjs";\n// import "../gone.mjs";',
        "path/math3d.mjs": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    modules = graph(tmp_path)
    assert upward(modules) == ["path/p.mjs -> widgets/a.mjs", "viewer/v.mjs -> path/p.mjs"]
    found = circle(modules)
    assert found[0] == found[-1] and set(found) >= {"widgets/a.mjs"}
    (tmp_path / "path/math3d.mjs").write_text('import "./gone.mjs";', encoding="utf-8")
    with pytest.raises(AssertionError, match="not there"):
        graph(tmp_path)
