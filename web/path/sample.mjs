/** The path a Camera Path node will give, from its widget values: what the browser draws. */
import { parseDocument, sampleKeys } from "./document.mjs";
import { makePath, parseMoves } from "./presets.mjs";

/** The moves of a preset path: the node's preset and amount, then those written in `moves`. */
export function movesOf({ preset, amount, moves = "" }) {
  const more = moves.trim().replace(/^\+/, "").trim();
  return [{ name: preset, amount }, ...(more ? parseMoves(more) : [])];
}

/**
 * @param {object} values the node's widget values by name
 * @returns {{position: number[], quaternion: number[], fov: number}[]} one camera per frame, fov in vertical degrees
 * @throws {Error} a value the node would refuse too
 */
export function samplePath(values) {
  const { frames: views, easing, field_of_view: fov } = values;
  if (values.source === "keyframes") return sampleKeys(parseDocument(values.keyframes), { views, fov, easing });
  const options = { views, easing, focus: values.focus_distance, turns: values.turns };
  return makePath(movesOf(values), options).map((pose) => ({ ...pose, fov }));
}
