"""The law of imports: down only, no circle, ComfyUI in one place. `ARCHITECTURE.md` says it in words."""

from __future__ import annotations

import graphlib

import pytest
from package_imports import CORE, FLOORS, floor_of, imports, imports_of, modules, room_of

MAX_LINES = 400
# (module, imported module): why it is allowed to break the law. Empty is the aim.
EXCEPTIONS: dict[tuple[str, str], str] = {}


def host_name(name: str) -> bool:
    """Whether an imported name is ComfyUI's."""
    top = name.split(".")[0]
    return top.startswith("comfy") or top in ("server", "folder_paths", "nodes", "execution")


def generator_of(module: str) -> str | None:
    """The name of the generator whose folder a module is in."""
    parts = module.split(".")
    return parts[2] if parts[:2] == [CORE, "generators"] and len(parts) > 2 and parts[2] != "base" else None


def violation(module: str, imported: str) -> str | None:
    """Say what is wrong about one module importing another; None: nothing."""
    ours = imported.split(".")[0]
    if module.split(".")[0] == CORE:
        if ours != CORE:
            return "the core imports no ComfyUI and none of the nodes" if host_name(imported) else None
        if module == f"{CORE}.__main__" or imported == CORE:  # the door to the command line; __version__
            return None
        if room_of(imported) is None or room_of(module) is None:
            return f"{imported if room_of(imported) is None else module} stands on no floor: add it to FLOORS"
        if floor_of(room_of(imported)) > floor_of(room_of(module)):
            return "imports go down only"
        theirs = generator_of(imported)
        own_table = module == f"{CORE}.generators"
        if theirs and theirs != generator_of(module) and room_of(module) != "training" and not own_table:
            return "only training knows a generator by name; others take `generators.load_model`"
        return None
    if ours == CORE:
        if generator_of(imported):
            return "nodes never import generators/<name>; use the Generator protocol"
        return "nodes do not import the command line" if room_of(imported) == "cli" else None
    if ours == "nodes":
        return None
    if host_name(imported) and not module.startswith("nodes.comfyui"):
        return "only nodes/comfyui imports ComfyUI"
    return None


def violations(graph) -> dict[tuple[str, str], str]:
    """All pairs (module, imported) that break the law, with what is wrong."""
    pairs = ((module, imported) for module, all_of_it in graph.items() for imported in sorted(all_of_it))
    return {pair: wrong for pair in pairs if (wrong := violation(*pair))}


def test_imports_go_down_only():
    found = violations(imports())
    unknown = [f"{a} imports {b}: {why}" for (a, b), why in found.items() if (a, b) not in EXCEPTIONS]
    assert not unknown, "\n".join(unknown)
    assert set(EXCEPTIONS) <= set(found), "an exception that is no longer needed goes"


def test_no_module_is_in_a_circle():
    graph = imports()
    tables = {f"{CORE}.generators", f"{CORE}.formats.scenes"}  # their entries are imported on first use, by name
    order = {
        name: [i for i in found if i in graph and i != name] for name, found in graph.items() if name not in tables
    }
    try:
        graphlib.TopologicalSorter(order).prepare()
    except graphlib.CycleError as error:
        pytest.fail("a circle: " + " -> ".join(error.args[1]))


def test_every_room_on_the_floors_or_announced():
    """No name in the table that nothing has, but those the plan announces."""
    announced = {"chaining", "batch", "compiled"}
    rooms = {room_of(name) for name in modules() if name.startswith(CORE)}
    assert {name for floor in FLOORS for name in floor} - rooms <= announced


def test_no_file_is_too_long():
    long = {n: lines for n, f in modules().items() if (lines := len(f.read_text("utf-8").splitlines())) > MAX_LINES}
    assert not long, f"more than {MAX_LINES} lines; split by subject: {long}"


@pytest.mark.parametrize(
    ("module", "text", "wrong"),
    [
        ("flashworld_core.ops.x", "from ..rendering.render import render", "down only"),
        ("flashworld_core.ops.x", "from ..rendering.constants import LOW_PASS", None),
        ("flashworld_core.rendering.x", "def f():\n    from ..trajectories import presets", "down only"),
        ("flashworld_core.errors", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import cli", None),
        ("flashworld_core.media.x", "import comfy.utils", "no ComfyUI"),
        ("flashworld_core.media.x", "def f():\n    import folder_paths", "no ComfyUI"),
        ("flashworld_core.cli.x", "from ..generators.flashworld.config import A", "only training"),
        ("flashworld_core.datasets.x", "from ..generators.flashworld import cameras", "only training"),
        ("flashworld_core.generators.trellis.x", "from ..flashworld import cameras", "only training"),
        ("flashworld_core.attic.x", "from ..errors import FlashWorldError", "no floor"),
        ("nodes.x", "from ..flashworld_core.generators.flashworld import memory", "protocol"),
        ("nodes.x", "from ..flashworld_core.cli import main", "command line"),
        ("nodes.x", "import comfy.model_management", "only nodes/comfyui"),
        ("nodes.comfyui.x", "import comfy.model_management", None),
    ],
)
def test_a_violation_would_be_seen(module, text, wrong):
    found = violations({module: imports_of(text, module, False, frozenset(modules()))})
    assert (wrong is None and not found) or (wrong and all(wrong in why for why in found.values()) and found)
