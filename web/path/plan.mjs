/** The plan: the path from above (x to the right, z up). Keyframes are dragged, their view directions turned. */
import { Surface, onDrag } from "./canvas.mjs";
import { COLORS, pathColor } from "./colors.mjs";
import { anglesOf, change, quaternionOf } from "./edits.mjs";
import { focalOfFov, forward } from "./math3d.mjs";
import { extentOf, niceStep } from "./view3d.mjs";

const REACH = 11; // pixels around a point that count as on it
const HANDLE = 34; // pixels from a keyframe to the end of its view direction
const MOVES = Object.freeze({
  ArrowLeft: [-1, 0, 0],
  ArrowRight: [1, 0, 0],
  ArrowUp: [0, 0, 1],
  ArrowDown: [0, 0, -1],
  PageUp: [0, -1, 0],
  PageDown: [0, 1, 0],
});
const TURNS = Object.freeze({ ",": -3, ".": 3, "<": -15, ">": 15 }); // degrees to the right

export class Plan {
  /**
   * @param {object} editor as for View3D, and `edit(change, options)`, `endEdit()`
   */
  constructor(editor) {
    this.editor = editor;
    this.surface = new Surface(
      "Plan of the camera path from above. Drag keyframes to move them, their handles to turn them; hold Shift to change " +
        "the height. Arrow keys move the selected keyframe, Page Up and Down its height, comma and period turn it, " +
        "N and P select the next and the one before.",
      () => editor.redraw(),
    );
    this.surface.canvas.dataset.captureWheel = "true";
    this.#listen();
  }

  get element() {
    return this.surface.canvas;
  }

  get elements() {
    return this.surface.elements;
  }

  focus() {
    this.surface.focus();
  }

  /** Kept in the node: what is in the middle (x, z) and pixels per world unit, if the plan was moved by hand. */
  get view() {
    return this.editor.host.view.plan;
  }

  /** Shows the whole path again, and after every change of it, until the plan is moved by hand. */
  frame() {
    delete this.view.center;
    delete this.view.scale;
  }

  #frame(model) {
    const [width, height] = this.surface.size;
    const { center: middle, scale } = this.view;
    if (Array.isArray(middle) && middle.length === 2 && middle.every(Number.isFinite) && scale > 1e-9 && scale < 1e9) {
      return { center: middle, scale };
    }
    if (this.held) return this.held; // nothing jumps under a drag
    const { center, radius } = extentOf(model);
    return { center: [center[0], center[2]], scale: Math.min(width, height) / (2.7 * radius) };
  }

  #pixel(frame, [x, , z]) {
    const [width, height] = this.surface.size;
    return [width / 2 + (x - frame.center[0]) * frame.scale, height / 2 - (z - frame.center[1]) * frame.scale];
  }

  /** Where a keyframe is drawn, in CSS pixels from the plan's corner. */
  placeOf(model, index) {
    return this.#pixel(this.#frame(model), model.keys[index].position);
  }

  /** World x and z of a place. */
  #world(frame, place) {
    const [width, height] = this.surface.size;
    return [
      frame.center[0] + (place[0] - width / 2) / frame.scale,
      frame.center[1] - (place[1] - height / 2) / frame.scale,
    ];
  }

  #handle(frame, key) {
    const at = this.#pixel(frame, key.position);
    const ahead = forward(key);
    const level = Math.hypot(ahead[0], ahead[2]);
    const length = level > 1e-6 ? HANDLE / level : 0;
    return [at[0] + ahead[0] * length, at[1] - ahead[2] * length];
  }

  draw(model) {
    if (!this.surface.begin(COLORS.back)) return;
    const frame = this.#frame(model);
    this.#drawGrid(frame);
    if (model.home) this.#drawView(frame, model.home, model.aspect, model.focus * frame.scale, COLORS.faint);
    const { context } = this.surface;
    context.lineWidth = 2.5;
    context.lineCap = "round";
    for (let i = 0; i + 1 < model.curve.length; i++) {
      context.strokeStyle = pathColor(i / (model.curve.length - 1));
      context.beginPath();
      context.moveTo(...this.#pixel(frame, model.curve[i]));
      context.lineTo(...this.#pixel(frame, model.curve[i + 1]));
      context.stroke();
    }
    model.path.forEach((camera, i) => {
      context.fillStyle = pathColor(model.path.length > 1 ? i / (model.path.length - 1) : 0);
      context.beginPath();
      context.arc(...this.#pixel(frame, camera.position), 2, 0, 2 * Math.PI);
      context.fill();
    });
    model.keys.forEach((key, i) => this.#drawKey(frame, model, key, i));
    if (model.playhead) {
      this.#drawView(frame, model.playhead, model.aspect, 26, COLORS.playhead);
      context.fillStyle = COLORS.playhead;
      context.beginPath();
      context.arc(...this.#pixel(frame, model.playhead.position), 4, 0, 2 * Math.PI);
      context.fill();
    }
  }

  #drawGrid(frame) {
    const { context } = this.surface;
    const [width, height] = this.surface.size;
    const step = niceStep(80 / frame.scale);
    const [left, top] = this.#world(frame, [0, 0]);
    const [rightmost, bottom] = this.#world(frame, [width, height]);
    context.lineWidth = 1;
    for (let x = Math.ceil(left / step); x * step <= rightmost; x++) {
      context.strokeStyle = x === 0 ? COLORS.axis : COLORS.grid;
      const at = this.#pixel(frame, [x * step, 0, 0])[0];
      context.strokeRect(at, -1, 0, height + 2);
    }
    for (let z = Math.ceil(bottom / step); z * step <= top; z++) {
      context.strokeStyle = z === 0 ? COLORS.axis : COLORS.grid;
      const at = this.#pixel(frame, [0, 0, z * step])[1];
      context.strokeRect(-1, at, width + 2, 0);
    }
    context.fillStyle = COLORS.text;
    context.font = "10px system-ui, sans-serif";
    context.fillText(`grid ${step < 1e-3 ? step.toExponential(0) : Number(step.toPrecision(1))}`, 6, height - 6);
  }

  /** What a camera sees, from above. */
  #drawView(frame, camera, aspect, length, color) {
    const { context } = this.surface;
    const at = this.#pixel(frame, camera.position);
    const ahead = forward(camera);
    if (Math.hypot(ahead[0], ahead[2]) < 1e-6) return;
    const facing = Math.atan2(-ahead[2], ahead[0]);
    const half = Math.atan((0.5 / focalOfFov(camera.fov)) * aspect);
    context.beginPath();
    for (const side of [-half, half]) {
      context.moveTo(...at);
      context.lineTo(at[0] + length * Math.cos(facing + side), at[1] + length * Math.sin(facing + side));
    }
    context.strokeStyle = color;
    context.lineWidth = 1;
    context.stroke();
  }

  #drawKey(frame, model, key, i) {
    const { context } = this.surface;
    const chosen = i === model.selected;
    const color = chosen ? COLORS.selected : COLORS.key;
    const at = this.#pixel(frame, key.position);
    const handle = this.#handle(frame, key);
    this.#drawView(frame, key, model.aspect, HANDLE * 0.8, chosen ? color : COLORS.faint);
    context.strokeStyle = color;
    context.lineWidth = chosen ? 1.75 : 1;
    context.beginPath();
    context.moveTo(...at);
    context.lineTo(...handle);
    context.stroke();
    context.fillStyle = COLORS.back;
    context.beginPath();
    context.arc(...handle, 4, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
    context.beginPath();
    context.arc(...at, chosen ? 8.5 : 7.5, 0, 2 * Math.PI);
    context.fillStyle = color;
    context.fill();
    context.fillStyle = "#16181d";
    context.font = "700 10px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(String(i + 1), at[0], at[1] + 0.5);
    context.textAlign = "start";
    context.textBaseline = "alphabetic";
  }

  /** The topmost keyframe or handle at a place: {index, part} or null. */
  #hit(model, frame, place) {
    const near = (at) => Math.hypot(at[0] - place[0], at[1] - place[1]) <= REACH;
    const order = model.keys.map((_, i) => i).sort((a, b) => (b === model.selected) - (a === model.selected) || b - a);
    for (const index of order) {
      if (near(this.#pixel(frame, model.keys[index].position))) return { index, part: "point" };
    }
    for (const index of order) if (near(this.#handle(frame, model.keys[index]))) return { index, part: "handle" };
    return null;
  }

  #listen() {
    const { canvas } = this.surface;
    onDrag(this.surface, (start, event) => {
      const model = this.editor.model();
      const frame = this.#frame(model);
      const hit = event.button === 0 ? this.#hit(model, frame, start) : null;
      if (!hit) return this.#panning(frame, start);
      this.held = frame;
      this.editor.select(hit.index);
      const moving = hit.part === "point" ? this.#moving(model, frame, start, hit.index) : this.#turning(frame, hit.index);
      return {
        move: moving,
        end: () => {
          this.held = null;
          this.editor.endEdit();
          this.editor.redraw();
        },
      };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) return;
      const model = this.editor.model();
      canvas.style.cursor = this.#hit(model, this.#frame(model), this.surface.place(event)) ? "grab" : "default";
    });
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (!this.surface.focused) return;
        event.preventDefault();
        event.stopPropagation();
        this.zoom(Math.exp(-0.0012 * event.deltaY), this.surface.place(event));
      },
      { passive: false },
    );
    this.surface.keys.addEventListener("keydown", (event) => {
      if (planKey(this, event)) event.preventDefault();
      else this.editor.command(event);
    });
  }

  #panning(frame, start) {
    let moved = false;
    return {
      move: (place) => {
        if (!moved && Math.hypot(place[0] - start[0], place[1] - start[1]) < 3) return;
        moved = true;
        this.view.scale = frame.scale;
        this.view.center = [
          frame.center[0] - (place[0] - start[0]) / frame.scale,
          frame.center[1] + (place[1] - start[1]) / frame.scale,
        ];
        this.editor.redraw();
      },
      end: () => {
        if (!moved) this.editor.select(-1);
      },
    };
  }

  #moving(model, frame, start, index) {
    const { position } = model.keys[index];
    const from = this.#world(frame, start);
    return (place, event) => {
      const to = this.#world(frame, place);
      const moved = event.shiftKey
        ? [position[0], position[1] - (to[1] - from[1]), position[2]]
        : [position[0] + to[0] - from[0], position[1], position[2] + to[1] - from[1]];
      this.editor.edit((document) => change(document, index, { position: moved }), { select: index, merge: `move ${index}` });
    };
  }

  #turning(frame, index) {
    return (place) => {
      const key = this.editor.model().keys[index];
      const to = this.#world(frame, place);
      const [x, z] = [to[0] - key.position[0], to[1] - key.position[2]];
      if (Math.hypot(x, z) * frame.scale < 4) return;
      const yaw = (Math.atan2(x, z) * 180) / Math.PI;
      const quaternion = quaternionOf({ ...anglesOf(key.quaternion), yaw });
      this.editor.edit((document) => change(document, index, { quaternion }), { select: index, merge: `turn ${index}` });
    };
  }

  /** How far an arrow key moves a keyframe, in world units. */
  get step() {
    return niceStep(40 / this.#frame(this.editor.model()).scale) / 4;
  }

  /** Zooms by a factor about a place, by default the middle. */
  zoom(factor, place = this.surface.size.map((length) => length / 2)) {
    const frame = this.#frame(this.editor.model());
    const at = this.#world(frame, place);
    this.view.scale = Math.min(Math.max(frame.scale * factor, 1e-6), 1e8);
    const ratio = frame.scale / this.view.scale;
    this.view.center = [at[0] + (frame.center[0] - at[0]) * ratio, at[1] + (frame.center[1] - at[1]) * ratio];
    this.editor.redraw();
  }

  dispose() {
    this.surface.dispose();
  }
}

/**
 * What the keyboard does in the plan.
 *
 * @param {object} plan the Plan
 * @param {KeyboardEvent} event
 * @returns {boolean} whether the key means something here
 */
function planKey(plan, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const { editor } = plan;
  const { keys, selected } = editor.model();
  if (event.key === "+" || event.key === "=") plan.zoom(1.25);
  else if (event.key === "-") plan.zoom(0.8);
  else if (event.key === "f" || event.key === "Home") editor.fit();
  else if (event.key === "n" && keys.length) editor.select((selected + 1) % keys.length);
  else if (event.key === "p" && keys.length) editor.select((Math.max(selected, 0) - 1 + keys.length) % keys.length);
  else return keys[selected] ? nudge(plan, event, keys[selected], selected) : false;
  return true;
}

function nudge(plan, event, key, index) {
  const { editor } = plan;
  const edit = (values) => editor.edit((document) => change(document, index, values), { select: index });
  if (MOVES[event.key]) {
    const step = plan.step * (event.shiftKey ? 4 : 1);
    edit({ position: key.position.map((value, i) => value + step * MOVES[event.key][i]) });
  } else if (TURNS[event.key]) {
    const angles = anglesOf(key.quaternion);
    edit({ quaternion: quaternionOf({ ...angles, yaw: angles.yaw + TURNS[event.key] }) });
  } else return false;
  return true;
}
