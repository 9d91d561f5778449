/** A read-only text on the Load FlashWorld Model node: the weights' license and what they will need of the machine. */
import { makeRoom } from "./graph.mjs";
import { showResults } from "./result_text.mjs";
import { addSlot } from "./slot.mjs";

const POLL = 500; // milliseconds between looks at the chosen file
const STYLE =
  "height: 100%; min-height: 96px; overflow: auto; box-sizing: border-box; padding: 6px 8px; border-radius: 6px; user-select: text; " +
  "white-space: pre-wrap; font: 11px/1.4 system-ui, sans-serif; color: var(--input-text, #dcdcdc); " +
  "background: var(--comfy-input-bg, #24262b);";

/** Puts the text on a Load FlashWorld Model node. `api` is the host's, `slot` is `addSlot`'s. */
export function attachModelInfo(node, app, api, slot = addSlot(node)) {
  const text = document.createElement("div");
  text.style.cssText = STYLE;
  text.tabIndex = 0;
  text.setAttribute("role", "status");
  text.setAttribute("aria-label", "About the chosen model");
  slot.element.append(text);
  makeRoom(node, slot.leastWidth);

  let about = [];
  let said = [];
  const fill = () => (text.textContent = [...said, ...about].join("\n"));
  showResults(node, app, api, (lines) => {
    said = lines;
    fill();
  });
  let asked = "";
  const value = (name) => String(node.widgets?.find((item) => item.name === name)?.value ?? "");
  const refresh = async () => {
    const query = new URLSearchParams({ model: value("model"), dtype: value("dtype") }).toString();
    if (query === asked) return;
    asked = query;
    const lines = await describe(api, query);
    if (asked !== query) return;
    about = lines;
    fill();
  };
  const timer = setInterval(() => text.isConnected && !document.hidden && refresh(), POLL);
  const { onRemoved } = node;
  node.onRemoved = function (...data) {
    clearInterval(timer);
    asked = null; // an answer on its way finds nobody
    onRemoved?.apply(this, data);
  };
  refresh();
}

async function describe(api, query) {
  try {
    const response = await api.fetchApi(`/flashworld/model_info?${query}`);
    if (!response.ok) return ["Nothing is known about this file."];
    const { license, summary, plan = [], error } = await response.json();
    return error ? [error] : [summary, license, ...plan].filter(Boolean);
  } catch {
    return ["The server could not be asked about this file."];
  }
}
