/** Mouse, touch and keyboard on the picture. */
import { lookAt } from "../path/math3d.mjs";
import { distanceAhead, moved, turned } from "./camera.mjs";

const DEGREES_PER_PIXEL = 0.3;
const WHEEL = 0.0012; // share of the distance per wheel unit
const FLY_SPEED = 0.4; // of the scene's radius per second
const FAST = 4;
const KEY_TURN = 60; // degrees per second
const MOVES = Object.freeze({ KeyW: [0, 0, 1], KeyS: [0, 0, -1], KeyA: [-1, 0, 0], KeyD: [1, 0, 0], KeyE: [0, -1, 0], KeyQ: [0, 1, 0] });
const TURNS = Object.freeze({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] });
const MODE_KEYS = Object.freeze({ Digit1: "color", Digit2: "depth", Digit3: "points", Digit4: "opacity" });

export class Controls {
  /**
   * @param {HTMLElement} root has the keyboard focus
   * @param {HTMLElement} picture takes the pointer
   * @param {import("./stage.mjs").Stage} stage
   * @param {object} viewer the Viewer
   */
  constructor(root, picture, stage, viewer) {
    Object.assign(this, { root, picture, stage, viewer });
    this.pointers = new Map(); // id -> {x, y}
    this.keys = new Set();
    this.drag = null; // a grab by the owner of the viewer
    this.stick = [0, 0]; // right and ahead, -1 to 1
    this.pivot = null; // the world point that was chosen to turn around; null: the middle of the scene
    this.ending = new AbortController();
    const on = (target, type, handler, options = {}) => {
      target.addEventListener(type, handler, { ...options, signal: this.ending.signal });
    };
    on(picture, "pointerdown", this.#down);
    on(picture, "pointermove", this.#move);
    on(picture, "pointerup", this.#up);
    on(picture, "pointercancel", this.#up);
    on(picture, "dblclick", this.#choosePivot);
    on(picture, "wheel", this.#wheel, { passive: false });
    on(picture, "contextmenu", (event) => event.preventDefault());
    on(root, "keydown", this.#keyDown);
    on(root, "keyup", (event) => this.keys.delete(event.code));
    on(root, "focusout", () => this.keys.clear());
  }

  dispose() {
    this.ending.abort();
    this.keys.clear();
    this.stage.steps.delete(this.#step);
  }

  /** The camera was moved, by whomever: orbiting turns around what is ahead of it now. */
  moved() {
    if (this.pointers.size || this.keys.size) return;
    const { header } = this.viewer.scene ?? {};
    if (header) this.stage.focusDistance = distanceAhead(this.stage.pose, this.pivot ?? header.center, header.radius);
  }

  /** Forgets a chosen pivot: another scene, or another way to look at it. */
  resetPivot() {
    this.stick = [0, 0]; // right and ahead, -1 to 1
    this.pivot = null;
    this.moved();
  }

  /** What is seen there comes into the middle, and is what orbiting turns around. */
  #choosePivot = (event) => {
    event.preventDefault();
    event.stopPropagation();
    const at = this.#at(event);
    const point = this.stage.pick(at.x, at.y);
    if (!point) return;
    this.viewer.pause();
    this.pivot = point;
    const { quaternion } = lookAt(this.stage.pose.position, point);
    this.stage.setPose({ ...this.stage.pose, quaternion }, true);
    this.moved();
  };

  get #orbit() {
    return this.viewer.settings.navigation === "orbit";
  }

  /** World units a pixel spans at the distance we turn around. */
  get #unitsPerPixel() {
    return this.stage.focusDistance / this.stage.view.focal;
  }

  #place(pose) {
    this.viewer.pause();
    this.stage.setPose(pose);
  }

  #turn(dx, dy) {
    const pivot = this.#orbit ? this.stage.focusDistance : 0;
    this.#place(turned(this.stage.pose, dx, -dy, pivot));
  }

  #pan(dx, dy) {
    const units = this.#unitsPerPixel;
    this.#place(moved(this.stage.pose, -dx * units, -dy * units, 0));
  }

  /** Nearer by a factor: in orbit towards the pivot, which stays; in fly mode the camera passes through. */
  #approach(factor) {
    const { stage } = this;
    const step = stage.focusDistance * (1 - factor);
    if (this.#orbit) stage.focusDistance *= factor;
    this.#place(moved(stage.pose, 0, 0, step));
  }

  #at(event) {
    const box = this.picture.getBoundingClientRect();
    // A zoomed graph scales the picture; the stage counts in its own CSS pixels.
    return {
      x: ((event.clientX - box.left) / (box.width || 1)) * this.stage.width,
      y: ((event.clientY - box.top) / (box.height || 1)) * this.stage.height,
    };
  }

  #down = (event) => {
    event.stopPropagation();
    this.root.focus({ preventScroll: true });
    this.picture.setPointerCapture(event.pointerId);
    const at = this.#at(event);
    if (!this.pointers.size && event.button === 0) {
      this.drag = this.viewer.options.grab?.(at.x, at.y, this.stage.view, event) ?? null;
    }
    this.pointers.set(event.pointerId, { ...at, button: event.button });
  };

  #move = (event) => {
    const at = this.#at(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      const cursor = this.viewer.options.hover?.(at.x, at.y, this.stage.view, event);
      this.picture.style.cursor = cursor ?? "";
      return;
    }
    event.stopPropagation();
    if (this.drag) this.drag.move(at.x, at.y, this.stage.view, event);
    else if (this.pointers.size === 1) {
      const [dx, dy] = [at.x - before.x, at.y - before.y];
      if (before.button === 0 && !event.shiftKey) this.#turn(dx * DEGREES_PER_PIXEL, dy * DEGREES_PER_PIXEL);
      else this.#pan(dx, dy);
    } else this.#pinch(event.pointerId, before, at);
    this.pointers.set(event.pointerId, { ...at, button: before.button });
  };

  #pinch(id, before, at) {
    const [other] = [...this.pointers].find(([key]) => key !== id).slice(1);
    this.#pan((at.x - before.x) / 2, (at.y - before.y) / 2);
    const apart = (point) => Math.hypot(point.x - other.x, point.y - other.y);
    this.#approach(Math.min(Math.max(apart(before) / Math.max(apart(at), 1), 0.5), 2));
  }

  #up = (event) => {
    if (!this.pointers.delete(event.pointerId)) return;
    event.stopPropagation();
    this.drag?.end(event);
    this.drag = null;
  };

  #wheel = (event) => {
    // Without the focus the wheel belongs to the page: a graph zooms under the pointer.
    if (!this.root.matches(":focus-within")) return;
    event.preventDefault();
    event.stopPropagation();
    const amount = event.deltaY * (event.deltaMode === 1 ? 33 : 1);
    if (this.#orbit) this.#approach(Math.exp(Math.min(Math.max(amount, -400), 400) * WHEEL));
    else this.viewer.change({ speed: this.viewer.settings.speed * Math.exp(-amount * WHEEL) });
  };

  #keyDown = (event) => {
    const { viewer } = this;
    // Fields of the toolbar keep their keys, and buttons those that press them.
    const free = event.target === this.root || (event.target.localName === "button" && event.code !== "Space");
    const leaving = event.code === "Escape" && viewer.fullWindow;
    if ((!free && !leaving) || event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = {
      KeyR: () => viewer.reset(),
      KeyF: () => viewer.frameAll(),
      KeyO: () => viewer.change({ navigation: "orbit" }),
      KeyV: () => viewer.change({ navigation: "fly" }),
      Space: () => (viewer.playing ? viewer.pause() : viewer.play()),
      Escape: viewer.fullWindow && (() => viewer.setFullWindow(false)),
      ...Object.fromEntries(Object.entries(MODE_KEYS).map(([key, mode]) => [key, () => viewer.change({ mode })])),
    };
    if (event.code in MOVES || event.code in TURNS) {
      if (!this.keys.size) this.stage.steps.add(this.#step);
      this.keys.add(event.code);
      this.stage.redraw();
    } else if (actions[event.code]) {
      if (!event.repeat) actions[event.code]();
    } else return;
    this.fast = event.shiftKey;
    event.preventDefault();
    event.stopPropagation();
  };

  /** The stick of `Stick`: right and ahead, from -1 to 1; zeros where it is let go. */
  push(right, ahead) {
    this.stick = [right, ahead];
    this.fast = false;
    this.stage.steps.add(this.#step);
    this.stage.redraw();
  }

  /** Moves on while keys are held or the stick is pushed. */
  #step = (seconds) => {
    if (!this.keys.size && !this.stick.some(Boolean)) return false;
    const sum = (table, size) => {
      const total = Array(size).fill(0);
      for (const key of this.keys) table[key]?.forEach((value, i) => (total[i] += value));
      return total;
    };
    const radius = this.viewer.scene?.header?.radius ?? 1;
    const step = FLY_SPEED * radius * this.viewer.settings.speed * (this.fast ? FAST : 1) * seconds;
    const moves = sum(MOVES, 3);
    const [right, down, ahead] = [moves[0] + this.stick[0], moves[1], moves[2] + this.stick[1]];
    const [yaw, pitch] = sum(TURNS, 2);
    if (right || down || ahead) this.#place(moved(this.stage.pose, right * step, down * step, ahead * step));
    if (yaw || pitch) this.#turn(yaw * KEY_TURN * seconds, pitch * KEY_TURN * seconds);
    return true;
  };
}
