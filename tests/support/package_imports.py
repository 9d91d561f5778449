"""What the Python files of the pack import, read from their syntax trees: nothing is executed."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORE = "flashworld_core"

# The floors of flashworld_core, lowest first. A name is a file or folder of the package; the longest match counts.
FLOORS = (
    ("errors", "progress", "compiled", "cameras", "gaussians", "geometry", "sh", "fields", "meshes"),
    ("ops", "flow", "rendering.constants"),
    ("formats", "rendering"),
    ("media", "trajectories", "checkpoints", "runtime"),
    ("models",),
    ("generators",),
    ("chaining", "datasets", "evaluation", "batch", "training"),
    ("cli",),
)

_TABLE_ENTRY = re.compile(r"\.[a-z_][\w.]*:\w+")  # "module:function", resolved on first use


def room_of(module: str) -> str | None:
    """The entry of `FLOORS` that a module of the core belongs to; None: the package itself or an unknown name."""
    parts = module.split(".")[1:]
    known = {name for floor in FLOORS for name in floor}
    return next((name for k in range(len(parts), 0, -1) if (name := ".".join(parts[:k])) in known), None)


def floor_of(room: str) -> int:
    """The number of a room's floor, 0 for the lowest."""
    return next(number for number, floor in enumerate(FLOORS) if room in floor)


@functools.cache
def modules(root: Path = ROOT) -> dict[str, Path]:
    """Dotted name -> file, of everything in flashworld_core and nodes."""
    found = {}
    for package in (CORE, "nodes"):
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports_of(text: str, module: str, is_package: bool, known: frozenset[str]) -> set[str]:
    """The dotted names a module imports: at its head, inside functions, and by "module:function" in its tables.

    Imports under ``if TYPE_CHECKING`` are left out. A name taken from a package is the module of that name where
    there is one, else the package.

    Args:
        text: source of the module.
        module: its dotted name, from the repository's root.
        is_package: it is an ``__init__.py``.
        known: the names of all modules.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    found = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found.update(f"{source}.{a.name}" if f"{source}.{a.name}" in known else source for a in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _TABLE_ENTRY.fullmatch(node.value):
            found.add(".".join([*package, *node.value.partition(":")[0].strip(".").split(".")]))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(text))
    return found


@functools.cache
def imports(root: Path = ROOT) -> dict[str, frozenset[str]]:
    """Module -> what it imports, for every module of the pack."""
    files = modules(root)
    known = frozenset(files)
    return {
        name: frozenset(imports_of(file.read_text(encoding="utf-8"), name, file.name == "__init__.py", known))
        for name, file in files.items()
    }
