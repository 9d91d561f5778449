/** Vectors of three numbers as plain arrays. */

export const add = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
export const subtract = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
export const scale = (a, factor) => [a[0] * factor, a[1] * factor, a[2] * factor];
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const length = (a) => Math.hypot(a[0], a[1], a[2]);
export const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);

export const cross = (a, b) => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];

/** A vector of length one; the zero vector stays zero. */
export function normalize(a) {
  const size = length(a);
  return size > 0 ? scale(a, 1 / size) : [0, 0, 0];
}

/** The point `fraction` of the way from `a` to `b`. */
export const mix = (a, b, fraction) => [
  a[0] + (b[0] - a[0]) * fraction,
  a[1] + (b[1] - a[1]) * fraction,
  a[2] + (b[2] - a[2]) * fraction,
];

/**
 * Piecewise linear interpolation as numpy.interp does it, for ascending `wanted`.
 *
 * @param {ArrayLike<number>} wanted where to read, ascending
 * @param {ArrayLike<number>} at ascending, may repeat; at a repeated place the last value counts
 * @param {(index: number) => number} value of the table at an index
 * @returns {Float64Array}
 */
export function interpolateTable(wanted, at, value) {
  const out = new Float64Array(wanted.length);
  const last = at.length - 1;
  let i = 0;
  for (let k = 0; k < wanted.length; k++) {
    const x = wanted[k];
    if (x < at[0]) {
      out[k] = value(0);
      continue;
    }
    while (i < last && at[i + 1] <= x) i++;
    if (i === last) out[k] = value(last);
    else out[k] = value(i) + ((value(i + 1) - value(i)) / (at[i + 1] - at[i])) * (x - at[i]);
  }
  return out;
}
