/** Camera moves by the names film crews use, and several of them one after another. Twin of the core's presets. */
import { ease, linspace } from "./keyframes.mjs";
import {
  compose, invert, lookAt, origin, rotate, aboutAxis, IDENTITY, interpolateTable, scale, subtract,
} from "./math3d.mjs";

export const MAX_VIEWS = 100_000;
const SPIRAL_TABLE = 4097;

const at = (x, y, z) => ({ position: [x, y, z], quaternion: [...IDENTITY] });
const turn = (axis, degrees) => ({ position: [0, 0, 0], quaternion: aboutAxis(axis, degrees) });

/** On a circle about the vertical axis through the focus point; angle 0 is the identity, positive is right. */
function circle(degrees, focus) {
  const quaternion = aboutAxis("y", -degrees);
  return { position: subtract([0, 0, focus], scale(rotate(quaternion, [0, 0, 1]), focus)), quaternion };
}

function spiral(progress, { amount, focus, turns }) {
  const end = 2 * Math.PI * turns;
  // Radius and angle grow together, which alone would speed the camera up; a table of the length of the curve turns
  // progress into angle so that views are evenly spaced.
  const table = linspace(0, end, SPIRAL_TABLE);
  const lengths = table.map((angle) => (angle * Math.sqrt(1 + angle * angle) + Math.asinh(angle)) / 2);
  const wanted = progress.map((value) => value * lengths[SPIRAL_TABLE - 1]);
  const angles = interpolateTable(wanted, lengths, (i) => table[i]);
  return Array.from(angles, (angle) => {
    const radius = (amount * angle) / end;
    return lookAt([radius * Math.cos(angle), -radius * Math.sin(angle), 0], [0, 0, focus]);
  });
}

const each = (pose) => (progress, move) => Array.from(progress, (p) => pose(p, move));

const PRESET_LIST = [
  ["orbit", 30, "degrees", each((p, m) => circle(p * m.amount, m.focus))],
  ["arc", 30, "degrees", each((p, m) => circle(-m.amount / 2 + p * m.amount, m.focus))],
  ["dolly_in", 0.5, "world units", each((p, m) => at(0, 0, p * m.amount))],
  ["dolly_out", 0.5, "world units", each((p, m) => at(0, 0, -p * m.amount))],
  ["truck", 0.5, "world units", each((p, m) => at(p * m.amount, 0, 0))],
  ["pedestal", 0.5, "world units", each((p, m) => at(0, -p * m.amount, 0))],
  ["pan", 30, "degrees", each((p, m) => turn("y", p * m.amount))],
  ["tilt", 15, "degrees", each((p, m) => turn("x", p * m.amount))],
  ["roll", 15, "degrees", each((p, m) => turn("z", p * m.amount))],
  ["spiral", 0.25, "world units", spiral],
  ["crane", 0.5, "world units", each((p, m) => lookAt([0, -p * m.amount, 0], [0, 0, m.focus]))],
  ["static", 0, "", each(() => at(0, 0, 0))],
];

/**
 * Name -> {defaultAmount, unit, poses}. `poses` takes ascending progress and {amount, focus, turns}, and gives one
 * pose for each.
 */
export const PRESETS = Object.freeze(
  Object.fromEntries(PRESET_LIST.map(([name, defaultAmount, unit, poses]) => [name, { defaultAmount, unit, poses }])),
);

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/**
 * "orbit:45+dolly_in" as [{name: "orbit", amount: 45}, {name: "dolly_in", amount: 0.5}].
 *
 * @throws {Error} an unknown preset, or an amount that is not a finite number
 */
export function parseMoves(text) {
  return text.split(/\+(?=\s*[A-Za-z_]|\s*$)/).map((part) => {
    const colon = part.indexOf(":");
    const name = (colon < 0 ? part : part.slice(0, colon)).trim().toLowerCase().replace(/[- ]/g, "_");
    if (!Object.hasOwn(PRESETS, name)) {
      throw new Error(`There is no move "${name}". Choose from: ${Object.keys(PRESETS).join(", ")}.`);
    }
    if (colon < 0) return { name, amount: PRESETS[name].defaultAmount };
    const written = part.slice(colon + 1).trim();
    if (!NUMBER.test(written)) throw new Error(`The amount of ${name} must be a number, not "${written}".`);
    return { name, amount: Number(written) };
  });
}

/**
 * Poses along one move or several played one after another, each continuing where the one before ended.
 *
 * @param {{name: string, amount: number}[]} moves they share the views evenly
 * @param {{views: number, easing?: string, focus?: number, turns?: number}} options `focus` in world units
 * @returns {{position: number[], quaternion: number[]}[]}
 * @throws {Error} a number out of range
 */
export function makePath(moves, { views, easing = "linear", focus = 1, turns = 2 }) {
  if (!(views >= 1 && views <= MAX_VIEWS)) throw new Error(`Frames must be between 1 and ${MAX_VIEWS}.`);
  if (!(Number.isFinite(focus) && focus > 0)) throw new Error("The focus distance must be above zero.");
  if (!(Number.isFinite(turns) && turns > 0)) throw new Error("The number of turns must be above zero.");
  const time = linspace(0, 1, views).map((value) => value * moves.length); // move k is time k .. k + 1
  const path = [];
  let base = origin();
  moves.forEach(({ name, amount }, k) => {
    if (!Number.isFinite(amount)) throw new Error(`The amount of ${name} must be a finite number.`);
    const { poses } = PRESETS[name];
    const move = { amount, focus, turns };
    const here = time.filter((value) => Math.min(Math.floor(value), moves.length - 1) === k);
    // Continue from the last pose, also with moves that begin elsewhere (arc).
    if (k > 0) base = compose(base, invert(poses([0], move)[0]));
    const local = poses(here.map((value) => ease(easing, value - k)), move);
    path.push(...local.map((pose) => compose(base, pose)));
    base = compose(base, poses([1], move)[0]);
  });
  return path;
}
