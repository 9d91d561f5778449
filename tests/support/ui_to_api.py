"""Turns a workflow as the frontend saves it into the graph that POST /prompt takes.

Does what the frontend does when Run is pressed, for workflows without subgraphs: widget values by position, links over
them, reroutes and bypassed nodes followed, muted nodes and notes left out. See ``to_api``.
"""

from __future__ import annotations

from typing import Any

from host_graphs import WIDGETS, inputs_of

NOTES = {"Note", "MarkdownNote"}
UPLOADS = ("image_upload", "video_upload", "audio_upload", "animated_image_upload", "model_upload")
MUTED, BYPASSED = 2, 4


def to_api(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The API graph of ``workflow``.

    Args:
        workflow: the parsed file.
        object_info: the answer of GET /object_info.

    Raises:
        ValueError: a subgraph, a node the host does not know, or widget values that do not fit the node.
    """
    if (workflow.get("definitions") or {}).get("subgraphs"):
        raise ValueError("workflows with subgraphs need the real frontend")
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: (link[1], link[2]) for link in workflow["links"]}
    graph = {}
    for node in workflow["nodes"]:
        kind = node["type"]
        if kind in NOTES or kind in ("Reroute", "PrimitiveNode") or node.get("mode", 0) in (MUTED, BYPASSED):
            continue
        if kind not in object_info:
            raise ValueError(f"the host has no node {kind!r}")
        inputs = {name: _wrapped(value) for name, value in widget_values(node, object_info[kind]).items()}
        for socket in node.get("inputs", []):
            if socket.get("link") is None:
                continue
            found = _source(socket["link"], nodes, links)
            if found is not None:
                inputs[socket["name"]] = found
        graph[str(node["id"])] = {"class_type": kind, "inputs": inputs}
    return graph


def widget_values(node: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """The values of a saved node's widgets by name.

    Raises:
        ValueError: more or fewer values than the node has widgets.
    """
    given = node.get("widgets_values") or []
    if isinstance(given, dict):
        return dict(given)
    values, rest = {}, list(given)

    def take(name: str, kind: str, options: dict[str, Any], required: bool) -> None:
        if kind == "COMFY_DYNAMICCOMBO_V3":
            chosen = values[name] = pop(name)
            option = next((o for o in options["options"] if o["key"] == chosen), None)
            if option is None:
                raise ValueError(f"{node['type']}: {name} cannot be {chosen!r}")
            for inner, (type_, settings, needed) in inputs_of({"input": option["inputs"]}).items():
                take(f"{name}.{inner}", type_, settings, needed)
        elif kind in WIDGETS and not options.get("forceInput"):
            if not rest and not required and "default" in options:
                return  # newer than the file: the frontend keeps the widget's default, and so does the node
            values[name] = pop(name)
            if options.get("control_after_generate") or name in ("seed", "noise_seed"):
                pop(name + "'s control")
            if any(options.get(key) for key in UPLOADS) and rest and rest[0] == "image":
                rest.pop(0)  # the upload button of older frontends has a value

    def pop(name: str) -> Any:
        if not rest:
            raise ValueError(f"{node['type']}: no value for {name}")
        return rest.pop(0)

    for name, (kind, options, required) in inputs_of(info).items():
        take(name, kind, options, required)
    if rest:
        raise ValueError(f"{node['type']}: {len(rest)} widget values too many: {rest}")
    return values


def _wrapped(value: Any) -> Any:
    return {"__value__": value} if isinstance(value, list) else value  # a bare list would be a link


def _source(link: int, nodes: dict[int, Any], links: dict[int, tuple[int, int]]) -> Any:
    """What a link carries: [node id, slot], a primitive's value, or None where it comes from a muted node."""
    id, slot = links[link]
    node = nodes[id]
    if node["type"] == "PrimitiveNode":
        return node["widgets_values"][0]
    if node.get("mode", 0) == MUTED:
        return None
    if node["type"] != "Reroute" and node.get("mode", 0) != BYPASSED:
        return [str(id), slot]
    sockets = node.get("inputs", [])
    kind = node["outputs"][slot]["type"]
    same = [s for s in sockets if s["type"] == kind] if node["type"] != "Reroute" else sockets
    # a bypassed node passes on the input in the output's place if that is of its type, else the first that is
    chosen = sockets[slot] if slot < len(sockets) and sockets[slot] in same else (same or [{}])[0]
    return None if chosen.get("link") is None else _source(chosen["link"], nodes, links)
