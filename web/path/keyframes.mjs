/** Camera paths through key poses: a smooth curve for the position, slerp for the rotation. Twin of the core's. */
import {
  fovOfFocal, focalOfFov, fromMatrix, rotationAngle, slerp, toMatrix, distance, interpolateTable, length, subtract,
} from "./math3d.mjs";

const TABLE = 256; // samples per segment when the length of the path is measured
const HOLD = 1e-6; // two keys whose poses differ by less, relative to the average move (or in radians), are a hold
const MAX_TANGENT = 3; // times the shorter of the two moves that meet at a key; more can overshoot

/**
 * @param {{position: number[], quaternion: number[], fov: number, time: number?}[]} keys at least one; fov in vertical
 *   degrees, time in seconds
 * @param {{views: number, spline?: string, timing?: string, easing?: string, loop?: boolean}} options spline
 *   "catmull_rom" or "linear"; timing "constant_speed", "even" or "times"; loop: the last key stands where the first
 *   does, and the curve passes it as it passes every other key
 * @returns {{position: number[], quaternion: number[], fov: number}[]} the first and last stand at the end keys
 * @throws {Error} no keys, or times that are missing or do not increase
 */
export function interpolate(keys, { views, spline = "catmull_rom", timing = "constant_speed", easing = "linear", loop = false }) {
  const path = new KeyframeCurve(keys, spline, loop);
  const progress = linspace(0, 1, views).map((time) => ease(easing, time));
  return Array.from(path.parameters(progress, timing), (parameter) => path.at(parameter));
}

/** Key poses as a continuous curve over the parameter 0 .. keys - 1 (key i is at parameter i). */
export class KeyframeCurve {
  constructor(keys, spline, loop = false) {
    if (keys.length === 0) throw new Error("At least one keyframe is needed.");
    this.positions = keys.map((key) => key.position);
    this.quaternions = keys.map((key) => fromMatrix(toMatrix(key.quaternion)));
    this.focals = keys.map((key) => focalOfFov(key.fov));
    this.times = keys.map((key) => key.time);
    this.segments = keys.length - 1;
    [this.starts, this.ends] = tangents(this.positions, spline, loop);
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
    const angles = Array.from(lengths, (_, i) => rotationAngle(this.quaternions[i], this.quaternions[i + 1]));
    const mean = lengths.reduce((a, b) => a + b, 0) / this.segments;
    const held = Array.from(lengths, (value, i) => value <= HOLD * mean && angles[i] <= HOLD);
    if (held.every(Boolean)) return progress.map((value) => value * this.segments); // all keys are one pose
    const traveling = lengths.filter((value, i) => value > 0 && !held[i]);
    const perRadian = traveling.length ? traveling.reduce((a, b) => a + b) / traveling.length : 1;
    const total = new Float64Array(moved.length + 1);
    for (let i = 0; i < this.segments; i++) {
      const turned = (angles[i] / TABLE) * perRadian;
      lengths[i] = 0;
      for (let k = i * TABLE; k < (i + 1) * TABLE; k++) {
        moved[k] = Math.max(moved[k], turned);
        lengths[i] += moved[k];
      }
    }
    const holds = this.#holdLengths(held, lengths);
    for (let i = 0; i < this.segments; i++) {
      if (held[i]) moved.fill(holds[i] / TABLE, i * TABLE, (i + 1) * TABLE);
    }
    for (let k = 0; k < moved.length; k++) total[k + 1] = total[k] + moved[k];
    const whole = total[moved.length];
    return interpolateTable(progress.map((value) => value * whole), total, (k) => k / TABLE);
  }

  /**
   * Lengths that stand for the time of the holds: by the keys' times, which give holds their share of the whole time;
   * without them, the average of the segments in which something moves.
   */
  #holdLengths(held, lengths) {
    const { times } = this;
    const moving = lengths.reduce((sum, value, i) => sum + (held[i] ? 0 : value), 0);
    const spans = held.map((_, i) => times[i + 1] - times[i]);
    if (times.every(Number.isFinite) && spans.every((span) => span > 0)) {
      const travel = spans.reduce((sum, span, i) => sum + (held[i] ? 0 : span), 0);
      return spans.map((span) => (moving * span) / travel);
    }
    return held.map(() => moving / held.filter((value) => !value).length);
  }
}

/**
 * Hermite tangents at the start and at the end of each segment, per unit of the segment's own parameter: centripetal
 * Catmull-Rom, with the velocity limited beside keys close together. Beyond the ends, and where the camera pauses on a
 * repeated position, the neighbor is mirrored. In a loop the last segment and the first are neighbors.
 */
function tangents(positions, spline, loop) {
  const steps = positions.slice(1).map((position, i) => subtract(position, positions[i]));
  const [starts, ends] = [[...steps], [...steps]];
  if (spline === "linear") return [starts, ends];
  const knots = steps.map((step) => Math.sqrt(length(step)));
  const velocity = (i, j) => {
    const mixed = [0, 1, 2].map((k) => {
      const across = (steps[i][k] + steps[j][k]) / (knots[i] + knots[j]);
      return steps[i][k] / knots[i] - across + steps[j][k] / knots[j];
    });
    const limit = (MAX_TANGENT * Math.min(knots[i], knots[j]) ** 2) / Math.max(knots[i], knots[j]);
    const speed = length(mixed);
    return speed > limit ? mixed.map((value) => (value * limit) / speed) : mixed;
  };
  for (let i = 0; i < steps.length; i++) {
    const before = i > 0 ? i - 1 : steps.length - 1;
    if ((i === 0 && !loop) || knots[i] === 0 || knots[before] === 0) continue;
    const through = velocity(before, i);
    starts[i] = through.map((value) => value * knots[i]);
    ends[before] = through.map((value) => value * knots[before]);
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
