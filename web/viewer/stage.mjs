/** The picture of a viewer: camera, canvases, and when to sort and draw. */
import { clipPlanes } from "./constants.mjs";
import { focalOf, mix, moved, rotationRows, samePose, toPose, viewOf } from "./camera.mjs";
import { AREAS } from "./order.mjs";
import { Painter } from "./painter.mjs";
import { colorOf } from "./settings.mjs";

const SEEN_MARGIN = 1.15; // wider than the picture, so that a turn meets sorted Gaussians
const MOVE_TIME = 450; // milliseconds of an animated move
const MAX_PIXEL_RATIO = 2;
const GROWTH = 1.6; // while a scene arrives: drawn anew when there is this much more of it, or all

export class Stage {
  constructor({ gpu, sorter, box, adaptive, onFrame, onSlow, onView, overlay, onLost }) {
    Object.assign(this, { gpu, sorter, box, onFrame, onView, overlay });
    this.id = sorter.newId();
    this.pose = toPose({ position: [0, 0, 0], quaternion: [1, 0, 0, 0] });
    this.focusDistance = 2; // world units ahead: what orbiting turns around
    this.scene = null;
    this.style = { mode: "color", degree: 3, background: [0, 0, 0], empty: "#000000" };
    this.frame = null;
    this.share = 1; // of the Gaussians that are drawn
    this.since = null; // when the picture that is not there yet was first wanted
    this.shown = this.sortTime = 0;
    this.seen = null; // camera of the order in use
    this.sorting = false;
    this.dirty = this.onScreen = true;
    this.steps = new Set(); // called before every frame with the seconds since the last one; true: go on
    this.waiting = []; // resolvers of settled()
    this.disposed = false;

    this.canvas = document.createElement("canvas");
    this.above = document.createElement("canvas");
    this.above.className = "above";
    box.prepend(this.canvas, this.above);
    this.painter = new Painter(gpu, this.canvas, adaptive, { onShown: () => this.#pictureShown(), onSlow });
    this.aboveContext = this.above.getContext("2d");
    this.width = this.height = 1; // CSS pixels
    this.resizeObserver = new ResizeObserver(() => this.#measure());
    this.resizeObserver.observe(box);
    this.screenObserver = new IntersectionObserver(([...entries]) => {
      this.onScreen = entries.at(-1).isIntersecting;
      if (this.onScreen) this.redraw();
    });
    this.screenObserver.observe(box);
    this.stopGpu = gpu.onChange((lost) => {
      onLost(lost);
      this.renderer.uploaded = false;
      if (lost) this.since = this.painter.cancel() ?? this.since;
      else this.redraw();
    });
    this.#measure();
  }

  dispose() {
    this.disposed = true;
    cancelAnimationFrame(this.request);
    clearTimeout(this.refining);
    this.resizeObserver.disconnect();
    this.screenObserver.disconnect();
    this.stopGpu();
    this.stopScene?.();
    this.painter.dispose();
    this.scene = null;
    for (const done of this.waiting.splice(0)) done();
    this.canvas.remove();
    this.above.remove();
  }

  get aspect() {
    return this.frame ? this.frame.width / this.frame.height : this.width / this.height;
  }

  get renderer() {
    return this.painter.renderer;
  }

  get resolution() {
    return this.painter.resolution;
  }

  /** Milliseconds from the wish for a picture to the picture. */
  get frameTime() {
    return this.resolution.frameTime;
  }

  get view() {
    return viewOf(this.pose, this.width, this.height, this.frame && this.aspect, this.#clip.near);
  }

  get #clip() {
    return clipPlanes(this.scene?.header ?? null);
  }

  setScene(scene) {
    this.stopScene?.();
    this.scene = scene;
    this.seen = null;
    this.share = 1;
    this.#setOrder({ order: new Uint32Array(0), depths: [1, 10], areas: new Float64Array(AREAS + 1) });
    this.painter.empty = true;
    this.stopScene = scene?.onChange(() => this.#hasGrown() && this.redraw());
    this.redraw();
  }

  setPose(pose, animate = false) {
    this.steps.delete(this.moving);
    if (animate && !matchMedia("(prefers-reduced-motion: reduce)").matches && !samePose(pose, this.pose)) {
      const from = this.pose;
      let t = 0;
      this.moving = (seconds) => {
        t = Math.min(1, t + (1000 * seconds) / MOVE_TIME);
        this.#place(t === 1 ? pose : mix(from, pose, t * t * (3 - 2 * t)));
        return t < 1;
      };
      this.steps.add(this.moving);
      this.redraw();
    } else this.#place(pose);
  }

  #place(pose) {
    if (samePose(pose, this.pose)) return;
    this.pose = pose;
    this.resolution.moved();
    this.redraw();
    this.onView(pose);
  }

  setStyle({ mode, degree, background, soft }) {
    const empty = mode === "opacity" ? "#000000" : background;
    this.style = { mode, degree, soft, background: colorOf(background), empty };
    this.redraw();
  }

  setFrame(frame) {
    this.frame = frame;
    this.redraw();
  }

  /** The world point seen at a place of the picture (CSS pixels), or null. */
  pick(x, y) {
    if (!this.renderer.order.length || this.gpu.lost) return null;
    this.since = this.painter.cancel() ?? this.since;
    const { width, height } = this.canvas;
    const at = [(x / this.width) * width, (y / this.height) * height];
    const pixel = [Math.floor(at[0]), Math.floor(at[1])];
    if (pixel[0] < 0 || pixel[1] < 0 || pixel[0] >= width || pixel[1] >= height) return null;
    const view = this.#viewOf(width, height);
    const depth = this.renderer.depthAt(this.scene, view, ...pixel);
    this.redraw();
    if (depth === null) return null;
    const [right, down] = [at[0] - width / 2, at[1] - height / 2].map((pixels) => (pixels / view.focal) * depth);
    return moved(this.pose, right, down, depth).position;
  }

  /** Draws only a share of the Gaussians, spread evenly over the scene; 1 for all. */
  setShare(share) {
    this.share = Math.min(Math.max(share, 0.001), 1);
    this.painter.cancel();
    this.redraw();
  }

  /** Draw with the next animation frame. */
  redraw() {
    this.dirty = true;
    this.since ??= performance.now();
    if (!this.request && !this.disposed) this.request = requestAnimationFrame(this.#tick);
  }

  /** Resolves when the picture on the canvas is final. */
  settled() {
    if (this.disposed) return Promise.resolve();
    this.redraw();
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  #measure() {
    const { clientWidth: width, clientHeight: height } = this.box;
    const ratio = Math.min(globalThis.devicePixelRatio || 1, MAX_PIXEL_RATIO);
    this.width = Math.max(1, width);
    this.height = Math.max(1, height);
    const [pixelWidth, pixelHeight] = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    if (this.canvas.width === pixelWidth && this.canvas.height === pixelHeight) return;
    for (const canvas of [this.canvas, this.above]) {
      canvas.width = pixelWidth;
      canvas.height = pixelHeight;
    }
    this.redraw();
  }

  #tick = (now) => {
    this.request = 0;
    if (!this.onScreen || this.disposed) return; // the observer asks again
    const seconds = Math.min(0.1, (now - (this.before ?? now)) / 1000);
    for (const step of [...this.steps]) if (!step(seconds)) this.steps.delete(step);
    this.before = this.steps.size ? now : undefined;
    if (this.steps.size) this.redraw();
    if (this.dirty && !this.gpu.lost && !this.painter.committed) this.#draw();
  };

  #draw() {
    this.dirty = false;
    this.painter.cancel(); // another view is wanted now, since another time
    const since = this.since ?? performance.now();
    this.since = null;
    this.#sort(this.#camera());
    if (this.renderer.order.length) {
      this.painter.paint(this.scene, (width, height) => this.#viewOf(width, height), since);
    } else {
      this.painter.clear(this.style.empty); // no need to trouble the graphics card
      this.#pictureShown();
    }
    this.#drawAbove();
  }

  #viewOf(width, height) {
    const focal = focalOf(this.pose, width, height, this.frame && this.aspect);
    const { position } = this.pose;
    return { ...this.style, ...this.#clip, width, height, position, rotation: rotationRows(this.pose), focal };
  }

  #pictureShown() {
    if (this.disposed) return;
    clearTimeout(this.refining);
    if (this.resolution.due !== null) this.refining = setTimeout(() => this.redraw(), this.resolution.due);
    this.onFrame();
    if (this.dirty) return this.redraw();
    const { scene, painter } = this;
    if (this.sorting || !this.#sorted(this.#camera()) || !painter.complete || painter.frame || this.steps.size) return;
    if (!scene || scene.error || scene.count >= (scene.capacity ?? Infinity)) {
      for (const done of this.waiting.splice(0)) done();
    }
  }

  #camera() {
    const focal = focalOf(this.pose, this.width, this.height, this.frame && this.aspect);
    return {
      position: this.pose.position,
      rotation: rotationRows(this.pose),
      tangentX: (SEEN_MARGIN * this.width) / 2 / focal,
      tangentY: (SEEN_MARGIN * this.height) / 2 / focal,
      ...this.#clip,
      share: this.share,
    };
  }

  #setOrder(seen) {
    this.since = this.painter.cancel() ?? this.since; // a picture in work has the order before
    this.renderer.setOrder(seen);
    this.shown = seen.order.length;
  }

  /** Has so much arrived since the order in use was made that it is worth another one? */
  #hasGrown() {
    const { scene: { count, capacity }, seen } = this;
    const known = seen?.known ?? 0;
    return count > known && (count >= capacity || count >= GROWTH * known);
  }

  /** Is the order in use the one of this camera, with what has arrived? */
  #sorted(camera) {
    if (!this.scene?.count) return true;
    const { seen } = this;
    return seen !== null && !this.#hasGrown() && JSON.stringify(seen.camera) === JSON.stringify(camera);
  }

  async #sort(camera) {
    const { scene } = this;
    if (this.sorting || this.#sorted(camera)) return;
    this.sorting = true;
    const reuse = this.spare;
    this.spare = undefined;
    const answer = await this.sorter.see(this.id, scene.id, camera, reuse);
    await this.painter.free();
    this.sorting = false;
    if (this.disposed) return;
    if (scene === this.scene) {
      this.spare = this.renderer.order.length ? this.renderer.order.buffer : undefined;
      this.#setOrder(answer);
      this.sortTime = answer.time;
      this.seen = { camera, known: answer.known };
    }
    this.redraw();
  }

  #drawAbove() {
    const { aboveContext: context, above } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, above.width, above.height);
    context.setTransform(above.width / this.width, 0, 0, above.height / this.height, 0, 0);
    this.overlay(context, this.view);
    if (!this.frame) return;
    const height = Math.min(this.height, this.width / this.aspect);
    const width = height * this.aspect;
    if (width > this.width - 2 && height > this.height - 2) return;
    context.strokeStyle = "rgba(255, 255, 255, 0.35)";
    context.lineWidth = 1;
    context.setLineDash([4, 4]);
    context.strokeRect((this.width - width) / 2, (this.height - height) / 2, width, height);
    context.setLineDash([]);
  }
}
