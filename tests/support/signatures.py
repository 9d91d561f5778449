"""Describes python callables as JSON: run once over the stand-in host, once inside a real one, to compare the two.

    python signatures.py walk FOLDER      every function and class of the modules below FOLDER, put on sys.path
    python signatures.py look HOST        the names in the JSON list on standard input, with HOST on sys.path

A name is ``module:Class.method``. A description is {"parameters": [[name, kind, required], ...]}, the attributes of an
``args`` namespace as parameters too, "value" for members of enumerations and io types; null: there is no such thing.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import json
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def describe(thing: Any) -> dict[str, Any]:
    """What a caller can rely on."""
    if isinstance(thing, (Namespace, SimpleNamespace)):
        return {"parameters": [[name, "KEYWORD_ONLY", False] for name in vars(thing)]}
    if isinstance(thing, enum.Enum):
        return {"value": thing.value}
    made = thing.__init__ if isinstance(thing, type) else thing
    if made is object.__init__:
        return {"parameters": []}
    try:
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):
        return {"parameters": []}
    listed = [[p.name, p.kind.name, p.default is p.empty] for p in parameters if p.name not in ("self", "cls")]
    described = {"parameters": listed}
    if hasattr(thing, "Input") and isinstance(getattr(thing, "io_type", None), str):
        described["value"] = thing.io_type
    return described


def members(thing: Any, prefix: str) -> dict[str, Any]:
    """Descriptions of ``thing`` and, for a class, of what it says in public about itself."""
    found = {prefix: describe(thing)}
    if isinstance(thing, type):
        for name in dir(thing):
            value = getattr(thing, name, None)
            if not name.startswith("_") and (callable(value) or isinstance(value, enum.Enum)) and name != "Parent":
                found.update(members(value, f"{prefix}.{name}"))
    return found


def walk(folder: Path) -> dict[str, Any]:
    """Every public function, class and ``args`` that the modules below ``folder`` define themselves."""
    sys.path.insert(0, str(folder))
    found = {}
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder).with_suffix("").parts
        module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        for name, value in vars(module).items():
            own = getattr(value, "__module__", None) == module.__name__ or isinstance(value, SimpleNamespace)
            if own and not name.startswith("_"):
                found.update(members(value, f"{module.__name__}:{name}"))
    return found


def look(host: Path, names: list[str]) -> dict[str, Any]:
    """The same descriptions from a real ComfyUI, on its CPU."""
    sys.path.insert(0, str(host))
    sys.argv = ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    importlib.import_module("utils.install_util")  # as main.py does, before nodes.py puts another "utils" on the path
    found = {}
    for name in names:
        module, _, path = name.partition(":")
        try:
            if module == "comfy_api.latest.io":  # a name of the package there, not a module
                thing: Any = importlib.import_module("comfy_api.latest").io
            else:
                thing = importlib.import_module(module)
            for part in path.split("."):
                thing = getattr(thing, part)
            found[name] = describe(thing)
        except (ImportError, AttributeError):
            found[name] = None
    return found


if __name__ == "__main__":
    where = Path(sys.argv[2])
    result = walk(where) if sys.argv[1] == "walk" else look(where, json.load(sys.stdin))
    print("\n" + json.dumps(result))
