/** How wide a splat must be at least: flashworld_core/rendering/detail.py in the browser. */

export const LOW_PASS = 0.3; // pixels squared

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
