/** What a node's execution gave, also after a change of tabs and a reload of the page. */
import { allNodes, outputKey } from "./graph.mjs";

const followers = new WeakMap(); // node -> a list of show(output)
const listening = new WeakSet(); // hosts that tell us of outputs

/**
 * Calls `show` with what the node's execution gave, now if that is known, and whenever there is news.
 *
 * @param {object} node
 * @param {object} app the host's
 * @param {(output: object, fresh: boolean) => void} show `fresh`: it comes from a run, not from the host's memory,
 *   which repeats itself whenever any node has news
 */
export function followOutputs(node, app, show) {
  followers.set(node, [...(followers.get(node) ?? []), show]);
  chain(node, "onExecuted", (output) => output && show(output, true));
  chain(node, "onRemoved", () => followers.delete(node));
  const known = app.nodeOutputs?.[outputKey(node)];
  if (known) show(known, false);
  if (listening.has(app)) return;
  listening.add(app);
  app.registerExtension({
    name: "flashworld.outputs",
    onNodeOutputsUpdated(outputs) {
      for (const other of allNodes(app.rootGraph ?? app.graph)) {
        const output = outputs[outputKey(other)];
        if (output) for (const show of followers.get(other) ?? []) show(output, false);
      }
    },
  });
}

/** Does something more in one of a node's own hooks. */
export function chain(node, name, more) {
  const before = node[name];
  node[name] = function (...data) {
    const result = before?.apply(this, data);
    more(...data);
    return result;
  };
}
