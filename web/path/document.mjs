/**
 * The camera path document: the JSON text kept in a Camera Path node's `keyframes` widget. Twin of the core's
 * trajectories/document.py; what one refuses, the other refuses.
 *
 * {"version": 1, "spline": "catmull_rom"|"linear", "timing": "constant_speed"|"even"|"times", "loop": false,
 *  "keyframes": [{"position": [x, y, z], "quaternion": [w, x, y, z], "vertical_fov_degrees": 60 or null,
 *                 "time": seconds or null}, ...]}
 */

import { interpolate } from "./keyframes.mjs";
import { makePath, parseMoves } from "./presets.mjs";
import { origin, toMatrix } from "./math3d.mjs";

export const SPLINES = Object.freeze(["catmull_rom", "linear"]);
export const TIMINGS = Object.freeze(["constant_speed", "even", "times"]);
export const MAX_TEXT = 4_000_000;
export const MAX_KEYFRAMES = 10_000;
export const MAX_NUMBER = 1e9; // of positions (world units) and times (seconds)
export const SAME_VIEW = 1e-9; // numbers of two keys that differ by less are the same
export const FOV_LIMITS = Object.freeze([0.01, 179.9]); // degrees

export const emptyDocument = () => ({ spline: "catmull_rom", timing: "constant_speed", loop: false, keyframes: [] });

/**
 * The document of a text; an empty text is an empty document.
 *
 * @param {string} text from a workflow file, so from anybody
 * @returns {{spline: string, timing: string, loop: boolean, keyframes: object[]}}
 * @throws {Error} in one sentence, what is wrong and where
 */
export function parseDocument(text) {
  if (typeof text !== "string" || text.trim() === "") return emptyDocument();
  if (text.length > MAX_TEXT) throw new Error(`The camera path is longer than ${MAX_TEXT} characters.`);
  let data;
  try {
    data = JSON.parse(text);
  } catch {
    throw new Error("The camera path is not valid JSON.");
  }
  checkKeys(data, "The camera path", ["version", "spline", "timing", "loop", "keyframes"]);
  if (data.version !== 1) throw new Error(`The camera path has version ${short(data.version)}; this pack reads version 1.`);
  const keyframes = data.keyframes ?? [];
  if (!Array.isArray(keyframes)) throw new Error("keyframes must be a list.");
  if (keyframes.length > MAX_KEYFRAMES) throw new Error(`The camera path has more than ${MAX_KEYFRAMES} keyframes.`);
  const loop = data.loop ?? false;
  if (typeof loop !== "boolean") throw new Error("loop must be true or false.");
  return {
    spline: choice("spline", data.spline ?? "catmull_rom", SPLINES),
    timing: choice("timing", data.timing ?? "constant_speed", TIMINGS),
    loop,
    keyframes: keyframes.map(parseKeyframe),
  };
}

/** The text of a document; of an empty one without choices of its own, the empty text. */
export function writeDocument(document) {
  const { spline, timing, loop, keyframes } = document;
  const empty = emptyDocument();
  if (keyframes.length === 0 && spline === empty.spline && timing === empty.timing && !loop) return "";
  return JSON.stringify({ version: 1, spline, timing, loop, keyframes });
}

/**
 * Keys as `interpolate` wants them: field of view filled in, and the first repeated at the end of a loop whose
 * last key does not stand there already.
 *
 * @param {number} fieldOfView vertical degrees, for keyframes without their own
 */
export function keysOf(document, fieldOfView) {
  const keys = document.keyframes.map((key) => ({
    position: key.position,
    quaternion: key.quaternion,
    fov: key.vertical_fov_degrees ?? fieldOfView,
    time: key.time,
  }));
  if (isLoop(document) && !sameView(keys[0], keys[keys.length - 1])) {
    const [first, last] = [keys[0], keys[keys.length - 1]];
    const known = keys.every((key) => key.time !== null);
    const time = known ? last.time + (last.time - first.time) / (keys.length - 1) : null;
    keys.push({ ...first, time });
  }
  return keys;
}

/** Whether the path of a document ends where it began. */
export const isLoop = (document) => document.loop && document.keyframes.length > 1;

function sameView(a, b) {
  const numbers = (key) => [...key.position, ...toMatrix(key.quaternion), key.fov];
  const [first, last] = [numbers(a), numbers(b)];
  return first.every((value, i) => Math.abs(value - last[i]) <= SAME_VIEW);
}

/**
 * Cameras along a document; without keyframes a camera that stands still at the origin.
 *
 * @param {{views: number, fov: number, easing?: string}} options fov for keyframes without their own, vertical degrees
 */
export function sampleKeys(document, { views, fov, easing = "linear" }) {
  const keys = keysOf(document, fov);
  if (keys.length === 0) keys.push({ ...origin(), fov, time: null });
  return interpolate(keys, { views, spline: document.spline, timing: document.timing, easing, loop: isLoop(document) });
}

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

function parseKeyframe(data, i) {
  checkKeys(data, `Keyframe ${i + 1}`, ["position", "quaternion", "vertical_fov_degrees", "time"]);
  const position = numbers(data.position, 3, `position of keyframe ${i + 1}`);
  const quaternion = numbers(data.quaternion, 4, `quaternion of keyframe ${i + 1}`);
  if (Math.hypot(...quaternion) < 1e-8) throw new Error(`The quaternion of keyframe ${i + 1} has length zero.`);
  const fov = data.vertical_fov_degrees ?? null;
  if (fov !== null && !(isNumber(fov) && fov >= FOV_LIMITS[0] && fov <= FOV_LIMITS[1])) {
    throw new Error(`The field of view of keyframe ${i + 1} must be ${FOV_LIMITS[0]} to ${FOV_LIMITS[1]} degrees.`);
  }
  const time = data.time ?? null;
  if (time !== null && !isNumber(time)) throw new Error(`The time of keyframe ${i + 1} must be a number of seconds.`);
  return { position, quaternion, vertical_fov_degrees: fov, time };
}

const isNumber = (value) => typeof value === "number" && Math.abs(value) <= MAX_NUMBER;

/** A misspelt key would otherwise be left out in silence. */
function checkKeys(value, what, known) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error(`${what} must be a JSON object.`);
  }
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) throw new Error(`${what} has the unknown key ${short(key)}.`);
  }
}

function numbers(value, count, what) {
  if (!Array.isArray(value) || value.length !== count || !value.every(isNumber)) {
    throw new Error(`The ${what} must be a list of ${count} numbers of usable size.`);
  }
  return [...value];
}

function choice(what, value, allowed) {
  if (!allowed.includes(value)) throw new Error(`${what} must be ${allowed.join(" or ")}, not ${short(value)}.`);
  return value;
}

const short = (value) => String(JSON.stringify(value)).slice(0, 40);
