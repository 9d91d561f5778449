/**
 * Brings a scene onto a viewer's canvas without holding up the page: what the graphics card needs long for is given to
 * it in pieces, coarse and within a time limit while the camera moves, and in full as soon as it rests.
 */
import { SplatRenderer } from "./renderer.mjs";
import { Resolution } from "./resolution.mjs";

const QUICK = 24; // milliseconds: pictures expected in less are drawn at once
const PIECE = 40; // milliseconds that a piece should take
const COARSE = 150; // milliseconds a picture may take while the camera moves; then what there is is shown
const SLOW = 1000; // milliseconds after which it is said

export class Painter {
  /**
   * @param {import("./gpu.mjs").Gpu} gpu
   * @param {HTMLCanvasElement} canvas of the viewer
   * @param {boolean} adaptive coarser while the camera moves
   * @param {{onShown: () => void, onSlow: (seconds: number, share: number) => void}} listener `onShown` after every
   *   picture; `onSlow` while one takes over a second: how long, and the share that is done
   */
  constructor(gpu, canvas, adaptive, listener) {
    Object.assign(this, { gpu, canvas, listener });
    this.context = canvas.getContext("2d", { alpha: false });
    this.renderer = new SplatRenderer(gpu);
    this.resolution = new Resolution(adaptive);
    this.frame = null; // the picture in work, if it needs more than one piece
    this.complete = false; // whether the last picture has every Gaussian and every pixel
    this.empty = true; // nothing of this scene has been shown
  }

  dispose() {
    this.cancel();
    this.renderer.dispose();
  }

  /** Gives up the picture in work. @returns {?number} the time since when somebody waits for it */
  cancel() {
    const since = this.frame?.since ?? null;
    this.frame?.over();
    this.frame = null;
    return since;
  }

  /** Resolves when no picture is in work that is to be finished. */
  async free() {
    while (this.committed) await this.frame.ended;
  }

  /** Whether the picture in work is to be finished before another one: it is a coarse one, and soon done. */
  get committed() {
    return this.frame !== null && (this.frame.coarse || !this.resolution.adaptive);
  }

  clear(color) {
    this.cancel();
    this.context.fillStyle = color;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.complete = this.empty = true;
  }

  /**
   * Draws, now or in pieces; `listener.onShown` follows in any case, unless it is cancelled.
   *
   * @param {import("./scene.mjs").Scene} scene
   * @param {(width: number, height: number) => object} viewOf what SplatRenderer.start takes, for a size in pixels
   * @param {number} since when the picture was first wanted, by performance.now()
   */
  paint(scene, viewOf, since) {
    this.cancel();
    const { width, height } = this.canvas;
    const { renderer, gpu, resolution } = this;
    const expected = renderer.work(viewOf(width, height)) / gpu.speed;
    const coarse = resolution.adaptive && (resolution.moving || this.empty);
    const scale = resolution.scale(expected, coarse);
    const size = [width, height].map((pixels) => Math.max(1, Math.round(pixels * scale)));
    const view = viewOf(...size);
    const work = renderer.work(view);
    renderer.start(scene, view);
    if (work / gpu.speed <= QUICK) {
      this.#quick(work, scale, since);
    } else {
      this.frame = { scale, coarse, since, began: performance.now() };
      this.frame.ended = new Promise((resolve) => (this.frame.over = resolve));
      this.#inPieces(this.frame);
    }
  }

  async #quick(work, scale, since) {
    const began = performance.now();
    this.renderer.piece(Infinity);
    this.#show();
    this.complete = scale === 1;
    await this.gpu.finished();
    const now = performance.now();
    this.gpu.learn(work, now - began);
    this.resolution.drawn(now - since, now - began, scale);
    this.listener.onShown();
  }

  async #inPieces(frame) {
    const { gpu, renderer } = this;
    let said = frame.began;
    for (let done = false; !done; ) {
      const began = performance.now();
      const work = renderer.piece(gpu.speed * PIECE);
      done = renderer.done;
      await gpu.finished();
      if (frame !== this.frame) return;
      if (gpu.lost) return void this.cancel(); // the stage draws again when it is back
      const now = performance.now();
      gpu.learn(work, now - began);
      if (frame.coarse && now - frame.began > COARSE) break;
      if (now - said > SLOW && !done) {
        said = now;
        this.listener.onSlow((now - frame.since) / 1000, renderer.share);
      }
    }
    this.cancel();
    this.complete = frame.scale === 1 && renderer.done;
    this.#show();
    const now = performance.now();
    this.resolution.drawn(now - frame.since, now - frame.began, this.complete ? 1 : Math.min(frame.scale, 0.99));
    this.listener.onShown();
  }

  #show() {
    const { width, height } = this.renderer.finish();
    const { canvas } = this.gpu;
    this.empty = false;
    this.context.drawImage(
      canvas, 0, canvas.height - height, width, height, 0, 0, this.canvas.width, this.canvas.height,
    );
  }
}
