/** Draws one view of a scene with the shared context. */
import { lowPass } from "./constants.mjs";
import { MODES, TILE, WIDTH } from "./shaders.mjs";

// Shares of the visible Gaussians, nearest first, after each of which finished pixels are marked.
const BATCHES = Object.freeze([0.04, 0.1, 0.2, 0.35, 0.6, 1]);
const SMALLEST_BATCH = 8192;

export class SplatRenderer {
  /** @param {import("./gpu.mjs").Gpu} gpu */
  constructor(gpu) {
    this.gpu = gpu;
    this.order = new Uint32Array(0);
    this.orderTexture = null;
    this.depths = [1, 10];
  }

  /** @param {Uint32Array} order visible Gaussians, nearest first */
  setOrder(order, depths) {
    this.order = order;
    this.depths = depths;
    this.uploaded = false;
  }

  dispose() {
    if (this.orderTexture?.generation === this.gpu.generation) this.gpu.gl.deleteTexture(this.orderTexture.texture);
    this.orderTexture = null;
    this.order = new Uint32Array(0);
  }

  /**
   * Draw onto the lower left of the shared canvas.
   *
   * @param {import("./scene.mjs").Scene | null} scene
   * @param {object} view
   * @param {number[]} view.position camera center in the world
   * @param {number[]} view.rotation [9] world to camera, row by row
   * @param {number} view.focal in pixels
   * @param {number} view.width in pixels
   * @param {number} view.height
   * @param {number} view.near world units
   * @param {number} view.far
   * @param {string} view.mode one of MODES
   * @param {number} view.degree bands to use
   * @param {boolean} view.soft as soft as the views the scene was made from
   * @param {number[]} view.background [3] in 0..1
   */
  draw(scene, view) {
    const { gpu } = this;
    const { gl } = gpu;
    const { width, height } = view;
    gpu.resize(width, height);
    gl.bindVertexArray(gpu.vertexArray);
    gl.disable(gl.BLEND);
    gl.disable(gl.DEPTH_TEST);
    const tables = scene?.textures();
    const count = tables ? this.order.length : 0;
    if (count) this.#project(scene, tables, count, view);
    gl.bindFramebuffer(gl.FRAMEBUFFER, gpu.picture.target);
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clearDepth(1);
    gl.depthMask(true);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    if (count) this.#splat(count, view);
    this.#resolve(view);
    gpu.unbindTextures();
    gl.bindVertexArray(null);
  }

  #project(scene, tables, count, view) {
    const { gpu } = this;
    const { gl } = gpu;
    gpu.reserveRecords(count);
    this.#uploadOrder(scene);
    const { program, at } = gpu.programs.project;
    gl.useProgram(program);
    const { uGeometry, uLook, uHarmonics, uParams } = tables;
    gpu.bindTextures(gpu.programs.project, { uOrder: this.orderTexture.texture, uGeometry, uLook, uHarmonics, uParams });
    gl.uniform1i(at.uCount, count);
    gl.uniform1i(at.uPairs, scene.pairs);
    gl.uniform1i(at.uDegree, Math.min(view.degree, scene.header.degree));
    gl.uniform1i(at.uMode, MODES.indexOf(view.mode));
    gl.uniformMatrix3fv(at.uRotation, true, view.rotation);
    gl.uniform3fv(at.uPosition, view.position);
    gl.uniform2f(at.uSize, view.width, view.height);
    gl.uniform1f(at.uFocal, view.focal);
    gl.uniform1f(at.uLowPass, lowPass(view.soft ? scene.header.metadata : {}, view.focal));
    gl.uniform1f(at.uNear, view.near);
    gl.uniform1f(at.uFar, view.far);
    gl.bindFramebuffer(gl.FRAMEBUFFER, gpu.records.target);
    gl.viewport(0, 0, WIDTH, Math.ceil(count / WIDTH));
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  #uploadOrder(scene) {
    const { gpu, order } = this;
    const { gl, generation } = gpu;
    const rows = Math.ceil(scene.capacity / WIDTH);
    if (this.orderTexture?.generation !== generation || this.orderTexture.rows < rows) {
      if (this.orderTexture?.generation === generation) gl.deleteTexture(this.orderTexture.texture);
      this.orderTexture = { texture: gpu.texture(gl.R32UI, WIDTH, rows), rows, generation };
      this.uploaded = false;
    }
    if (this.uploaded) return;
    this.uploaded = true;
    gl.bindTexture(gl.TEXTURE_2D, this.orderTexture.texture);
    const full = Math.floor(order.length / WIDTH);
    const rest = order.length - full * WIDTH;
    if (full) gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, WIDTH, full, gl.RED_INTEGER, gl.UNSIGNED_INT, order);
    if (rest) {
      const tail = order.subarray(full * WIDTH);
      gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, full, rest, 1, gl.RED_INTEGER, gl.UNSIGNED_INT, tail);
    }
  }

  #splat(count, view) {
    const { gpu } = this;
    const { gl } = gpu;
    const [uShape, uLook] = gpu.records.textures;
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
    let first = 0;
    for (const share of BATCHES) {
      const last = share === 1 ? count : Math.floor(share * count);
      if (share < 1 && last - first < SMALLEST_BATCH) continue;
      if (first > 0) this.#markFinished(view);
      const { program, at } = gpu.programs.splat;
      gl.useProgram(program);
      gpu.bindTextures(gpu.programs.splat, { uShape, uLook, uTiles: gpu.picture.tiles });
      gl.uniform1i(at.uFirst, first);
      gl.uniform1i(at.uHard, view.mode === "points" ? 1 : 0);
      gl.uniform2f(at.uSize, view.width, view.height);
      gl.depthMask(false);
      gl.enable(gl.BLEND);
      gl.blendFunc(gl.ONE_MINUS_DST_ALPHA, gl.ONE); // nearest first: each new one goes under what is there
      gl.drawArrays(gl.TRIANGLES, 0, 3 * (last - first));
      first = last;
    }
    gl.disable(gl.DEPTH_TEST);
    gl.disable(gl.BLEND);
  }

  /** Tells the following batches which pixels and tiles nothing can change any more. */
  #markFinished({ width, height }) {
    const { gpu } = this;
    const { gl } = gpu;
    const { saturated, tiles } = gpu.programs;
    const enough = gpu.half ? 0.998 : 0.9975;
    gl.disable(gl.BLEND);
    gl.useProgram(saturated.program);
    gpu.bindTextures(saturated, { uPicture: gpu.picture.texture });
    gl.uniform1f(saturated.at.uEnough, enough);
    gl.bindFramebuffer(gl.FRAMEBUFFER, gpu.picture.marks);
    gl.depthMask(true);
    gl.depthRange(0, 0); // nearer than the splats, which lie in the middle
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.depthRange(0, 1);
    gl.useProgram(tiles.program);
    gpu.bindTextures(tiles, { uPicture: gpu.picture.texture });
    gl.uniform1f(tiles.at.uEnough, enough);
    gl.uniform2f(tiles.at.uSize, width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, gpu.picture.tilesTarget);
    gl.viewport(0, 0, Math.ceil(width / TILE), Math.ceil(height / TILE));
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.viewport(0, 0, width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, gpu.picture.target);
  }

  #resolve(view) {
    const { gpu } = this;
    const { gl } = gpu;
    const { program, at } = gpu.programs.resolve;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, view.width, view.height);
    gl.useProgram(program);
    gpu.bindTextures(gpu.programs.resolve, { uPicture: gpu.picture.texture });
    gl.uniform3fv(at.uBackground, view.background);
    gl.uniform1i(at.uMode, MODES.indexOf(view.mode));
    gl.uniform2f(at.uDepths, 1 / this.depths[0], 1 / this.depths[1]);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}
