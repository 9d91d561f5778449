/** The camera path editor: one element with the 3D view, the plan, the strip of keyframes and their fields. */
import { Bar } from "./bar.mjs";
import { button, element } from "./dom.mjs";
import { isLoop, keysOf, movesOf, samplePath } from "./document.mjs";
import { change, insert, keyframesFromMoves } from "./edits.mjs";
import { ease, KeyframeCurve } from "./keyframes.mjs";
import { KeyFields, PathOptions } from "./fields.mjs";
import { Plan } from "./plan.mjs";
import { PathState } from "./state.mjs";
import { Strip } from "./strip.mjs";
import { STYLE } from "./style.mjs";
import { View3D } from "./view3d.mjs";

const FINE = 241; // samples that are drawn as a line
const MOST = 1000; // cameras that are drawn
const CLIPBOARD = Object.freeze({ c: "copy", x: "cut", v: "paste", d: "duplicate" });
const VIEWS = [["3d", "3D"], ["both", "Both"], ["plan", "Plan"]];

let copied = []; // keyframes, for all editors of the page

export class Editor {
  #pending = 0;
  #signature = "";
  #behind = [null, null]; // the scene and the picture that were drawn last
  #sampled = { path: [], fine: [], problem: "" };

  /**
   * @param {object} host the node, as far as the editor needs it:
   *   values(): its widget values by name; write(values): sets some of them; view: an object kept with the node;
   *   picture(): the input image or null; pictureIndex(): which camera of the path it is; scene(): null, or {element, show(camera)}, the scene behind the 3D view;
   *   outside(): why the path cannot be drawn here, or ""
   */
  constructor(host) {
    this.host = host;
    this.state = new PathState(host);
    this.headOnKey = false; // the playhead is the selected keyframe
    this.through = false;
    this.view3d = new View3D(this);
    this.plan = new Plan(this);
    this.bar = new Bar(this);
    this.strip = new Strip(this);
    this.fields = new KeyFields(this);
    this.options = new PathOptions(this);
    this.element = this.#build();
    this.state.addEventListener("change", () => this.#show());
    this.#show();
  }

  #build() {
    this.tabs = VIEWS.map(([view, label]) => button(label, `Show ${label}`, () => this.#setView(view)));
    this.throughButton = button("Look through", "See what the camera sees", () => this.lookThrough(!this.through));
    const all = button("Fit", "Show the whole path (F)", () => this.fit());
    const over = element("div", { class: "fwp-row" }, ...this.tabs, this.throughButton, all);
    this.view3dBox = element("div", { class: "fwp-view" }, ...this.view3d.elements);
    this.planBox = element("div", { class: "fwp-view" }, ...this.plan.elements);
    const pair = element("div", { class: "fwp-pair" }, this.view3dBox, this.planBox);
    const views = element("div", { class: "fwp-views" }, pair);

    this.note = element("span", { class: "fwp-note", role: "status" });
    this.convert = button("Turn into keyframes", "Make keyframes that follow this preset, to be edited one by one", () =>
      this.turnIntoKeyframes(),
    );
    this.presetRow = element("div", { class: "fwp-row" }, this.note, this.convert);
    this.keyRows = element("div", { class: "fwp-strip" }, this.strip.element, this.fields.element, this.options.element);
    const root = element(
      "div",
      { class: "fwp", role: "group", "aria-label": "Camera path editor", onkeydown: (event) => this.command(event) },
      element("style", { textContent: STYLE }), over, views, this.bar.element, this.presetRow, this.keyRows,
    );
    // Keys that mean something here are not the graph's shortcuts; text fields keep theirs.
    for (const name of ["keyup", "keypress", "dblclick"]) {
      root.addEventListener(name, (event) => event.stopPropagation());
    }
    root.addEventListener("dblclick", (event) => event.target.closest(".fwp-card") && this.lookThrough(true));
    return root;
  }

  /** Reads the node's widgets again; cheap where nothing has changed. */
  refresh() {
    const signature = JSON.stringify([this.host.values(), this.host.outside()]);
    if (signature !== this.#signature) this.state.refresh();
  }

  // What the parts of the editor ask of it.

  edit(edit, options) {
    this.state.edit(edit, options);
  }

  endEdit() {
    this.state.endMerge();
  }

  select(index) {
    this.headOnKey = index >= 0;
    this.state.select(index);
  }

  leave() {
    this.lookThrough(false);
  }

  lookThrough(on) {
    this.through = on;
    this.redraw();
  }

  /** The keyboard commands that are the same everywhere in the editor. */
  command(event) {
    const key = event.key.toLowerCase();
    const typing = event.target.matches("select, input[type=number]");
    const control = (event.ctrlKey || event.metaKey) && !event.altKey;
    if (control && key === "z") event.shiftKey ? this.state.redo() : this.state.undo();
    else if (control && key === "y") this.state.redo();
    else if (control && !typing && CLIPBOARD[key]) this[CLIPBOARD[key]]();
    else if (control || event.altKey || typing) return this.#keep(event, typing);
    else if (key === "delete" || key === "backspace") this.strip.deleteSelected();
    else if (key === "k") this.addHere();
    else if (key === " " && event.target.classList.contains("fwp-keys")) this.bar.toggle();
    else return this.#keep(event, true);
    event.preventDefault();
    event.stopPropagation();
  }

  copy() {
    if (this.state.key) copied = [this.state.key];
  }

  cut() {
    this.copy();
    this.strip.deleteSelected();
  }

  /** The copied keyframes, of this editor or of another one, after the selected one. */
  paste() {
    if (copied.length) this.addKeyframes(copied);
  }

  duplicate() {
    if (this.state.key) this.addKeyframes([this.state.key]);
  }

  #keep(event, ours) {
    if (ours && event.key !== "Escape") event.stopPropagation();
  }

  /** What is drawn now; see View3D and Plan. */
  model() {
    const { path, fine } = this.#sampled;
    const values = this.state.values;
    const aspect = values.width / values.height || 1;
    const fov = values.field_of_view;
    const keys = this.state.editing
      ? this.state.document.keyframes.map((key) => ({ ...key, fov: key.vertical_fov_degrees ?? fov }))
      : [];
    const head = this.#head(keys, fine);
    return {
      path, keys, aspect, curve: fine.map((camera) => camera.position), focus: values.focus_distance || 1,
      home: path[this.host.pictureIndex()] ?? path[0] ?? null,
      selected: this.state.selected, playhead: this.headOnKey && this.state.key ? null : head,
      through: this.through ? head : null,
      picture: this.host.picture(), scene: this.host.scene(),
    };
  }

  #head(keys, fine) {
    if (this.headOnKey && keys[this.state.selected]) return keys[this.state.selected];
    return fine[Math.round(this.bar.time * (fine.length - 1))] ?? null;
  }

  /** The pose the 3D view stands in. */
  here() {
    const { through } = this.model();
    return through ?? this.view3d.camera.pose;
  }

  /** A keyframe where the 3D view stands: within the path where it looks through the playhead, else after the selected. */
  addHere() {
    const { position, quaternion } = this.here();
    const inPath = this.through && !this.headOnKey && this.state.editing;
    this.addKeyframe({ position, quaternion }, inPath ? this.#placeOfHead() : null);
  }

  /**
   * A keyframe of a pose. A preset path becomes keyframes first, so that the new one continues it.
   *
   * @param {{position: number[], quaternion: number[], vertical_fov_degrees?: number}} pose
   * @param {?number} index its place; after the selected one if null
   */
  addKeyframe(pose, index = null) {
    this.addKeyframes([pose], index);
  }

  /** Several in a row, as one step; the last of them is selected. */
  addKeyframes(poses, index = null) {
    const { state } = this;
    const base = this.#editable();
    const at = index ?? (base === state.document && state.selected >= 0 ? state.selected + 1 : base.keyframes.length);
    const document = poses.reduce((before, pose, i) => insert(before, at + i, pose), base);
    state.edit(() => document, { select: at + poses.length - 1 });
    this.headOnKey = true;
    this.redraw();
  }

  setHere() {
    const { selected } = this.state;
    const { position, quaternion } = this.here();
    if (selected >= 0) this.edit((document) => change(document, selected, { position, quaternion }));
  }

  turnIntoKeyframes() {
    try {
      const document = this.#keyframesOfPreset();
      this.state.edit(() => document, { select: 0 });
      this.headOnKey = true;
    } catch (error) {
      this.note.textContent = error.message;
    }
  }

  /** The document that can be added to: the one there is, or the preset made into one. */
  #editable() {
    const { state } = this;
    if (state.values.source !== "preset" || state.document.keyframes.length) return state.document;
    try {
      return this.#keyframesOfPreset();
    } catch {
      return state.document; // a preset with wrong moves: begin with nothing
    }
  }

  #keyframesOfPreset() {
    const values = this.state.values;
    const { focus_distance: focus, turns, field_of_view: fov } = values;
    return keyframesFromMoves(movesOf(values), { focus, turns, fov });
  }

  #placeOfHead() {
    const { document, values } = this.state;
    const keys = keysOf(document, values.field_of_view);
    if (keys.length < 2) return null;
    const curve = new KeyframeCurve(keys, document.spline, isLoop(document));
    const [parameter] = curve.parameters([ease(values.easing, this.bar.time)], document.timing);
    return Math.min(Math.floor(parameter) + 1, document.keyframes.length);
  }

  /** The playhead has been moved. */
  seek() {
    this.headOnKey = false;
    this.redraw();
  }

  /** The whole path in both views. */
  fit() {
    this.through = false;
    this.view3d.free = false;
    this.view3d.frame();
    this.plan.frame();
    this.redraw();
  }

  #setView(view) {
    this.host.view.shown = view;
    this.redraw();
  }

  #sample() {
    const values = this.state.values;
    const outside = this.host.outside();
    if (outside) return { path: [], fine: [], problem: outside };
    if (this.state.error && this.state.editing) return { path: [], fine: [], problem: this.state.error };
    try {
      return { path: samplePath({ ...values, frames: Math.min(values.frames, MOST) }), fine: samplePath({ ...values, frames: FINE }), problem: "" };
    } catch (error) {
      return { path: [], fine: [], problem: error.message };
    }
  }

  /** After a change of the path: everything but the canvases at once, those with the next frame. */
  #show() {
    const { state } = this;
    const values = state.values;
    this.#signature = JSON.stringify([values, this.host.outside()]);
    this.#sampled = this.#sample();
    const editing = state.editing && !this.host.outside();
    this.keyRows.hidden = !editing;
    this.presetRow.hidden = editing && !this.#sampled.problem;
    this.convert.hidden = values.source !== "preset" || Boolean(this.#sampled.problem);
    this.note.textContent = this.#sampled.problem || (values.source === "preset" ? describe(values) : "");
    this.note.classList.toggle("fwp-error", Boolean(this.#sampled.problem) && !this.host.outside());
    this.strip.show(state);
    this.fields.show(state);
    this.options.show(state);
    this.redraw();
  }

  redraw() {
    if (!this.#pending) this.#pending = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#pending = 0;
    const shown = this.host.view.shown ?? "both";
    this.tabs.forEach((tab, i) => tab.setAttribute("aria-pressed", String(VIEWS[i][0] === shown)));
    this.view3dBox.hidden = shown === "plan";
    this.planBox.hidden = shown === "3d";
    this.throughButton.setAttribute("aria-pressed", String(this.through));
    this.bar.show(this.state);
    const model = this.model();
    if (model.scene !== this.#behind[0]) this.#putBehind(model.scene);
    this.#behind = [model.scene, model.picture];
    this.view3d.draw(model);
    this.plan.draw(model);
  }

  #putBehind(scene) {
    this.#behind[0]?.element.remove();
    if (scene) this.view3dBox.prepend(scene.element);
  }

  dispose() {
    this.bar.stop();
    if (this.#pending) cancelAnimationFrame(this.#pending);
    this.#pending = -1; // nothing is drawn any more
    this.view3d.dispose();
    this.plan.dispose();
    this.element.remove();
  }
}

/** A preset path in words. */
function describe(values) {
  const moves = movesOf(values).map(({ name }) => name.replace("_", " "));
  return `Preset: ${moves.join(", then ")}. Its amounts are the node's own settings.`;
}
