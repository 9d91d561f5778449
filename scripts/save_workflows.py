"""Builds the files of ``workflows/`` in ComfyUI's own frontend and saves them as it does. See ``workflow_specs``.

python scripts/save_workflows.py [NAME ...] [--host PATH] [--shots DIR]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shutil
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "tests" / "support")]

from host_frontend import APP, Frontend, frontend
from host_scenes import DEMO
from host_server import PACK, HostServer, find_host
from workflow_specs import EXAMPLE, MODELS, WORKFLOWS, Workflow

FOLDER = PACK / "workflows"
CNR_ID = "flashworld"
NOTES = ("Note", "MarkdownNote")

# Makes the nodes, lays them out column by column, frames them; answers what is amiss.
BUILD = """async ({app, spec}) => {
  const lite = window.LiteGraph, nodes = {}, problems = [];
  await app.loadGraphData({last_node_id: 0, last_link_id: 0, nodes: [], links: [], groups: [], config: {}, extra: {},
                           version: 0.4});
  const graph = app.graph;
  for (const [name, wanted] of Object.entries(spec.nodes)) {
    const node = lite.createNode(wanted.kind);
    if (!node) { problems.push(`no node ${wanted.kind}`); continue; }
    graph.add(node);
    nodes[name] = node;
    if (wanted.title) node.title = wanted.title;
  }
  if (problems.length) return problems;
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  await wait(1500);  // widgets of extensions are loaded on first use
  for (const [name, wanted] of Object.entries(spec.nodes)) {
    const node = nodes[name];
    for (const [key, value] of Object.entries(wanted.values)) {
      const widget = node?.widgets?.find((w) => w.name === key) ?? (key === "text" ? node?.widgets?.[0] : null);
      if (!widget) { problems.push(`${wanted.kind} has no widget ${key}`); continue; }
      widget.value = value;
      widget.callback?.(value, app.canvas, node);
    }
    for (const [input, [from, slot]] of Object.entries(wanted.links)) {
      const index = node.inputs.findIndex((i) => i.name === input);
      if (index < 0 || !nodes[from]?.connect(slot, node, index)) problems.push(`${name}.${input} <- ${from}[${slot}]`);
    }
  }
  await wait(1500);  // pictures and editors find their size
  const GAP = 40, TITLE = 30, PAD = 24, HEAD = 60;
  let x = 0;
  for (const frame of spec.groups) {
    const left = x;
    let bottom = 0;
    x += PAD;
    for (const column of frame.columns) {
      const members = column.map((name) => [nodes[name], spec.nodes[name].size]);
      let width = 0, y = HEAD + TITLE;
      for (const [node, [w]] of members) width = Math.max(width, w, node.computeSize()[0], w ? 0 : node.size[0]);
      for (const [node, [, h]] of members) {
        node.setSize([width, Math.max(h, node.computeSize()[1])]);
        node.pos = [x, y];
        y += node.size[1] + TITLE + GAP;
      }
      bottom = Math.max(bottom, y - TITLE - GAP);
      x += width + GAP;
    }
    x += PAD - GAP;
    const group = new lite.LGraphGroup(frame.title);
    group.color = frame.color;
    group.pos = [left, 0];
    group.size = [x - left, bottom + PAD];
    graph.add(group);
    x += GAP;
  }
  const height = Math.max(...graph._groups.map((g) => g.size[1]));
  const scale = Math.min(1, 1480 / x, 840 / height);
  app.canvas.ds.scale = scale;
  app.canvas.ds.offset = [80 / scale, 110 / scale];  // clear of the frontend's own bars
  graph.setDirtyCanvas(true, true);
  await wait(500);
  return problems;
}"""


def build(page: Frontend, workflow: Workflow) -> None:
    """Make ``workflow`` the open graph.

    Raises:
        ValueError: a node, widget or socket the host does not have.
    """
    spec = dataclasses.asdict(workflow)
    spec["nodes"]["note"]["values"]["text"] = workflow.about
    code = f"async (spec) => ({BUILD})({{app: {APP}, spec: JSON.parse(spec)}})"
    problems = page.page.evaluate(code, json.dumps(spec))
    if problems:
        raise ValueError("; ".join(problems))


def finished(saved: dict[str, Any], name: str, host_version: str) -> dict[str, Any]:
    """A saved graph with what the frontend adds only for packs installed by its manager."""
    version = re.search(r'^version = "(.+)"', (PACK / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
    saved["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{CNR_ID}/{name}"))
    for node in saved["nodes"]:
        if node["type"] in NOTES:
            continue
        properties = node.setdefault("properties", {})
        ours = node["type"].startswith("FlashWorld_")
        properties["cnr_id"], properties["ver"] = (CNR_ID, version) if ours else ("comfy-core", host_version)
        if node["type"] == "FlashWorld_LoadModel":
            properties["models"] = MODELS
    return saved


def overlaps(saved: dict[str, Any]) -> list[str]:
    """Pairs of nodes whose boxes, title bars included, touch."""
    boxes = [(n["id"], *n["pos"], *(n["size"])) for n in saved["nodes"]]
    found = []
    for i, (a, ax, ay, aw, ah) in enumerate(boxes):
        for b, bx, by, bw, bh in boxes[i + 1 :]:
            if ax < bx + bw and bx < ax + aw and ay - 30 < by + bh and by - 30 < ay + ah:
                found.append(f"{a} and {b}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="which workflows; all if none is named")
    parser.add_argument("--host", help="ComfyUI's folder")
    parser.add_argument("--shots", type=Path, help="folder for screenshots of the graphs")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as base, HostServer(Path(base), find_host(options.host)) as server:
        shutil.copy(DEMO / "picture.png", Path(base) / "input" / EXAMPLE)
        with frontend(server.url) as page:
            for name in options.names or WORKFLOWS:
                build(page, WORKFLOWS[name])
                saved, _ = page.prompt()
                saved = finished(saved, name, ".".join(map(str, server.version)))
                if overlaps(saved):
                    raise ValueError(f"{name}: nodes {', '.join(overlaps(saved))} overlap")
                text = json.dumps(saved, indent=2, ensure_ascii=True)
                (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")
                if options.shots:
                    options.shots.mkdir(parents=True, exist_ok=True)
                    page.page.screenshot(path=options.shots / f"{name}.png")
                print(name, len(saved["nodes"]), "nodes")
            for line in page.complaints:
                if "flashworld" in line.lower() or line.startswith("page error"):
                    print("page:", line)


if __name__ == "__main__":
    main()
