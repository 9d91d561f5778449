/** The splat viewer as a widget of the Preview Scene node. */
import { hide, makeRoom, nodeOfExecution, upstream } from "./graph.mjs";
import { chain, followOutputs } from "./outputs.mjs";
import { addNotes } from "./notes.mjs";
import { addKeyframe, setPreview } from "./registry.mjs";
import { addSlot } from "./slot.mjs";
import { createViewer } from "../viewer/viewer.mjs";

const EVENT = "flashworld.scene";
const ORIGIN = Object.freeze({ position: [0, 0, 0], quaternion: [1, 0, 0, 0] });
const SAID = 4000; // milliseconds a confirmation stays


/** Puts the viewer on a Preview Scene node of the graph. `app` and `api` are the host's, `slot` is `addSlot`'s. */
export function attachPreview(node, app, api, slot = addSlot(node)) {
  addNotes(node, app, api, slot);
  setPreview(node, new Preview(node, app, api, slot));
}

class Preview {
  constructor(node, app, api, slot) {
    Object.assign(this, { node, app, api });
    this.viewer = null;
    this.address = "";
    this.result = ""; // the address of the last result, which may not be what is shown while steps come in
    this.unfinished = ""; // "step 2 of 4", while that is what is seen
    this.start = ""; // the pose the viewer was last put to, as text
    this.element = slot.element;
    this.#sayInstead("Run the workflow to see the scene here.");
    hide(this.#widget("view"));
    for (const name of ["width", "height"]) this.#follow(this.#widget(name));
    chain(node, "onConfigure", () => this.viewer?.setSettings(this.#stored));
    chain(node, "onRemoved", () => this.dispose());
    const listeners = {
      [EVENT]: ({ detail }) => this.#step(detail),
      execution_success: () => this.#ended(""),
      execution_error: () => this.#ended("Failed"),
      execution_interrupted: () => this.#ended("Cancelled"),
    };
    for (const [type, listener] of Object.entries(listeners)) api.addEventListener(type, listener);
    this.stopListening = () => {
      for (const [type, listener] of Object.entries(listeners)) api.removeEventListener(type, listener);
    };
    makeRoom(node, slot.leastWidth);
    followOutputs(node, app, (output, fresh) => (fresh ? this.show(output) : this.restore(output)));
  }

  dispose() {
    clearTimeout(this.timer);
    this.stopListening();
    this.viewer?.dispose();
    this.viewer = null;
    this.address = "";
    setPreview(this.node, null);
  }

  /** What the host remembers of an execution. It repeats that whenever any node has news, also while steps come in. */
  restore(output) {
    const shown = output?.flashworld_scene?.[0];
    if (shown && this.#addressOf(shown) !== this.result) this.show(output);
  }

  /** What the node's execution gave. */
  async show(output) {
    const shown = output?.flashworld_scene?.[0];
    const viewer = shown && this.#viewer();
    if (!viewer) return;
    this.result = this.#addressOf(shown);
    viewer.setStatus("");
    const { cameras, view } = shown;
    const start = JSON.stringify(view);
    const go = start !== this.start;
    this.start = start;
    if (this.result === this.address) {
      viewer.setCameras(cameras);
      if (go) viewer.setView(view, { animate: true });
      return;
    }
    // Before the first bytes arrive, so that the first picture is already the right one.
    if (go) viewer.setView(view);
    await this.#load(shown, cameras);
  }

  /** What an unfinished scene looks like, if it is ours that is being made. */
  async #step({ node, step, steps, file, cameras, final }) {
    if (!this.node.graph || !this.#dependsOn(nodeOfExecution(this.app.rootGraph ?? this.app.graph, node))) return;
    const viewer = this.#viewer();
    if (!viewer) return;
    this.unfinished = final || step == null ? "" : `step ${step + 1} of ${steps}`;
    viewer.setStatus(this.unfinished.replace("s", "S"));
    if (!this.start) {
      const first = cameras?.[0] ?? ORIGIN;
      this.start = JSON.stringify(first);
      viewer.setView(first);
    }
    await this.#load(file, cameras);
  }

  /** What is seen of a run that ended early says how far it came. */
  #ended(how) {
    if (how && this.unfinished) this.viewer?.setStatus(`${how} after ${this.unfinished}`);
    else if (!how) this.viewer?.setStatus("");
    this.unfinished = "";
  }

  async #load(file, cameras) {
    const address = this.#addressOf(file);
    this.address = address;
    try {
      await this.viewer.load(address, { cameras, keepView: true });
    } catch {
      // The viewer says it on the picture. A temp file may be gone after a restart; another run makes it anew.
      if (this.address === address) this.address = "";
    }
  }

  #dependsOn(source) {
    if (!source) return false;
    if (source === this.node) return true;
    for (const node of upstream(this.node, "splat")) if (node === source) return true;
    return false;
  }

  #addressOf({ filename, subfolder = "", type = "temp" }) {
    return this.api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
  }

  get #stored() {
    return ((this.node.properties ??= {}).flashworld_preview ??= {});
  }

  #viewer() {
    if (this.viewer) return this.viewer;
    this.element.replaceChildren();
    try {
      this.viewer = createViewer(this.element, {
        settings: this.#stored,
        onSettings: (settings) => Object.assign(this.#stored, settings),
        onUseView: (pose) => this.#useView(pose),
        onSnapshot: (pose) => this.#snapshot(pose),
      });
      this.#setFrame();
    } catch (error) {
      this.#sayInstead(error.message);
    }
    return this.viewer;
  }

  #useView(pose) {
    this.#choose(pose);
    for (const node of upstream(this.node, "trajectory")) {
      if (node.comfyClass === "FlashWorld_CameraPath" && addKeyframe(node, pose)) {
        this.#say("This view goes out as camera with the next run, and is a new keyframe of the path.");
        return;
      }
    }
    this.#say("This view goes out as camera with the next run.");
  }

  #snapshot(pose) {
    this.#choose(pose);
    this.#say("The next run gives this view as a picture with transparency.");
  }

  /** Writes the node's `view` as if somebody had typed it, as one step of the graph's own undo. */
  #choose(pose) {
    const widget = this.#widget("view");
    if (!widget) return;
    const value = JSON.stringify(pose, (key, item) => (typeof item === "number" ? Number(item.toFixed(6)) : item));
    this.app.canvas?.emitBeforeChange?.();
    widget.value = value;
    widget.callback?.(value, this.app.canvas, this.node);
    this.start = value; // the next run need not move the camera there
    this.node.graph?.setDirtyCanvas?.(true, true);
    this.app.canvas?.emitAfterChange?.();
  }

  #say(text) {
    this.viewer.setStatus(text);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.viewer?.setStatus(""), SAID);
  }

  #sayInstead(text) {
    const line = document.createElement("p");
    line.textContent = text;
    line.style.cssText =
      "position: absolute; inset: 0; display: grid; place-items: center; margin: 0; padding: 1em; text-align: center; " +
      "border-radius: 6px; background: #1b1d22; color: #9aa1ad; font: 13px system-ui, sans-serif;";
    this.element.replaceChildren(line);
  }

  #setFrame() {
    const [width, height] = ["width", "height"].map((name) => Number(this.#widget(name)?.value));
    this.viewer?.setFrame(width > 0 && height > 0 ? { width, height } : null);
  }

  #widget(name) {
    return this.node.widgets?.find((widget) => widget.name === name);
  }

  #follow(widget) {
    if (!widget) return;
    const { callback } = widget;
    const changed = () => this.#setFrame();
    widget.callback = function (...data) {
      const result = callback?.apply(this, data);
      changed();
      return result;
    };
  }
}
