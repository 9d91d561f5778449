"""Building small graphs in ComfyUI's API format, the defaults taken from the host's own description of its nodes."""

from __future__ import annotations

from typing import Any

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR"}


def inputs_of(info: dict[str, Any]) -> dict[str, tuple[Any, dict[str, Any], bool]]:
    """The inputs of one entry of /object_info in order: name -> (type, options, required).

    A combo's type is "COMBO" and its choices are ``options["options"]``, whichever way the host writes them.
    """
    found = {}
    for group in ("required", "optional"):
        given = info["input"].get(group, {})
        for name in info.get("input_order", {}).get(group, given):
            kind, options = given[name][0], (given[name][1:] or [{}])[0]
            if isinstance(kind, list):
                kind, options = "COMBO", {**options, "options": kind}
            found[name] = (kind, options, group == "required")
    return found


def default_of(kind: str, options: dict[str, Any]) -> Any:
    """What the frontend's widget shows first.

    Raises:
        KeyError: a socket, or an empty list of choices.
    """
    if "default" in options:
        return options["default"]
    if kind == "COMBO":
        return dict(enumerate(options["options"]))[0]
    return {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}[kind]


class Node:
    """One node of a graph; ``node[i]`` links to its output ``i``."""

    def __init__(self, id: str):
        self.id = id

    def __getitem__(self, slot: int) -> list[Any]:
        return [self.id, slot]


class Graph(dict):
    """An API graph: ``node = graph.add("LoadImage", image="a.png")``, then ``other=node[0]``; post it as it is."""

    def __init__(self, object_info: dict[str, Any]):
        super().__init__()
        self._info = object_info

    def add(self, kind: str, **inputs: Any) -> Node:
        """A node with these inputs and the defaults of all other widgets."""
        for name, (type_, options, _) in inputs_of(self._info[kind]).items():
            if name not in inputs and type_ in WIDGETS and not options.get("forceInput"):
                inputs[name] = default_of(type_, options)
        id = str(len(self) + 1)
        self[id] = {"class_type": kind, "inputs": inputs}
        return Node(id)
