/** The viewer's camera: poses, projection to the picture, and ways to move. Axes as in CONVENTIONS.md (OpenCV). */
import {
  add, dot, scale, subtract, aboutAxis, conjugate, multiply, normalizeQuaternion, rotate, slerp, toMatrix,
} from "../path/math3d.mjs";

export const DEFAULT_FOV = 60;
const UP_LIMIT = Math.sin((88 * Math.PI) / 180); // how steeply a turn may look up or down

/** A checked copy of a pose from outside, its quaternion of unit length. */
export function toPose({ position, quaternion, vertical_fov_degrees: fov }) {
  const good = position?.length === 3 && quaternion?.length === 4 && [...position, ...quaternion].every(Number.isFinite);
  if (!good || Math.hypot(...quaternion) < 1e-8) throw new Error("A camera pose needs three and four finite numbers.");
  const degrees = fov > 0 && fov < 180 ? fov : DEFAULT_FOV;
  return { position: [...position], quaternion: normalizeQuaternion(quaternion), vertical_fov_degrees: degrees };
}

export const samePose = (a, b) =>
  a.vertical_fov_degrees === b.vertical_fov_degrees &&
  a.position.every((value, i) => value === b.position[i]) &&
  a.quaternion.every((value, i) => value === b.quaternion[i]);

/** Between two poses, t from 0 to 1. */
export function mix(a, b, t) {
  return {
    position: a.position.map((value, i) => value + t * (b.position[i] - value)),
    quaternion: slerp(a.quaternion, b.quaternion, t),
    vertical_fov_degrees: a.vertical_fov_degrees + t * (b.vertical_fov_degrees - a.vertical_fov_degrees),
  };
}

/**
 * Focal length in pixels of a picture of width x height. With a frame (an aspect), the pose's field of view is the
 * frame's, and the frame fits into the picture.
 */
export function focalOf(pose, width, height, aspect = null) {
  const frameHeight = aspect ? Math.min(height, width / aspect) : height;
  return frameHeight / (2 * Math.tan((pose.vertical_fov_degrees * Math.PI) / 360));
}

/** World to camera, row by row. */
export const rotationRows = (pose) => toMatrix(conjugate(pose.quaternion));

/** What overlays and controls know of the picture: see viewer.mjs. */
export function viewOf(pose, width, height, aspect, near) {
  const focal = focalOf(pose, width, height, aspect);
  const back = conjugate(pose.quaternion);
  return {
    width, height, pose, focal,
    project(point) {
      const [x, y, depth] = rotate(back, subtract(point, pose.position));
      if (depth <= near) return null;
      return { x: (focal * x) / depth + width / 2, y: (focal * y) / depth + height / 2, depth };
    },
    ray(x, y) {
      const local = [(x - width / 2) / focal, (y - height / 2) / focal, 1];
      return { origin: [...pose.position], direction: rotate(pose.quaternion, scale(local, 1 / Math.hypot(...local))) };
    },
  };
}

/** Turned about the world's vertical and the camera's own horizontal axis, around a point at `distance` ahead. */
export function turned(pose, yawDegrees, pitchDegrees, distance) {
  const ahead = rotate(pose.quaternion, [0, 0, 1]);
  const pivot = add(pose.position, scale(ahead, distance));
  const yawed = multiply(aboutAxis("y", yawDegrees), pose.quaternion);
  const pitched = multiply(yawed, aboutAxis("x", pitchDegrees));
  const before = Math.abs(ahead[1]);
  const after = Math.abs(rotate(pitched, [0, 0, 1])[1]);
  const quaternion = normalizeQuaternion(after > UP_LIMIT && after > before ? yawed : pitched);
  return { ...pose, quaternion, position: subtract(pivot, scale(rotate(quaternion, [0, 0, 1]), distance)) };
}

/** Moved along the camera's own right, down and forward axes, world units. */
export const moved = (pose, right, down, forward) => ({
  ...pose,
  position: add(pose.position, rotate(pose.quaternion, [right, down, forward])),
});

/** A pose with the same orientation that has a ball in sight. */
export function framing(pose, center, radius, aspect) {
  const half = (pose.vertical_fov_degrees * Math.PI) / 360;
  const narrow = Math.min(half, Math.atan(Math.tan(half) * aspect));
  const distance = radius / Math.sin(narrow);
  return { ...pose, position: subtract(center, scale(rotate(pose.quaternion, [0, 0, 1]), distance)) };
}

/** How far ahead of a camera the middle of a ball lies, at least a tenth of its radius. */
export function distanceAhead(pose, center, radius) {
  const ahead = rotate(pose.quaternion, [0, 0, 1]);
  return Math.max(dot(subtract(center, pose.position), ahead), 0.1 * radius);
}

/** Corners of a camera's picture at a distance, in the world: top left, top right, bottom right, bottom left. */
export function frustumCorners(pose, aspect, distance) {
  const y = distance * Math.tan((pose.vertical_fov_degrees * Math.PI) / 360);
  const x = y * aspect;
  return [[-x, -y], [x, -y], [x, y], [-x, y]].map(([right, down]) => moved(pose, right, down, distance).position);
}

