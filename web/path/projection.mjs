/** Perspective drawing on a 2D canvas: points, lines clipped at the lens, and a picture in space. */
import { conjugate, rotate, add, scale, subtract, down, focalOfFov, forward, right } from "./math3d.mjs";

/** World points through a camera onto a canvas. */
export class Projection {
  /**
   * @param {{position: number[], quaternion: number[], fov: number}} camera fov in vertical degrees
   * @param {number} width of the canvas, pixels
   * @param {number} height
   * @param {number} near nothing closer to the camera than this is drawn, world units
   */
  constructor(camera, width, height, near) {
    this.camera = camera;
    this.inverse = conjugate(camera.quaternion);
    this.focal = focalOfFov(camera.fov) * height;
    this.center = [width / 2, height / 2];
    this.near = near;
  }

  /** World point in camera axes. */
  local(point) {
    return rotate(this.inverse, subtract(point, this.camera.position));
  }

  /** [x, y] in pixels of a point in camera axes with z >= near. */
  pixel([x, y, z]) {
    return [this.center[0] + (this.focal * x) / z, this.center[1] + (this.focal * y) / z];
  }

  /** [x, y] in pixels of a world point, or null behind the camera. */
  point(world) {
    const local = this.local(world);
    return local[2] >= this.near ? this.pixel(local) : null;
  }

  /** Both ends of a line in pixels, cut off at the near plane, or null. */
  line(from, to) {
    let [a, b] = [this.local(from), this.local(to)];
    if (a[2] < this.near && b[2] < this.near) return null;
    if (a[2] < this.near || b[2] < this.near) {
      const t = (this.near - a[2]) / (b[2] - a[2]);
      const cut = [a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1]), this.near];
      if (a[2] < this.near) a = cut;
      else b = cut;
    }
    return [this.pixel(a), this.pixel(b)];
  }
}

/** Adds the visible part of a world line to the canvas path. */
export function trace(context, projection, from, to) {
  const ends = projection.line(from, to);
  if (!ends) return;
  context.moveTo(...ends[0]);
  context.lineTo(...ends[1]);
}

/** The four corners, in the world, of what a camera sees at `depth`: top left, top right, bottom right, bottom left. */
export function frustumCorners(camera, aspect, depth) {
  const half = (0.5 * depth) / focalOfFov(camera.fov);
  const center = add(camera.position, scale(forward(camera), depth));
  const across = scale(right(camera), half * aspect);
  const below = scale(down(camera), half);
  return [
    subtract(subtract(center, across), below),
    subtract(add(center, across), below),
    add(add(center, across), below),
    add(subtract(center, across), below),
  ];
}

const CELLS = 8; // a picture is drawn as this many cells each way, which keeps perspective near enough
const BLEED = 0.75; // pixels that neighboring cells overlap, so that no seam shows

/** A picture on the parallelogram with these corners (order of `frustumCorners`); the part behind the lens is left out. */
export function drawPicture(context, projection, picture, corners) {
  const [width, height] = [picture.naturalWidth || picture.width, picture.naturalHeight || picture.height];
  if (!(width > 0 && height > 0)) return;
  const across = subtract(corners[1], corners[0]);
  const below = subtract(corners[3], corners[0]);
  const at = (u, v) => add(corners[0], add(scale(across, u / CELLS), scale(below, v / CELLS)));
  const [cellWidth, cellHeight] = [width / CELLS, height / CELLS];
  for (let v = 0; v < CELLS; v++) {
    for (let u = 0; u < CELLS; u++) {
      const ends = [at(u, v), at(u + 1, v), at(u + 1, v + 1), at(u, v + 1)].map((point) => projection.point(point));
      if (ends.includes(null)) continue;
      const source = [u * cellWidth, v * cellHeight, cellWidth, cellHeight];
      drawCell(context, picture, source, ends);
    }
  }
}

/** One cell, as the affine map of its three first corners: within a small cell perspective bends nothing visible. */
function drawCell(context, picture, [x, y, width, height], [a, b, c, d]) {
  const middle = [(a[0] + b[0] + c[0] + d[0]) / 4, (a[1] + b[1] + c[1] + d[1]) / 4];
  context.save();
  context.beginPath();
  for (const corner of [a, b, c, d]) {
    const away = [corner[0] - middle[0], corner[1] - middle[1]];
    const size = Math.hypot(...away) || 1;
    context.lineTo(corner[0] + (away[0] / size) * BLEED, corner[1] + (away[1] / size) * BLEED);
  }
  context.closePath();
  context.clip();
  // The mean of opposite edges: exact for a parallelogram, the best affine map for the rest.
  const e = [(b[0] - a[0] + c[0] - d[0]) / 2, (b[1] - a[1] + c[1] - d[1]) / 2];
  const f = [(d[0] - a[0] + c[0] - b[0]) / 2, (d[1] - a[1] + c[1] - b[1]) / 2];
  const [px, py] = [middle[0] - (e[0] + f[0]) / 2, middle[1] - (e[1] + f[1]) / 2];
  context.transform(e[0] / width, e[1] / width, f[0] / height, f[1] / height, px, py);
  // The neighbors' pixels under the overlap, as far as there are any.
  const [left, top] = [Math.max(x - 2, 0), Math.max(y - 2, 0)];
  const wide = Math.min(x + width + 2, picture.naturalWidth || picture.width) - left;
  const tall = Math.min(y + height + 2, picture.naturalHeight || picture.height) - top;
  context.drawImage(picture, left, top, wide, tall, left - x, top - y, wide, tall);
  context.restore();
}
