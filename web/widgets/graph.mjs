/**
 * ComfyUI's graph: ways through it, subgraphs included (what feeds a node, which node an execution id means), and the
 * size and widgets of a node.
 */

const SUBGRAPH_INPUT = -10; // origin of links that come from outside of a subgraph
const MOST = 500; // nodes looked at, so that a damaged graph cannot hold us up

const linkOf = (graph, id) => {
  const { links } = graph ?? {};
  return (typeof links?.get === "function" ? links.get(id) : links?.[id]) ?? null;
};

const rootOf = (graph) => graph?.rootGraph ?? graph;

/** All nodes of a graph and of the subgraphs in it. */
export function* allNodes(graph, seen = new Set()) {
  if (!graph || seen.has(graph)) return;
  seen.add(graph);
  for (const node of graph.nodes ?? graph._nodes ?? []) {
    yield node;
    if (node.subgraph) yield* allNodes(node.subgraph, seen);
  }
}

/** The nodes whose output a link brings to `graph`, through the borders of subgraphs. */
function* origins(graph, linkId, depth = 0) {
  const link = linkOf(graph, linkId);
  if (!link || depth > 20) return;
  if (link.origin_id === SUBGRAPH_INPUT) {
    for (const container of allNodes(rootOf(graph))) {
      if (container.subgraph !== graph) continue;
      const outside = container.inputs?.[link.origin_slot]?.link;
      if (outside != null) yield* origins(container.graph, outside, depth + 1);
    }
    return;
  }
  const node = graph.getNodeById?.(link.origin_id);
  if (!node?.subgraph) {
    if (node) yield node;
    return;
  }
  for (const inner of node.subgraph.outputs?.[link.origin_slot]?.linkIds ?? []) {
    yield* origins(node.subgraph, inner, depth + 1);
  }
}

/**
 * Every node that what arrives at an input depends on, near ones first.
 *
 * @param {object} node
 * @param {string} name of the input
 */
export function* upstream(node, name) {
  const first = node.inputs?.find((input) => input.name === name);
  const seen = new Set();
  const waiting = [...origins(node.graph, first?.link)];
  for (const current of waiting) {
    if (seen.has(current) || seen.size > MOST) continue;
    seen.add(current);
    yield current;
    for (const input of current.inputs ?? []) {
      if (input.link != null) waiting.push(...origins(current.graph, input.link));
    }
  }
}

/** The node of an execution id such as "7", or "3:7" for node 7 in the subgraph of node 3; or null. */
export function nodeOfExecution(graph, id) {
  let node = null;
  let current = rootOf(graph);
  for (const part of String(id).split(":")) {
    node = current?.getNodeById?.(part) ?? current?.getNodeById?.(Number(part)) ?? null;
    current = node?.subgraph;
  }
  return node;
}

/** The key of a node in the host's table of outputs: "7", or "<id of the subgraph>:7". */
export function outputKey(node) {
  const { graph } = node;
  return graph && rootOf(graph) !== graph ? `${graph.id}:${node.id}` : String(node.id);
}

/** Makes a node large enough for its widgets and has it drawn again; one that is larger keeps its size. */
export function makeRoom(node, leastWidth = 0) {
  const needed = node.computeSize?.();
  if (needed && node.size) {
    const size = [Math.max(node.size[0], needed[0], leastWidth), Math.max(node.size[1], needed[1])];
    if (size[0] > node.size[0] || size[1] > node.size[1]) node.setSize?.(size);
  }
  node.graph?.setDirtyCanvas?.(true, true);
}

/** Takes a widget out of sight; its value is saved and sent as before. */
export function hide(item) {
  if (!item) return;
  item.hidden = true;
  item.options = Object.assign(item.options ?? {}, { hidden: true });
  item.computeSize = () => [0, -4]; // minus the gap that older hosts leave between widgets
}
