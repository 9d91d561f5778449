/** The path a Camera Path node will give, from its widget values: what the browser draws. */
import { keysOf, parseDocument } from "./document.mjs";
import { interpolate } from "./keyframes.mjs";
import { origin } from "./pose.mjs";
import { makePath, parseMoves } from "./presets.mjs";

/** The moves of a preset path: the node's preset and amount, then those written in `moves`. */
export function movesOf({ preset, amount, moves = "" }) {
  const more = moves.trim();
  return [{ name: preset, amount }, ...(more ? parseMoves(more.replace(/^\+/, "")) : [])];
}

/**
 * @param {object} values the node's widget values by name
 * @returns {{position: number[], quaternion: number[], fov: number}[]} one camera per frame, fov in vertical degrees
 * @throws {Error} a value the node would refuse too
 */
export function samplePath(values) {
  if (values.source === "keyframes") return sampleDocument(parseDocument(values.keyframes), values);
  const options = { views: values.frames, easing: values.easing, focus: values.focus_distance, turns: values.turns };
  return makePath(movesOf(values), options).map((pose) => ({ ...pose, fov: values.field_of_view }));
}

/** Cameras of a document; without keyframes a camera that stands still at the origin. */
export function sampleDocument(document, { frames, easing, field_of_view }) {
  const keys = keysOf(document, field_of_view);
  if (keys.length === 0) keys.push({ ...origin(), fov: field_of_view, time: null });
  const { spline, timing } = document;
  return interpolate(keys, { views: frames, spline, timing, easing });
}
