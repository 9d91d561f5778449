import { SceneIndex } from "./order.mjs";

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
  const { order, depths } = index ? index.see(message.camera, reuse) : { order: new Uint32Array(0), depths: [1, 1] };
  const known = index ? index.count : 0;
  return { view: message.view, request: message.request, order, depths, known, time: performance.now() - started };
}
