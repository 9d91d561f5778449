/** Number fields of the selected keyframe, and the choices that belong to the whole path. */
import { choice, element, numberField, showNumber } from "./dom.mjs";
import { anglesOf, change, quaternionOf, retime, withTiming } from "./edits.mjs";
import { FOV_LIMITS, MAX_NUMBER } from "./document.mjs";

const AXES = [
  ["x", "Position to the right, in world units"],
  ["y", "Position downwards, in world units; negative is up"],
  ["z", "Position forward, in world units"],
];
const ANGLES = [
  ["turn", "yaw", "Turned to the right, in degrees"],
  ["tilt", "pitch", "Tilted up, in degrees"],
  ["roll", "roll", "Rolled clockwise, in degrees"],
];

/** Fields of the selected keyframe. */
export class KeyFields {
  constructor(editor) {
    this.editor = editor;
    const position = AXES.map(([label, description], axis) => this.#field(label, description, 0.05, (key, value) => ({
      position: key.position.with(axis, Math.max(-MAX_NUMBER, Math.min(MAX_NUMBER, value))),
    })));
    const angles = ANGLES.map(([label, name, description]) => this.#field(label, description, 1, (key, value) => ({
      quaternion: quaternionOf({ ...anglesOf(key.quaternion), [name]: value }),
    })));
    this.fov = this.#field(
      "lens °",
      "Vertical field of view of this keyframe in degrees; empty takes the node's own",
      1,
      (_, value) => ({ vertical_fov_degrees: value === null ? null : Math.max(FOV_LIMITS[0], Math.min(FOV_LIMITS[1], value)) }),
      true,
    );
    this.time = numberField("time s", "When the camera is here, in seconds; used with the timing by times", {
      step: 0.1,
      changed: (value) => {
        const index = this.editor.state.selected;
        if (Number.isFinite(value)) this.#edit((document) => retime(document, index, value), "time");
      },
      done: () => this.#done(),
    });
    [this.position, this.angles] = [position, angles];
    this.all = [...position, ...angles, this.fov, this.time];
    const rows = this.all.map((field) => field.row);
    this.element = element("div", { class: "fwp-fields", role: "group", "aria-label": "Selected keyframe" }, ...rows);
  }

  show({ document, key }) {
    // They stay when nothing is selected: the views must not move under the pointer that selects something.
    this.time.row.hidden = document.timing !== "times";
    for (const { input } of this.all) {
      input.disabled = !key;
      if (!key) input.value = "";
    }
    if (!key) return;
    this.position.forEach(({ input }, axis) => showNumber(input, key.position[axis], 4));
    const angles = anglesOf(key.quaternion);
    this.angles.forEach(({ input }, i) => showNumber(input, angles[ANGLES[i][1]], 2));
    showNumber(this.fov.input, key.vertical_fov_degrees, 2);
    this.fov.input.placeholder = String(this.editor.state.values.field_of_view);
    showNumber(this.time.input, key.time, 3);
  }

  #field(label, description, step, values, optional = false) {
    return numberField(label, description, {
      step,
      changed: (value) => {
        const index = this.editor.state.selected;
        if (index < 0 || !(Number.isFinite(value) || (optional && value === null))) return;
        this.#edit((document) => change(document, index, values(document.keyframes[index], value)), label);
      },
      done: () => this.#done(),
    });
  }

  #edit(edit, label) {
    this.editor.edit(edit, { merge: `${label} ${this.editor.state.selected}` });
  }

  #done() {
    this.editor.endEdit();
  }
}

/** Curve, timing and loop. */
export class PathOptions {
  constructor(editor) {
    this.spline = choice("curve", "Smooth: a rounded curve through the keyframes. Linear: straight lines between them", [
      ["catmull_rom", "smooth"],
      ["linear", "linear"],
    ], (spline) => editor.edit((document) => ({ ...document, spline })));
    this.timing = choice("timing", "How time is shared: the same speed all along, the same time between all keyframes, " +
      "or every keyframe at a time of its own", [
      ["constant_speed", "constant speed"],
      ["even", "even"],
      ["times", "own times"],
    ], (timing) => editor.edit((document) => withTiming(document, timing)));
    this.loop = element("input", {
      type: "checkbox",
      "aria-label": "Loop: the path returns to its first keyframe",
      onchange: () => editor.edit((document) => ({ ...document, loop: this.loop.checked })),
    });
    const loop = element("label", { class: "fwp-check", title: "The path returns to its first keyframe" }, this.loop, "loop");
    this.element = element("div", { class: "fwp-row" }, this.spline.row, this.timing.row, loop);
  }

  show({ document }) {
    this.spline.select.value = document.spline;
    this.timing.select.value = document.timing;
    this.loop.checked = document.loop;
  }
}
