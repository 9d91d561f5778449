/**
 * Vectors, rotations and camera poses as plain arrays and objects.
 *
 * Vectors have three numbers; rotations are unit quaternions [w, x, y, z] or 3x3 matrices as nine numbers, row by row.
 * Camera poses are {position: [x, y, z], quaternion: [w, x, y, z]}, camera-to-world, OpenCV axes (x right, y down,
 * z forward) for camera and world. Lengths are world units, fields of view vertical degrees.
 */

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

export const UP = Object.freeze([0, -1, 0]); // the world's y points down

export const origin = () => ({ position: [0, 0, 0], quaternion: [...IDENTITY] });

/** The pose `b`, given in the axes of `a`, in the axes that `a` is given in. */
export const compose = (a, b) => ({
  position: add(a.position, rotate(a.quaternion, b.position)),
  quaternion: multiply(a.quaternion, b.quaternion),
});

export function invert(pose) {
  const quaternion = conjugate(pose.quaternion);
  return { position: scale(rotate(quaternion, pose.position), -1), quaternion };
}

export const right = (pose) => rotate(pose.quaternion, [1, 0, 0]);
export const down = (pose) => rotate(pose.quaternion, [0, 1, 0]);
export const forward = (pose) => rotate(pose.quaternion, [0, 0, 1]);

/**
 * A camera at `position` that looks at `target` with the picture's top towards `up`. Where the line of sight is
 * parallel to it, the top is turned towards world z (or x, if that is parallel too).
 *
 * @throws {Error} position and target are one point
 */
export function lookAt(position, target, up = UP) {
  const away = distance(position, target);
  if (!(away > 0)) throw new Error("A camera stands exactly on its target; move one of the two.");
  const ahead = scale(subtract(target, position), 1 / away);
  let across = [0, 0, 0];
  for (const candidate of [up, [0, 0, 1], [1, 0, 0]]) {
    if (length(across) > 1e-6) break;
    across = cross(ahead, candidate);
  }
  across = scale(across, 1 / length(across));
  const below = cross(ahead, across);
  const quaternion = fromMatrix([
    across[0], below[0], ahead[0],
    across[1], below[1], ahead[1],
    across[2], below[2], ahead[2],
  ]);
  return { position: [...position], quaternion };
}

const RADIANS = Math.PI / 180;

/** Focal length in picture heights. */
export const focalOfFov = (degrees) => 0.5 / Math.tan((degrees * RADIANS) / 2);
export const fovOfFocal = (focal) => (2 * Math.atan(0.5 / focal)) / RADIANS;
