/** Rotations: unit quaternions [w, x, y, z] and 3x3 matrices as arrays of nine numbers, row by row. */

export const IDENTITY = Object.freeze([1, 0, 0, 0]);

export function normalizeQuaternion(q) {
  const size = Math.hypot(q[0], q[1], q[2], q[3]);
  return [q[0] / size, q[1] / size, q[2] / size, q[3] / size];
}

/** The rotation that does `b` first and `a` after it. */
export function multiply(a, b) {
  return [
    a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
    a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
    a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
    a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
  ];
}

export const conjugate = (q) => [q[0], -q[1], -q[2], -q[3]];

/** Right-handed turn about the "x", "y" or "z" axis. */
export function aboutAxis(axis, degrees) {
  const half = (degrees * Math.PI) / 360;
  const q = [Math.cos(half), 0, 0, 0];
  q[1 + "xyz".indexOf(axis)] = Math.sin(half);
  return q;
}

/** Quaternion of any length but zero as a matrix; its columns are the turned x, y and z axes. */
export function toMatrix(quaternion) {
  const [w, x, y, z] = normalizeQuaternion(quaternion);
  return [
    1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
    2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
    2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
  ];
}

/** Matrix as a unit quaternion with w >= 0, read off its largest component as the core does. */
export function fromMatrix(m) {
  const [xx, yy, zz] = [m[0], m[4], m[8]];
  const [wx, wy, wz] = [m[7] - m[5], m[2] - m[6], m[3] - m[1]];
  const [xy, xz, yz] = [m[1] + m[3], m[2] + m[6], m[5] + m[7]];
  const candidates = [
    [1 + xx + yy + zz, wx, wy, wz],
    [wx, 1 + xx - yy - zz, xy, xz],
    [wy, xy, 1 - xx + yy - zz, yz],
    [wz, xz, yz, 1 - xx - yy + zz],
  ];
  let best = 0;
  for (let i = 1; i < 4; i++) if (candidates[i][i] > candidates[best][best]) best = i;
  return upper(normalizeQuaternion(candidates[best]));
}

/** Of q and -q, which are one rotation, the one with w >= 0. */
export const upper = (q) => (q[0] < 0 ? q.map((value) => -value) : q);

/** A vector turned by a quaternion of length one. */
export function rotate(q, v) {
  const [w, x, y, z] = q;
  const tx = 2 * (y * v[2] - z * v[1]);
  const ty = 2 * (z * v[0] - x * v[2]);
  const tz = 2 * (x * v[1] - y * v[0]);
  return [
    v[0] + w * tx + y * tz - z * ty,
    v[1] + w * ty + z * tx - x * tz,
    v[2] + w * tz + x * ty - y * tx,
  ];
}

const difference = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3]);
const total = (a, b) => Math.hypot(a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]);

/** Unit quaternion `fraction` of the way from `start` to `end`, the short way round, at constant speed. */
export function slerp(start, end, fraction) {
  const together = start[0] * end[0] + start[1] * end[1] + start[2] * end[2] + start[3] * end[3];
  const goal = together < 0 ? end.map((value) => -value) : end;
  // The angle from both the sum and the difference stays exact where acos of the dot product does not.
  const angle = 2 * Math.atan2(difference(goal, start), total(goal, start));
  const sine = Math.sin(angle);
  const a = sine < 1e-9 ? 1 - fraction : Math.sin((1 - fraction) * angle) / sine;
  const b = sine < 1e-9 ? fraction : Math.sin(fraction * angle) / sine;
  return normalizeQuaternion(start.map((value, i) => a * value + b * goal[i]));
}

/** Angle between two rotations, in radians from 0 to pi. */
export function rotationAngle(a, b) {
  const [near, far] = [difference(a, b), total(a, b)];
  return 4 * Math.atan2(Math.min(near, far), Math.max(near, far));
}
