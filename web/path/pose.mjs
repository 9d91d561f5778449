/**
 * Camera poses: {position: [x, y, z], quaternion: [w, x, y, z]}, camera-to-world, OpenCV axes (x right, y down,
 * z forward) for camera and world. Lengths are world units, fields of view vertical degrees.
 */
import { add, cross, distance, length, scale, subtract } from "./vector.mjs";
import { conjugate, fromMatrix, IDENTITY, multiply, rotate } from "./rotation.mjs";

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
