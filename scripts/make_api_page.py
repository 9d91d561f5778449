"""Write docs/python_api.md from the docstrings of the public names: ``python scripts/make_api_page.py``."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PAGE = ROOT / "docs" / "python_api.md"
HEAD = """# Python API

Made from the docstrings by `scripts/make_api_page.py`; a test keeps the two one. These names can be imported from
`flashworld_core` itself and stay; modules may move. Everything is resolved on first use, so the import is quick.
Frames, axes and units: [CONVENTIONS.md](../CONVENTIONS.md). The first example is in the [README](../README.md#python),
more in [example_scripts](../example_scripts).

"""


def page() -> str:
    """The page's text."""
    import flashworld_core

    names = sorted(flashworld_core.__all__, key=str.lower)
    index = ", ".join(f"[{name}](#{name.lower()})" for name in names)
    return HEAD + index + "\n" + "".join(section(name, getattr(flashworld_core, name)) for name in names)


def section(name: str, item: object) -> str:
    """One public name: how it is called, and its docstring."""
    text = inspect.cleandoc(item.__doc__ or "")
    if inspect.isclass(item) and issubclass(item, Exception):
        head = f"class {name}({item.__bases__[0].__name__})"
    elif dataclasses.is_dataclass(item):
        head = f"class {name}({', '.join(field(f) for f in dataclasses.fields(item))})"
    else:
        head = f"def {name}{inspect.signature(item)}"
    parts = [f"\n## {name}\n\n```python\n{wrapped(head)}\n```\n\n```text\n{text}\n```\n"]
    if inspect.isclass(item) and not issubclass(item, Exception):
        for member, function in sorted(vars(item).items()):
            function = function.fget if isinstance(function, property) else function
            if not member.startswith("_") and inspect.isfunction(function) and function.__doc__:
                first = inspect.cleandoc(function.__doc__).split("\n\n")[0].replace("\n", " ")
                parts.append(f"\n- `{member}`: {first}")
        parts.append("\n" if len(parts) > 1 else "")
    return "".join(parts)


def field(one: dataclasses.Field) -> str:
    return one.name if one.default is dataclasses.MISSING else f"{one.name}={one.default!r}"


def wrapped(head: str) -> str:
    """A long head with one argument a line."""
    head = head.replace("'", "")
    if len(head) <= 100 or "(" not in head:
        return head
    name, _, rest = head.partition("(")
    arguments, _, result = rest.rpartition(")")
    lines, depth, line = [], 0, ""
    for letter in arguments:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            lines, line = [*lines, line.strip()], ""
        else:
            line += letter
    lines.append(line.strip())
    return f"{name}(\n" + "".join(f"    {line},\n" for line in lines) + f"){result}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
