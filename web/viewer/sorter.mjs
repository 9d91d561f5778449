/** The page's one sort worker, shared by all viewers, ended when the last of them goes. */
import { AREAS, SceneIndex } from "./order.mjs";

let shared = null;

/** @returns {Sorter} to be given back by `release()` */
export function acquireSorter() {
  shared ??= new Sorter(() => (shared = null));
  shared.users++;
  return shared;
}

class Sorter {
  constructor(onUnused) {
    this.users = 0;
    this.onUnused = onUnused;
    this.nextId = 1;
    this.waiting = new Map(); // view -> {resolve, message}
    this.history = []; // what a replacement for a worker that fails must be told
    this.worker = null;
    this.scenes = new Map(); // used without a worker only
    try {
      this.worker = new Worker(new URL("./sort.worker.mjs", import.meta.url), { type: "module" });
      this.worker.onmessage = ({ data }) => this.#answer(data);
      this.worker.onerror = (event) => this.#withoutWorker(event);
    } catch {
      this.worker = null; // a page that forbids workers sorts in its own thread
    }
  }

  release() {
    if (--this.users > 0) return;
    this.worker?.terminate();
    this.onUnused();
  }

  newId() {
    return this.nextId++;
  }

  addScene(scene, capacity) {
    this.#tell({ type: "scene", scene, capacity });
  }

  /** The chunk's memory is copied, not taken away. */
  addChunk(scene, { start, count, params, geometry, look }) {
    this.#tell({ type: "chunk", scene, chunk: { start, count, params, geometry, look } });
  }

  dropScene(scene) {
    this.history = this.history.filter((message) => message.scene !== scene);
    this.#post({ type: "drop", scene });
  }

  /**
   * Sort for one view; a view asks again only after its answer.
   *
   * @returns {Promise<object>} what SceneIndex.see gives, and known: Gaussians of the scene that took part; time in
   *   milliseconds
   */
  see(view, scene, camera, reuse) {
    return new Promise((resolve) => {
      const message = { type: "see", view, scene, camera };
      this.waiting.set(view, { resolve, message });
      this.#post({ ...message, reuse }, reuse ? [reuse] : []);
    });
  }

  #tell(message) {
    this.history.push(message);
    this.#post(message);
  }

  #post(message, transfer = []) {
    if (this.worker) this.worker.postMessage(message, transfer);
    else {
      const answer = handleSortMessage(this.scenes, message);
      if (answer) setTimeout(() => this.#answer(answer));
    }
  }

  #answer(answer) {
    const { resolve } = this.waiting.get(answer.view) ?? {};
    this.waiting.delete(answer.view);
    resolve?.(answer);
  }

  #withoutWorker(event) {
    event.preventDefault?.();
    this.worker?.terminate();
    this.worker = null;
    for (const message of this.history) this.#post(message);
    for (const { message } of this.waiting.values()) this.#post(message);
  }
}

/**
 * What the sort worker does, apart from being a worker.
 *
 * @param {Map<number, SceneIndex>} scenes kept by the caller
 * @param {object} message
 * @returns {object | null} the answer to "see"
 */
export function handleSortMessage(scenes, message) {
  const { type, scene } = message;
  if (type === "scene") scenes.set(scene, new SceneIndex(message.capacity));
  if (type === "chunk") scenes.get(scene)?.add(message.chunk);
  if (type === "drop") scenes.delete(scene);
  if (type !== "see") return null;
  const started = performance.now();
  const reuse = message.reuse ? new Uint32Array(message.reuse) : undefined;
  const index = scenes.get(scene);
  const nothing = { order: new Uint32Array(0), depths: [1, 1], areas: new Float64Array(AREAS + 1) };
  const seen = index ? index.see(message.camera, reuse) : nothing;
  const known = index ? index.count : 0;
  return { view: message.view, ...seen, known, time: performance.now() - started };
}
