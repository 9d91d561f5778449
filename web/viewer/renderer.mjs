/** Draws one view of a scene with the shared context, at once or in pieces. */
import { antialiased, lowPass } from "./constants.mjs";
import { AREAS } from "./order.mjs";
import { MODES, POINT_RADIUS, TILE, WIDTH } from "./shaders.mjs";

// Shares of the visible Gaussians, nearest first, after each of which finished pixels are marked.
const BATCHES = Object.freeze([0.04, 0.1, 0.2, 0.35, 0.6]);
const SMALLEST_BATCH = 8192;
const SMALLEST_PIECE = 4;
const SEEN = 0.2; // alpha from which on a pixel shows something
const WORK_OF_EACH = 40; // pixels that cost as much as a Gaussian costs apart from its own

export class SplatRenderer {
  /** @param {import("./gpu.mjs").Gpu} gpu */
  constructor(gpu) {
    this.gpu = gpu;
    this.order = new Uint32Array(0);
    this.orderTexture = null;
    this.depths = [1, 10];
    this.areas = new Float64Array(AREAS + 1);
    this.picture = null; // its own, so that pictures of several viewers can be in work
    this.view = null; // of the picture in work
    this.next = this.count = 0;
  }

  /** @param {{order: Uint32Array, depths: number[], areas: Float64Array}} seen as SceneIndex.see gives it */
  setOrder({ order, depths, areas }) {
    Object.assign(this, { order, depths, areas });
    this.uploaded = false;
    this.view = null;
  }

  dispose() {
    const { gpu } = this;
    if (this.orderTexture?.generation === gpu.generation) gpu.gl.deleteTexture(this.orderTexture.texture);
    gpu.deletePicture(this.picture);
    if (gpu.records?.of === this) gpu.records.of = null;
    this.orderTexture = this.picture = this.view = null;
    this.order = new Uint32Array(0);
  }

  /** What drawing the first `part` (0 to 1) of the order costs: pixels to be shaded at most, and as many again for the rest. */
  work({ mode, focal }, part = 1) {
    const count = part * this.order.length;
    if (mode === "points") return (WORK_OF_EACH + Math.PI * POINT_RADIUS ** 2) * count;
    const place = part * AREAS;
    const low = Math.min(Math.floor(place), AREAS - 1);
    const area = this.areas[low] + (place - low) * (this.areas[low + 1] - this.areas[low]);
    return WORK_OF_EACH * count + area * focal * focal;
  }

  /**
   * Begins a picture, which `piece` and `finish` complete.
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
  start(scene, view) {
    const { gpu } = this;
    const { gl } = gpu;
    Object.assign(this, { scene, view });
    this.count = scene?.textures() ? this.order.length : 0;
    this.next = 0; // the first Gaussian not drawn yet
    this.#makeRoom(view.width, view.height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.picture.target);
    gl.viewport(0, 0, view.width, view.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clearDepth(1);
    gl.depthMask(true);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    if (gpu.records) gpu.records.of = null;
  }

  get done() {
    return this.next >= this.count;
  }

  /** How much of the picture is drawn, 0 to 1. */
  get share() {
    return this.done ? 1 : this.work(this.view, this.next / this.count) / this.work(this.view);
  }

  /**
   * Draws on, behind what is drawn already.
   *
   * @param {number} allowed how much work to do at most, as `work` counts it
   * @returns {number} the work done
   */
  piece(allowed) {
    const { gpu, scene, view, count } = this;
    const { gl } = gpu;
    const first = this.next;
    if (!view || this.done || gpu.lost) {
      this.next = this.count;
      return 0;
    }
    gl.bindVertexArray(gpu.vertexArray);
    gl.disable(gl.BLEND);
    gl.disable(gl.DEPTH_TEST);
    if (gpu.records?.of !== this) this.#project(scene, scene.textures(), count, view);
    const end = this.#endOf(first, allowed);
    for (const share of [...BATCHES, 1]) {
      const last = Math.min(Math.floor(share * count), end);
      if (last <= this.next || (last < end && last - this.next < SMALLEST_BATCH)) continue;
      this.#splat(this.next, last);
      this.next = last;
    }
    gpu.unbindTextures();
    gl.bindVertexArray(null);
    return this.work(view, this.next / count) - this.work(view, first / count);
  }

  /**
   * Camera z of what is seen at a pixel of a view, in world units; null where there is (nearly) nothing. Ends a picture
   * in work.
   */
  depthAt(scene, view, x, y) {
    const { gpu } = this;
    const { gl } = gpu;
    if (!gpu.half) return null; // too coarse
    this.start(scene, { ...view, mode: "depth" });
    if (!this.count) return null;
    const row = view.height - 1 - y;
    gl.bindVertexArray(gpu.vertexArray);
    gl.disable(gl.BLEND);
    gl.disable(gl.DEPTH_TEST);
    this.#project(scene, scene.textures(), this.count, this.view);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(x, row, 1, 1);
    this.#splat(0, this.count);
    gl.disable(gl.SCISSOR_TEST);
    const seen = new Float32Array(4);
    gl.readPixels(x, row, 1, 1, gl.RGBA, gl.FLOAT, seen);
    gpu.unbindTextures();
    gl.bindVertexArray(null);
    this.view = null;
    return seen[3] > SEEN ? (this.depths[0] * seen[0]) / seen[3] : null;
  }

  /** The Gaussian up to which the work stays within what is allowed; at least a few are drawn. */
  #endOf(first, allowed) {
    const { view, count } = this;
    if (allowed === Infinity) return count;
    const most = this.work(view, first / count) + allowed;
    let [low, high] = [first / count, 1];
    if (this.work(view) <= most) return count;
    for (let i = 0; i < 24; i++) {
      const middle = (low + high) / 2;
      if (this.work(view, middle) <= most) low = middle;
      else high = middle;
    }
    return Math.min(count, Math.max(Math.floor(low * count), first + SMALLEST_PIECE));
  }

  /** Puts the picture, as far as it is drawn, onto the lower left of the shared canvas. @returns its size in pixels */
  finish() {
    const { gpu, view } = this;
    const { gl } = gpu;
    const { width, height } = view;
    gpu.resize(width, height);
    gl.bindVertexArray(gpu.vertexArray);
    gl.disable(gl.BLEND);
    gl.disable(gl.DEPTH_TEST);
    this.#resolve(view);
    gpu.unbindTextures();
    gl.bindVertexArray(null);
    return { width, height };
  }

  #makeRoom(width, height) {
    const { gpu, picture } = this;
    const alive = picture?.generation === gpu.generation;
    if (alive && picture.width >= width && picture.height >= height) return;
    const size = [Math.max(width, alive ? picture.width : 0), Math.max(height, alive ? picture.height : 0)];
    gpu.deletePicture(picture);
    this.picture = gpu.createPicture(...size);
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
    gl.uniform1i(at.uAntialiased, antialiased(scene.header.metadata) ? 1 : 0);
    gl.uniform1f(at.uUnit, this.depths[0]);
    gl.uniform1f(at.uNear, view.near);
    gl.uniform1f(at.uFar, view.far);
    gl.bindFramebuffer(gl.FRAMEBUFFER, gpu.records.target);
    gl.viewport(0, 0, WIDTH, Math.ceil(count / WIDTH));
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gpu.records.of = this;
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

  #splat(first, last) {
    const { gpu, view } = this;
    const { gl } = gpu;
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
    if (first > 0) this.#markFinished(view);
    const [uShape, uLook] = gpu.records.textures;
    const { program, at } = gpu.programs.splat;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.picture.target);
    gl.viewport(0, 0, view.width, view.height);
    gl.useProgram(program);
    gpu.bindTextures(gpu.programs.splat, { uShape, uLook, uTiles: this.picture.tiles });
    gl.uniform1i(at.uFirst, first);
    gl.uniform1i(at.uHard, view.mode === "points" ? 1 : 0);
    gl.uniform2f(at.uSize, view.width, view.height);
    gl.depthMask(false);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE_MINUS_DST_ALPHA, gl.ONE); // nearest first: each new one goes under what is there
    gl.drawArrays(gl.TRIANGLES, 0, 3 * (last - first));
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
    gpu.bindTextures(saturated, { uPicture: this.picture.texture });
    gl.uniform1f(saturated.at.uEnough, enough);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.picture.marks);
    gl.viewport(0, 0, width, height);
    gl.depthMask(true);
    gl.depthRange(0, 0); // nearer than the splats, which lie in the middle
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.depthRange(0, 1);
    gl.useProgram(tiles.program);
    gpu.bindTextures(tiles, { uPicture: this.picture.texture });
    gl.uniform1f(tiles.at.uEnough, enough);
    gl.uniform2f(tiles.at.uSize, width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.picture.tilesTarget);
    gl.viewport(0, 0, Math.ceil(width / TILE), Math.ceil(height / TILE));
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  #resolve(view) {
    const { gpu } = this;
    const { gl } = gpu;
    const { program, at } = gpu.programs.resolve;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, view.width, view.height);
    gl.useProgram(program);
    gpu.bindTextures(gpu.programs.resolve, { uPicture: this.picture.texture });
    gl.uniform3fv(at.uBackground, view.background);
    gl.uniform1i(at.uMode, MODES.indexOf(view.mode));
    gl.uniform2f(at.uDepths, 1, this.depths[0] / this.depths[1]);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}
