/** What a node says, in a strip below what else is on it; nothing said, no strip. */
import { chain } from "./outputs.mjs";
import { showResults } from "./result_text.mjs";

const STRIP =
  "flex: 0 0 auto; max-height: 4.6em; overflow: auto; box-sizing: border-box; margin-top: 3px; padding: 3px 8px; " +
  "border-radius: 6px; user-select: text; white-space: pre-wrap; font: 11px/1.4 system-ui, sans-serif; " +
  "color: var(--input-text, #dcdcdc); background: var(--comfy-input-bg, #24262b);";

/**
 * Parts a slot in two: its `element` becomes the upper part, for the node's own widget, and below it is the strip.
 *
 * @param {{element: HTMLElement}} slot `addSlot`'s
 */
export function addNotes(node, app, api, slot) {
  const outer = slot.element;
  const upper = document.createElement("div");
  upper.style.cssText = "position: relative; flex: 1 1 0; min-height: 0; overflow: hidden;";
  const strip = document.createElement("div");
  strip.style.cssText = STRIP;
  strip.tabIndex = 0;
  strip.setAttribute("role", "status");
  strip.setAttribute("aria-label", "What this node says");
  outer.style.display = "flex";
  outer.style.flexDirection = "column";
  outer.append(upper, strip);
  slot.element = upper;
  showResults(node, app, api, (lines) => {
    strip.textContent = lines.join("\n");
    strip.hidden = lines.length === 0;
  });
  chain(node, "onRemoved", () => outer.replaceChildren());
}
