/** Camera paths through key poses: a smooth curve for the position, slerp for the rotation. Twin of the core's. */
import {
  fovOfFocal, focalOfFov, fromMatrix, rotationAngle, slerp, toMatrix, distance, interpolateTable, length, subtract,
} from "./math3d.mjs";

const TABLE = 256; // samples per segment when the length of the path is measured

/**
 * @param {{position: number[], quaternion: number[], fov: number, time: number?}[]} keys at least one; fov in vertical
 *   degrees, time in seconds
 * @param {{views: number, spline?: string, timing?: string, easing?: string}} options spline "catmull_rom" or
 *   "linear"; timing "constant_speed", "even" or "times"
 * @returns {{position: number[], quaternion: number[], fov: number}[]} the first and last stand at the end keys
 * @throws {Error} no keys, or times that are missing or do not increase
 */
export function interpolate(keys, { views, spline = "catmull_rom", timing = "constant_speed", easing = "linear" }) {
  const path = new KeyframeCurve(keys, spline);
  const progress = linspace(0, 1, views).map((time) => ease(easing, time));
  return Array.from(path.parameters(progress, timing), (parameter) => path.at(parameter));
}

/** Key poses as a continuous curve over the parameter 0 .. keys - 1 (key i is at parameter i). */
export class KeyframeCurve {
  constructor(keys, spline) {
    if (keys.length === 0) throw new Error("At least one keyframe is needed.");
    this.positions = keys.map((key) => key.position);
    this.quaternions = keys.map((key) => fromMatrix(toMatrix(key.quaternion)));
    this.focals = keys.map((key) => focalOfFov(key.fov));
    this.times = keys.map((key) => key.time);
    this.segments = keys.length - 1;
    [this.starts, this.ends] = tangents(this.positions, spline);
  }

  at(parameter) {
    if (this.segments === 0) {
      return { position: this.positions[0], quaternion: this.quaternions[0], fov: fovOfFocal(this.focals[0]) };
    }
    const i = Math.min(Math.max(Math.trunc(parameter), 0), this.segments - 1);
    const t = parameter - i;
    return {
      position: this.positionAt(i, t),
      quaternion: slerp(this.quaternions[i], this.quaternions[i + 1], t),
      fov: fovOfFocal(this.focals[i] + t * (this.focals[i + 1] - this.focals[i])),
    };
  }

  /** Cubic Hermite curve: the place at fraction t of segment i. */
  positionAt(i, t) {
    const [start, end] = [this.positions[i], this.positions[i + 1]];
    const [leave, arrive] = [this.starts[i], this.ends[i]];
    const along = t * t * (3 - 2 * t);
    const out = t * (1 - t) ** 2;
    const back = t * t * (1 - t);
    return [0, 1, 2].map((k) => start[k] + along * (end[k] - start[k]) + out * leave[k] - back * arrive[k]);
  }

  /** Parameters at ascending progress in [0, 1]. */
  parameters(progress, timing) {
    if (this.segments === 0) return progress;
    if (timing === "even") return progress.map((value) => value * this.segments);
    if (timing === "times") return this.#byTimes(progress);
    return this.#byLength(progress);
  }

  #byTimes(progress) {
    const { times } = this;
    if (!times.every(Number.isFinite)) throw new Error("Every keyframe needs a time.");
    for (let i = 1; i < times.length; i++) {
      if (!(times[i] > times[i - 1])) throw new Error(`Keyframe ${i + 1} must come later than keyframe ${i}.`);
    }
    const wanted = progress.map((value) => times[0] + value * (times[this.segments] - times[0]));
    return interpolateTable(wanted, times, (i) => i);
  }

  /** Where a traveler of constant speed arrives; turning on the spot counts as length too. */
  #byLength(progress) {
    const moved = new Float64Array(this.segments * TABLE);
    const lengths = new Float64Array(this.segments);
    for (let i = 0; i < this.segments; i++) {
      let before = this.positionAt(i, 0);
      for (let k = 0; k < TABLE; k++) {
        const here = this.positionAt(i, (k + 1) / TABLE);
        moved[i * TABLE + k] = distance(before, here);
        lengths[i] += moved[i * TABLE + k];
        before = here;
      }
    }
    const traveling = lengths.filter((value) => value > 0);
    const perRadian = traveling.length ? traveling.reduce((a, b) => a + b) / traveling.length : 1;
    const total = new Float64Array(moved.length + 1);
    for (let i = 0; i < this.segments; i++) {
      const turned = (rotationAngle(this.quaternions[i], this.quaternions[i + 1]) / TABLE) * perRadian;
      for (let k = i * TABLE; k < (i + 1) * TABLE; k++) total[k + 1] = total[k] + Math.max(moved[k], turned);
    }
    const whole = total[moved.length];
    if (!(whole > 0)) return progress.map((value) => value * this.segments); // all keys are one pose
    return interpolateTable(progress.map((value) => value * whole), total, (k) => k / TABLE);
  }
}

/**
 * Hermite tangents at the start and at the end of each segment, per unit of the segment's own parameter: centripetal
 * Catmull-Rom. Beyond the ends, and where the camera pauses on a repeated position, the neighbor is mirrored.
 */
function tangents(positions, spline) {
  const steps = positions.slice(1).map((position, i) => subtract(position, positions[i]));
  const [starts, ends] = [[...steps], [...steps]];
  if (spline === "linear") return [starts, ends];
  const knots = steps.map((step) => Math.sqrt(length(step)));
  const meet = (i, j, segment) =>
    [0, 1, 2].map((k) => {
      const across = (steps[i][k] + steps[j][k]) / (knots[i] + knots[j]);
      return knots[segment] * (steps[i][k] / knots[i] - across + steps[j][k] / knots[j]);
    });
  for (let i = 0; i < steps.length; i++) {
    if (knots[i] === 0) continue;
    if (i > 0 && knots[i - 1] > 0) starts[i] = meet(i - 1, i, i);
    if (i + 1 < steps.length && knots[i + 1] > 0) ends[i] = meet(i, i + 1, i);
  }
  return [starts, ends];
}

/** How progress along a path follows time, both from 0 to 1. */
export const EASINGS = Object.freeze({
  linear: (t) => t,
  ease_in: (t) => t * t,
  ease_out: (t) => t * (2 - t),
  ease_in_out: (t) => t * t * (3 - 2 * t),
});

/** @throws {Error} unknown name */
export function ease(name, time) {
  if (!Object.hasOwn(EASINGS, name)) throw new Error(`Unknown easing "${name}".`);
  return EASINGS[name](time);
}

/** `count` numbers evenly spaced from `start` to `end`, both included; a single one is `start`. */
export function linspace(start, end, count) {
  const out = new Float64Array(count);
  if (count === 1) return out.fill(start);
  const step = (end - start) / (count - 1);
  // From both ends, so that the last one is exact.
  for (let i = 0; i < count; i++) out[i] = i < Math.floor(count / 2) ? start + step * i : end - step * (count - 1 - i);
  return out;
}
