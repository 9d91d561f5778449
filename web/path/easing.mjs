/** Easing: how progress along a path follows time, both from 0 to 1. */
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
