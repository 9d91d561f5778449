"""Draw the rooms of the pack and who imports whom, from the imports, into ARCHITECTURE.md.

python scripts/draw_architecture.py            rewrite the diagram
python scripts/draw_architecture.py --check    fail if it is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from package_imports import CORE, FLOORS, imports, room_of

PAGE = ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- imports: begin (python scripts/draw_architecture.py) -->", "<!-- imports: end -->"


def box_of(module: str) -> str | None:
    """The box a module is drawn in: a folder of the core, "records" for the files of the lowest floor, or the nodes."""
    parts = module.split(".")
    if parts[0] == "nodes":
        return "nodes_comfyui" if parts[1:2] == ["comfyui"] else "nodes"
    room = room_of(module) if parts[0] == CORE else None
    if room is None:
        return None
    return "records" if room in FLOORS[0] else room.split(".")[0]


def mermaid() -> str:
    """The diagram: boxes by floor, the highest on top. Arrows to the lowest floor, which everything has, are left out,
    and so are those that follow from two others."""
    graph = imports()
    arrows: dict[str, set[str]] = {}
    for module, imported in graph.items():
        box = box_of(module)
        if box is not None:
            arrows.setdefault(box, set()).update(
                b for name in imported if (b := box_of(name)) not in (None, box, "records")
            )
    lines = ["flowchart TD", '  subgraph f9["nodes/"]', "    nodes", '    nodes_comfyui["nodes/comfyui"]', "  end"]
    for number in range(len(FLOORS) - 1, -1, -1):
        names = sorted({n.split(".")[0] for n in FLOORS[number] if "." not in n} & set(arrows)) or ["records"]
        if number == 0:
            names = [f'records["{" · ".join(n for n in FLOORS[0] if f"{CORE}.{n}" in graph)}"]']
        lines += [f'  subgraph f{number}["floor {number + 1}"]', *(f"    {name}" for name in names), "  end"]
    for box in sorted(arrows):
        below = set().union(*(_reached(other, arrows) for other in arrows[box]))
        lines += [f"  {box} --> {other}" for other in sorted(arrows[box] - below)]
    lines += [f"  {box} --> records" for box in sorted(b for b in arrows if not arrows[b] and b != "records")]
    return "\n".join(["```mermaid", *lines, "```"])


def _reached(box: str, arrows: dict[str, set[str]]) -> set[str]:
    """All boxes below one, by any number of arrows."""
    found, waiting = set(), [box]
    while waiting:
        for other in arrows.get(waiting.pop(), ()):
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def drawn(page: str) -> str:
    """The page with a fresh diagram between the two markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{mermaid()}\n{END}{after}"


def main() -> int:
    """Rewrite the page, or with --check tell whether it needs it."""
    page = PAGE.read_text(encoding="utf-8")
    fresh = drawn(page)
    if "--check" in sys.argv[1:]:
        if fresh != page:
            print(f"{PAGE.name} is out of date: run python scripts/draw_architecture.py", file=sys.stderr)
        return int(fresh != page)
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
