/** Which Gaussians a camera can see, nearest first. Pure computation: runs in the worker, or anywhere else. */

import { ALPHA_MIN, TANGENT_LIMIT } from "./constants.mjs";

const BUCKETS = 1 << 16;
export const AREAS = 256;

/** Positions and reaches of a scene's Gaussians; grows chunk by chunk. */
export class SceneIndex {
  /** @param {number} capacity Gaussians that will come at most */
  constructor(capacity) {
    this.count = 0;
    this.rows = new Float32Array(4 * capacity); // x, y, z, radius beyond which alpha is below 1/255
    this.visible = new Uint32Array(capacity);
    this.depths = new Float32Array(capacity);
    this.depthBits = new Uint32Array(this.depths.buffer);
    this.histogram = new Uint32Array(BUCKETS);
    this.covered = new Float64Array(BUCKETS);
  }

  /** @param {import("./format.mjs").Chunk} chunk */
  add({ start, count, params, geometry, look }) {
    const source = new Float32Array(geometry.buffer, geometry.byteOffset, geometry.length);
    const sizes = new Float32Array(1024); // by code
    for (let code = 0; code < 1024; code++) sizes[code] = Math.exp(params[0] + code * params[1]);
    const reach = new Float32Array(1024); // by opacity code, in standard deviations
    for (let code = 0; code < 1024; code++) reach[code] = Math.sqrt(2 * Math.max(0, Math.log(code / 1023 / ALPHA_MIN)));
    const { rows } = this;
    for (let i = 0, to = 4 * start; i < count; i++, to += 4) {
      const low = look[2 * i];
      const largest = Math.max(low & 1023, (low >>> 10) & 1023, (low >>> 20) & 1023);
      rows[to] = source[4 * i];
      rows[to + 1] = source[4 * i + 1];
      rows[to + 2] = source[4 * i + 2];
      rows[to + 3] = sizes[largest] * reach[((low >>> 30) << 8) | (look[2 * i + 1] >>> 24)];
    }
    this.count = Math.max(this.count, start + count);
  }

  /**
   * @param {object} camera
   * @param {number[]} camera.position [3] in the world
   * @param {number[]} camera.rotation [9] world to camera, row by row
   * @param {number} camera.tangentX half the width of the view at depth 1, and
   * @param {number} camera.tangentY half its height, both including any margin
   * @param {number} camera.near only near < z < far are seen
   * @param {number} camera.far
   * @param {number} [camera.share] of the Gaussians to use, spread evenly over the scene
   * @param {Uint32Array} [reuse] memory for the result if it is large enough
   * @returns {{order: Uint32Array, depths: number[], areas: Float64Array}} indices, nearest first, equal depths in the
   *   order of the file; depths below which 2 % and 98 % of them lie; the area at depth 1 that the first i / AREAS of
   *   them cover, overlaps counted, i from 0 to AREAS
   */
  see({ position, rotation, tangentX, tangentY, near, far, share = 1 }, reuse) {
    const { rows, visible, depths, depthBits, histogram, count } = this;
    const [px, py, pz] = position;
    const [r00, r01, r02, r10, r11, r12, r20, r21, r22] = rotation;
    // The renderer's linearized projection reaches at most this many radii (at depth 1) from the center.
    const slackX = Math.hypot(1, TANGENT_LIMIT * tangentX);
    const slackY = Math.hypot(1, TANGENT_LIMIT * tangentY);
    let found = 0;
    const kept = share < 1 ? Math.floor(share * 2 ** 32) : 2 ** 32;
    for (let i = 0, j = 0; i < count; i++, j += 4) {
      if (kept < 2 ** 32 && Math.imul(i, 0x9e3779b1) >>> 0 >= kept) continue;
      const x = rows[j] - px;
      const y = rows[j + 1] - py;
      const z = rows[j + 2] - pz;
      const depth = r20 * x + r21 * y + r22 * z;
      if (!(depth > near && depth < far)) continue;
      const radius = rows[j + 3];
      if (Math.abs(r00 * x + r01 * y + r02 * z) > tangentX * depth + slackX * radius) continue;
      if (Math.abs(r10 * x + r11 * y + r12 * z) > tangentY * depth + slackY * radius) continue;
      depths[found] = depth;
      visible[found++] = i;
    }
    return this.#sorted(found, depthBits, 4 * tangentX * tangentY, reuse);
  }

  #sorted(found, bits, wholeView, reuse) {
    const { rows, visible, depths, histogram, covered } = this;
    const order = reuse && reuse.length >= found ? reuse.subarray(0, found) : new Uint32Array(found);
    const areas = new Float64Array(AREAS + 1);
    if (found === 0) return { order, depths: [1, 1], areas };
    // The bits of positive floats rise with their logarithm, so buckets are as fine near by as depth deserves.
    let low = 0xffffffff;
    let high = 0;
    for (let i = 0; i < found; i++) {
      const value = bits[i];
      if (value < low) low = value;
      if (value > high) high = value;
    }
    const factor = (BUCKETS - 1) / Math.max(1, high - low);
    histogram.fill(0);
    covered.fill(0);
    for (let i = 0; i < found; i++) {
      const across = rows[4 * visible[i] + 3] / depths[i];
      const bucket = ((bits[i] - low) * factor) | 0; // bits are the depths' own memory
      covered[bucket] += Math.min(Math.PI * across * across, wholeView);
      histogram[bucket]++;
      bits[i] = bucket;
    }
    const [near, far] = [quantile(histogram, 0.02 * found), quantile(histogram, 0.98 * found)];
    let sum = 0;
    let area = 0;
    for (let b = 0, part = 1; b < BUCKETS; b++) {
      const size = histogram[b];
      histogram[b] = sum;
      sum += size;
      // Within a bucket the area is spread evenly.
      for (; part <= AREAS && (part / AREAS) * found <= sum; part++) {
        areas[part] = area + (covered[b] * ((part / AREAS) * found - histogram[b])) / Math.max(size, 1);
      }
      area += covered[b];
    }
    for (let i = 0; i < found; i++) order[histogram[bits[i]]++] = visible[i];
    return { order, areas, depths: [near, far].map((bucket) => floatOfBits(low + bucket / factor)) };
  }
}

function quantile(histogram, wanted) {
  let sum = 0;
  for (let b = 0; b < histogram.length; b++) if ((sum += histogram[b]) >= wanted) return b;
  return histogram.length - 1;
}

function floatOfBits(bits) {
  return new Float32Array(new Uint32Array([Math.round(bits)]).buffer)[0];
}
