import assert from "node:assert/strict";
import { test } from "node:test";
import { allNodes, nodeOfExecution, outputKey, upstream } from "../../web/widgets/graph.mjs";

/** A graph as litegraph has it: nodes by id, links [origin, slot, target, slot] by id. */
function graphOf(nodes, links, more = {}) {
  const graph = { nodes, links: new Map(links.map(([id, origin_id, origin_slot]) => [id, { origin_id, origin_slot }])), ...more };
  graph.getNodeById = (id) => nodes.find((node) => node.id === id);
  for (const node of nodes) node.graph = graph;
  return graph;
}
const node = (id, inputs = {}, more = {}) => ({
  id, inputs: Object.entries(inputs).map(([name, link]) => ({ name, link })), ...more,
});

/** 1 -> subgraph 5 (10 -> 11, 12 beside) -> 2; in the subgraph its input is link 100, its output comes from 11. */
function nested() {
  const inner = graphOf(
    [node(10, { in: 100 }), node(11, { splat: 101 }), node(12)],
    [[100, -10, 0], [101, 10, 0], [102, 11, 0]],
    { id: "sub", outputs: [{ linkIds: [102] }] },
  );
  const root = graphOf(
    [node(1), node(5, { x: 1 }, { subgraph: inner }), node(2, { splat: 2, trajectory: null }), node(3)],
    [[1, 1, 0], [2, 5, 0]],
  );
  root.rootGraph = root;
  inner.rootGraph = root;
  return { root, inner };
}

test("upstream goes through subgraphs, inwards and outwards", () => {
  const { root, inner } = nested();
  assert.deepEqual([...upstream(root.getNodeById(2), "splat")].map(({ id }) => id), [11, 10, 1]);
  assert.deepEqual([...upstream(inner.getNodeById(11), "splat")].map(({ id }) => id), [10, 1]);
  assert.deepEqual([...upstream(root.getNodeById(2), "trajectory")], []);
  assert.deepEqual([...upstream(root.getNodeById(2), "absent")], []);
});

test("rings and missing nodes end", () => {
  const ring = graphOf([node(1, { a: 1 }), node(2, { a: 2 }), node(3, { a: 9 })], [[1, 2, 0], [2, 1, 0], [9, 77, 0]]);
  assert.deepEqual([...upstream(ring.getNodeById(1), "a")].map(({ id }) => id), [2, 1]);
  assert.deepEqual([...upstream(ring.getNodeById(3), "a")], []);
});

test("execution ids and keys of outputs", () => {
  const { root, inner } = nested();
  assert.equal(nodeOfExecution(root, "5:11"), inner.getNodeById(11));
  assert.equal(nodeOfExecution(inner, "2"), root.getNodeById(2));
  assert.equal(nodeOfExecution(root, "5:99"), null);
  assert.equal(nodeOfExecution(root, "9:1"), null);
  assert.equal(outputKey(root.getNodeById(2)), "2");
  assert.equal(outputKey(inner.getNodeById(11)), "sub:11");
  assert.deepEqual([...allNodes(root)].map(({ id }) => id), [1, 5, 10, 11, 12, 2, 3]);
});

test("links as an old plain object", () => {
  const graph = graphOf([node(1), node(2, { splat: 4 })], []);
  graph.links = { 4: { origin_id: 1, origin_slot: 0 } };
  assert.deepEqual([...upstream(graph.getNodeById(2), "splat")].map(({ id }) => id), [1]);
});
