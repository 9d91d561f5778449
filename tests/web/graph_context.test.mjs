// Finding the picture a path begins at, through other nodes and through the border of a subgraph.
import assert from "node:assert/strict";
import { test } from "node:test";

import { fileAddress, inputOf } from "../../web/widgets/graph_context.mjs";

const api = { apiURL: (path) => `/api${path}` };

/** A graph of nodes {id, type, inputs: {name: [origin id, origin slot]}, widgets, subgraph}. */
function graphOf(nodes, root = null) {
  const graph = { id: "g", nodes: [], links: new Map(), getNodeById: (id) => graph.nodes.find((node) => node.id === id) };
  graph.rootGraph = root ?? graph;
  for (const { id, type, inputs = {}, widgets = {}, subgraph } of nodes) {
    const node = { id, type, comfyClass: type, graph, inputs: [], subgraph };
    node.widgets = Object.entries(widgets).map(([name, value]) => ({ name, value }));
    Object.entries(inputs).forEach(([name, [origin_id, origin_slot]], slot) => {
      const link = graph.links.size + 1;
      graph.links.set(link, { origin_id, origin_slot, target_id: id, target_slot: slot });
      node.inputs.push({ name, link });
    });
    graph.nodes.push(node);
  }
  return graph;
}

const load = { id: 1, type: "LoadImage", widgets: { image: "a.png" } };
const path = { id: 2, type: "FlashWorld_CameraPath" };
const wired = { trajectory: [2, 0], image: [3, 0] };
const scale = { id: 3, type: "ImageScale", inputs: { image: [1, 0] } };
const make = { id: 4, type: "FlashWorld_Generate", inputs: wired, widgets: { image_index: 3 } };

test("the picture is found through other nodes", () => {
  const graph = graphOf([load, path, scale, make]);
  assert.deepEqual(inputOf(graph.getNodeById(2)), { file: "a.png", index: 3 });
});

test("the picture of another path is not ours", () => {
  const graph = graphOf([load, path, scale, make, { id: 5, type: "FlashWorld_CameraPath" }]);
  assert.deepEqual(inputOf(graph.getNodeById(5)), { file: "", index: 0 });
});

test("a ring of links ends", () => {
  const ring = [{ id: 3, type: "ImageScale", inputs: { image: [6, 0] } }, { id: 6, type: "ImageBlur", inputs: { image: [3, 0] } }];
  assert.deepEqual(inputOf(graphOf([path, ...ring, make]).getNodeById(2)), { file: "", index: 0 });
});

test("the border of a subgraph is crossed", () => {
  const outer = graphOf([load, scale, make]);
  const inner = graphOf([path], outer);
  inner.links.set(9, { origin_id: 2, origin_slot: 0, target_id: -20, target_slot: 0 });
  outer.nodes.push({ id: 2, type: "subgraph", graph: outer, inputs: [], subgraph: inner });
  inner.outputs = [{ linkIds: [9] }];
  assert.deepEqual(inputOf(inner.getNodeById(2)), { file: "a.png", index: 3 });
});

test("file names become addresses", () => {
  assert.equal(fileAddress(api, "a b.png"), "/api/view?filename=a+b.png&subfolder=&type=input");
  assert.equal(fileAddress(api, "x/y/a.png [temp]"), "/api/view?filename=a.png&subfolder=x%2Fy&type=temp");
  assert.equal(fileAddress(api, "a&type=output.png"), "/api/view?filename=a%26type%3Doutput.png&subfolder=&type=input");
  assert.equal(fileAddress(api, "../../etc/x [nowhere]"), "/api/view?filename=x+%5Bnowhere%5D&subfolder=..%2F..%2Fetc&type=input");
});
