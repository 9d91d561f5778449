/** The camera path editor as a widget of the Camera Path node. */
import { Editor } from "../path/editor.mjs";
import { PRESETS } from "../path/presets.mjs";
import { hide, makeRoom } from "./graph.mjs";
import { GraphContext, isLinked } from "./graph_context.mjs";
import { addNotes } from "./notes.mjs";
import { setEditor } from "./registry.mjs";
import { addSlot } from "./slot.mjs";

const HEIGHTS = Object.freeze({ preset: 440, keyframes: 610, file: 440 }); // pixels, at least, by source
const COARSE = Object.freeze({ preset: 50, keyframes: 120, file: 50 }); // more, where buttons are for fingers
const POLL = 250; // milliseconds between looks at what no event tells of: links, scenes, undo in the graph
const READ = ["source", "preset", "amount", "moves", "frames", "width", "height", "field_of_view", "focus_distance"];
READ.push("easing", "turns", "keyframes");

/** Puts the editor on a Camera Path node of the graph. `app` and `api` are the host's, `slot` is `addSlot`'s. */
export function attachCameraPath(node, app, api, slot = addSlot(node)) {
  const widget = (name) => node.widgets?.find((item) => item.name === name);
  hide(widget("keyframes"));
  addNotes(node, app, api, slot);
  const root = slot.element;
  root.tabIndex = -1;

  const context = new GraphContext(node, api, () => editor?.redraw());
  const host = {
    values: () => Object.fromEntries(READ.map((name) => [name, widget(name)?.value])),
    write: (values) => write(node, app, values, widget),
    finish: () => recordStep(app),
    get view() {
      return viewState(node);
    },
    picture: () => context.picture,
    pictureIndex: () => context.pictureIndex,
    scene: () => context.scene,
    outside: () => outside(node, widget("source")?.value),
  };
  let editor = null;
  editor = new Editor(host);
  setEditor(node, editor);
  root.append(editor.element);

  slot.leastHeight = () => leastHeight(widget("source")?.value);
  const follower = followWidgets(widget, editor);
  const look = () => {
    if (!root.isConnected || document.hidden || !node.graph) return;
    context.look();
    follower.look();
    editor.refresh();
  };
  const timer = setInterval(look, POLL);

  const { onConfigure, onRemoved } = node;
  node.onConfigure = function (...data) {
    onConfigure?.apply(this, data);
    follower.look();
    editor.refresh();
  };
  node.onRemoved = function (...data) {
    clearInterval(timer);
    setEditor(node, null);
    editor.dispose();
    context.dispose();
    onRemoved?.apply(this, data);
  };
  makeRoom(node, slot.leastWidth);
}

function leastHeight(source) {
  const known = Object.hasOwn(HEIGHTS, source) ? source : "keyframes";
  return HEIGHTS[known] + (matchMedia("(pointer: coarse)").matches ? COARSE[known] : 0);
}

/** Why the path is not the editor's to draw, or "". */
function outside(node, source) {
  if (node.inputs?.some((input) => /^(cameras\.)?camera_?\d+$/.test(input.name) && isLinked(input))) {
    return "The connected cameras are the keyframes of this path. Disconnect them to edit it here.";
  }
  if (source === "file") return "This path is read from the file when the workflow runs.";
  return "";
}

/** Sets widget values as if somebody had typed them. */
function write(node, app, values, widget) {
  for (const [name, value] of Object.entries(values)) {
    const item = widget(name);
    if (!item || item.value === value) continue;
    item.value = value;
    item.callback?.(value, app.canvas, node);
  }
  makeRoom(node);
}

/** Makes what has changed since the last time one step of the graph's own undo: a whole drag, not each of its moves. */
function recordStep(app) {
  app.canvas?.emitBeforeChange?.();
  app.canvas?.emitAfterChange?.();
}

/**
 * Redraws while the node's own settings move; another preset, chosen by hand, begins with its usual amount.
 *
 * @returns {{look: () => void}} to be called when values may have changed in another way: those are left as they are
 */
function followWidgets(widget, editor) {
  let preset = widget("preset")?.value;
  for (const name of READ) {
    const item = widget(name);
    if (!item) continue;
    const { callback } = item;
    item.callback = function (...data) {
      const result = callback?.apply(this, data);
      const chosen = widget("preset")?.value;
      const amount = widget("amount");
      if (name === "preset" && chosen !== preset && Object.hasOwn(PRESETS, chosen) && amount) {
        amount.value = PRESETS[chosen].defaultAmount;
      }
      preset = chosen;
      editor.refresh();
      return result;
    };
  }
  return { look: () => (preset = widget("preset")?.value) };
}

/** What the user has chosen to see, kept with the node; a workflow file may hold anything there. */
function viewState(node) {
  const record = (value) => (typeof value === "object" && value !== null && !Array.isArray(value) ? value : {});
  const properties = (node.properties ??= {});
  const view = (properties.flashworld_path = record(properties.flashworld_path));
  view.plan = record(view.plan);
  return view;
}
