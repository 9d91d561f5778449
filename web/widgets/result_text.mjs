/**
 * What a node says: while it runs, and what came of it. ComfyUI's own line for progress is gone, or stays and moves the
 * nodes, as the frontend's version pleases; this one stays, and keeps its size.
 */
import { nodeOfExecution, outputKey } from "./graph.mjs";
import { chain, followOutputs } from "./outputs.mjs";

const EVENT = "flashworld.text"; // {node, text}: what a running node says now
const KEY = "flashworld_text"; // of a node's output: the lines that stay
const STYLE =
  "position: absolute; inset: 0; overflow: auto; box-sizing: border-box; margin: 0; padding: 5px 8px; border-radius: 6px; " +
  "user-select: text; white-space: pre-wrap; font: 11px/1.4 system-ui, sans-serif; color: var(--input-text, #dcdcdc); " +
  "background: var(--comfy-input-bg, #24262b);";

/** Puts the text on a node; `app` and `api` are the host's, `slot` is `addSlot`'s. */
export function attachResult(node, app, api, slot) {
  const box = document.createElement("div");
  box.style.cssText = STYLE;
  box.tabIndex = 0;
  box.setAttribute("role", "status");
  box.setAttribute("aria-label", "What this node says");
  slot.element.append(box);
  showResults(node, app, api, (lines, files) => fill(box, lines, files, api));
}

/**
 * Calls `show` with the lines of a node and the files it made: those of the last run, and one alone while it runs.
 *
 * @param {(lines: string[], files: {filename: string, subfolder: string, type: string}[]) => void} show
 */
export function showResults(node, app, api, show) {
  let last = read(node) ?? { lines: [], files: [] };
  show(last.lines, last.files);
  const say = ({ detail }) => {
    if (node.graph && nodeOfExecution(app.rootGraph ?? app.graph, detail.node) === node) show([detail.text], []);
  };
  const ended = () => show(last.lines, last.files); // what was said on the way is over
  const listeners = { [EVENT]: say, execution_error: ended, execution_interrupted: ended };
  for (const [type, listener] of Object.entries(listeners)) api.addEventListener(type, listener);
  chain(node, "onRemoved", () => {
    for (const [type, listener] of Object.entries(listeners)) api.removeEventListener(type, listener);
  });
  chain(node, "onConfigure", () => {
    last = read(node) ?? last;
    ended();
  });
  followOutputs(node, app, (output) => {
    if (!Array.isArray(output[KEY])) return;
    last = { lines: output[KEY].map(String), files: Array.isArray(output["3d"]) ? output["3d"] : [] };
    ended();
    write(node, last);
  });
}

function fill(box, lines, files, api) {
  box.textContent = lines.join("\n") || "No run yet";
  box.style.opacity = lines.length ? "1" : "0.6";
  for (const { filename, subfolder = "", type = "output" } of files) {
    const link = document.createElement("a");
    link.href = api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
    link.download = filename;
    link.textContent = "Download";
    link.title = filename;
    link.style.cssText = "margin-left: 0.8em; color: inherit; font-weight: 600;";
    box.append(link);
  }
}

// Kept with the page, not in the workflow: it is no part of it, and what is made anew is no step to be undone.
const keyOf = (node) => {
  const { graph } = node;
  const root = graph?.rootGraph ?? graph;
  return root?.id ? `flashworld/${root.id}/${outputKey(node)}` : null;
};

function read(node) {
  try {
    const { lines, files } = JSON.parse(sessionStorage.getItem(keyOf(node)));
    return { lines: lines.map(String), files: Array.isArray(files) ? files : [] };
  } catch {
    return null; // none, or none of ours
  }
}

function write(node, last) {
  try {
    sessionStorage.setItem(keyOf(node), JSON.stringify(last));
  } catch {
    // A page that keeps nothing shows it until it is closed.
  }
}
