/** The picture of a viewer: camera, canvases, and when to sort and draw. */
import { clipPlanes } from "./constants.mjs";
import { focalOf, mix, rotationRows, samePose, toPose, viewOf } from "./camera.mjs";
import { Resolution } from "./resolution.mjs";
import { SplatRenderer } from "./renderer.mjs";
import { colorOf } from "./settings.mjs";

const SEEN_MARGIN = 1.15; // wider than the picture, so that a turn meets sorted Gaussians
const MOVE_TIME = 450; // milliseconds of an animated move
const MAX_PIXEL_RATIO = 2;
const GROWTH = 1.6; // while a scene arrives: drawn anew when there is this much more of it, or all

export class Stage {
  constructor({ gpu, sorter, box, adaptive, onFrame, onView, overlay, onLost }) {
    Object.assign(this, { gpu, sorter, box, onFrame, onView, overlay });
    this.id = sorter.newId();
    this.renderer = new SplatRenderer(gpu);
    this.resolution = new Resolution(adaptive);
    this.pose = toPose({ position: [0, 0, 0], quaternion: [1, 0, 0, 0] });
    this.focusDistance = 2; // world units ahead: what orbiting turns around
    this.scene = null;
    this.style = { mode: "color", degree: 3, background: [0, 0, 0], empty: "#000000" };
    this.frame = null;
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
    this.context = this.canvas.getContext("2d", { alpha: false });
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
      if (!lost) this.redraw();
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
    this.renderer.dispose();
    this.scene = null;
    for (const done of this.waiting.splice(0)) done();
    this.canvas.remove();
    this.above.remove();
  }

  get aspect() {
    return this.frame ? this.frame.width / this.frame.height : this.width / this.height;
  }

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
    this.renderer.setOrder(new Uint32Array(0), [1, 10]);
    this.shown = 0;
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

  /** Draw with the next animation frame. */
  redraw() {
    this.dirty = true;
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
    if (this.dirty && !this.gpu.lost) this.#draw(now);
  };

  #draw(now) {
    this.dirty = false;
    const camera = this.#camera();
    this.#sort(camera);
    const scale = this.resolution.scale;
    const width = Math.max(1, Math.round(this.canvas.width * scale));
    const height = Math.max(1, Math.round(this.canvas.height * scale));
    const started = performance.now();
    if (this.renderer.order.length) this.#drawScene(camera, width, height);
    else {
      this.context.fillStyle = this.style.empty; // no need to trouble the graphics card
      this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    }
    this.resolution.drawn(now, performance.now() - started);
    clearTimeout(this.refining);
    if (this.resolution.due !== null) this.refining = setTimeout(() => this.redraw(), this.resolution.due);
    this.#drawAbove();
    this.onFrame();
    const settled = !this.sorting && this.#sorted(camera) && !this.dirty && scale === 1 && !this.steps.size;
    if (settled && (!this.scene || this.scene.error || this.scene.count >= (this.scene.capacity ?? Infinity))) {
      for (const done of this.waiting.splice(0)) done();
    }
  }

  #drawScene(camera, width, height) {
    this.renderer.draw(this.scene, {
      ...this.style, ...this.#clip, width, height,
      position: this.pose.position,
      rotation: camera.rotation,
      focal: focalOf(this.pose, width, height, this.frame && this.aspect),
    });
    const { canvas } = this.gpu;
    this.context.drawImage(
      canvas, 0, canvas.height - height, width, height, 0, 0, this.canvas.width, this.canvas.height,
    );
  }

  #camera() {
    const focal = focalOf(this.pose, this.width, this.height, this.frame && this.aspect);
    return {
      position: this.pose.position,
      rotation: rotationRows(this.pose),
      tangentX: (SEEN_MARGIN * this.width) / 2 / focal,
      tangentY: (SEEN_MARGIN * this.height) / 2 / focal,
      ...this.#clip,
    };
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
    this.sorting = false;
    if (this.disposed) return;
    if (scene === this.scene) {
      this.spare = this.renderer.order.length ? this.renderer.order.buffer : undefined;
      this.renderer.setOrder(answer.order, answer.depths);
      this.shown = answer.order.length;
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
