/**
 * The renderer constants the viewer shares with the core, where flashworld_core/rendering/constants.py defines them;
 * tests/web/goldens/constants.json holds the two together.
 */

export const LOW_PASS = 0.3; // pixels squared, added to every footprint's covariance
export const ALPHA_MIN = 1 / 255; // below it a Gaussian is not drawn
export const ALPHA_MAX = 0.999; // one Gaussian covers a pixel no more than this
export const TANGENT_LIMIT = 1.3; // x/z and y/z inside the Jacobian, in half pictures
export const NEAR_OF_SCALE = 0.01; // near plane of a generated scene, in its `scene_scale`: as in training
export const NEAR_OF_EXTENT = 0.001; // near plane of any other scene, in its radius
const FAR_OF_EXTENT = 1e6; // the core's far plane is behind the last Gaussian; here the camera may go anywhere

/** As far as the core's colorize_depth goes: near is warm and light. */
export const DEPTH_RAMP = Object.freeze([
  [253, 231, 180], [250, 186, 110], [236, 128, 82], [196, 77, 100], [135, 49, 117], [76, 34, 105], [22, 16, 50],
]);

/**
 * Near and far planes that suit a scene of any size.
 *
 * @param {?{radius: number, metadata: object}} header of its stream
 * @returns {{near: number, far: number}} world units
 */
export function clipPlanes(header) {
  const { radius, metadata } = header ?? { radius: 1 };
  const scale = metadata?.scene_scale;
  const known = typeof scale === "number" && scale > 0 && scale < Infinity;
  const near = known ? NEAR_OF_SCALE * scale : NEAR_OF_EXTENT * radius;
  return { near, far: Math.max(FAR_OF_EXTENT * radius, 2 * near) };
}

/**
 * The filter's width in angle is that of the views a scene was made from: in a larger picture, where those pixels are
 * wide, gaps would open between Gaussians that were meant to touch.
 *
 * @param {object} metadata of the scene; without `focal_px` LOW_PASS is the answer
 * @param {number} focal of the picture, in pixels
 */
export function lowPass(metadata, focal) {
  const generated = metadata?.focal_px;
  const ratio = typeof generated === "number" && generated > 0 && generated < Infinity ? focal / generated : 1;
  return LOW_PASS * Math.max(1, ratio) ** 2;
}

/** Whether a scene's opacities belong to mip-splatting's filter: what the low-pass widens, it thins by as much. */
export function antialiased(metadata) {
  return metadata?.filter === "antialiased";
}
