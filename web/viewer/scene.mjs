/** A scene on the graphics card, filled while its stream arrives; shared by the viewers that show the same URL. */
import { fetchStream, PAIRS } from "./format.mjs";
import { WIDTH } from "./shaders.mjs";

const open = new Map(); // URL -> Scene

/**
 * @param {string} url
 * @param {import("./gpu.mjs").Gpu} gpu
 * @param {import("./sorter.mjs").Sorter} sorter
 * @returns {Scene} to be given back by `release()`
 */
export function openScene(url, gpu, sorter) {
  let scene = open.get(url);
  if (!scene || scene.gpu !== gpu || scene.sorter !== sorter || scene.error) {
    scene = new Scene(url, gpu, sorter);
    open.set(url, scene);
  }
  scene.users++;
  return scene;
}

export class Scene {
  constructor(url, gpu, sorter) {
    Object.assign(this, { url, gpu, sorter });
    this.users = 0;
    this.id = sorter.newId();
    this.header = null;
    this.count = 0; // Gaussians that have arrived
    this.chunks = []; // kept, to fill the textures again when the context is lost
    this.tables = null;
    this.error = null;
    this.listeners = new Set();
    this.abort = new AbortController();
    /** Resolves when everything has arrived; rejects if it does not. */
    this.loaded = fetchStream(url, {
      onHeader: (header) => this.#begin(header),
      onChunk: (chunk) => this.#add(chunk),
      signal: this.abort.signal,
    });
    this.loaded.catch((error) => (this.error = error));
  }

  release() {
    if (--this.users > 0) return;
    if (open.get(this.url) === this) open.delete(this.url);
    this.abort.abort();
    if (this.header) this.sorter.dropScene(this.id);
    this.#deleteTables();
    this.chunks = [];
    this.listeners.clear();
  }

  /** @param {() => void} listener called after the header and after every chunk @returns {() => void} stops it */
  onChange(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** The textures, made anew after a lost context; null while there is nothing to draw. */
  textures() {
    if (!this.count || this.gpu.lost) return null;
    if (this.tables?.generation !== this.gpu.generation) {
      this.tables = null; // those of a lost context are gone already
      this.#createTables();
      for (const chunk of this.chunks) this.#upload(chunk);
    }
    return this.tables;
  }

  #begin(header) {
    this.pairs = PAIRS[header.degree];
    // The largest texture bounds what can be shown; the rest of the stream, less important, is left out.
    this.capacity = Math.min(header.count, Math.floor(this.gpu.maxRows / Math.max(1, this.pairs)) * WIDTH);
    this.header = header;
    this.sorter.addScene(this.id, this.capacity);
    for (const listener of this.listeners) listener();
  }

  #add(chunk) {
    const count = Math.min(chunk.count, this.capacity - chunk.start);
    if (count <= 0) return;
    const part = {
      ...chunk, count,
      geometry: chunk.geometry.subarray(0, 4 * count),
      look: chunk.look.subarray(0, 2 * count),
      harmonics: chunk.harmonics.subarray(0, 2 * this.pairs * count),
    };
    this.sorter.addChunk(this.id, part);
    this.chunks.push(part);
    this.count = part.start + count;
    if (!this.gpu.lost && this.tables?.generation === this.gpu.generation) this.#upload(part);
    for (const listener of this.listeners) listener();
  }

  #createTables() {
    const { gpu, pairs } = this;
    const { gl } = gpu;
    const rows = Math.ceil(this.capacity / WIDTH);
    this.tables = {
      generation: gpu.generation,
      uGeometry: gpu.texture(gl.RGBA32UI, WIDTH, rows),
      uLook: gpu.texture(gl.RG32UI, WIDTH, rows),
      uHarmonics: gpu.texture(gl.RG32UI, WIDTH, Math.max(1, rows * pairs)),
      uParams: gpu.texture(gl.RGBA32F, 3, rows),
    };
  }

  #deleteTables() {
    const { gl, generation } = this.gpu;
    if (this.tables?.generation === generation) {
      for (const name of ["uGeometry", "uLook", "uHarmonics", "uParams"]) gl.deleteTexture(this.tables[name]);
    }
    this.tables = null;
  }

  #upload({ start, count, params, geometry, look, harmonics }) {
    const { tables, pairs, gpu: { gl } } = this;
    const row = start / WIDTH;
    fill(gl, tables.uGeometry, row, count, gl.RGBA_INTEGER, geometry, 4);
    fill(gl, tables.uLook, row, count, gl.RG_INTEGER, look, 2);
    if (pairs) fill(gl, tables.uHarmonics, row * pairs, count * pairs, gl.RG_INTEGER, harmonics, 2);
    const rows = Math.ceil(count / WIDTH);
    const table = new Float32Array(12 * rows);
    for (let r = 0; r < rows; r++) table.set(params, 12 * r);
    gl.bindTexture(gl.TEXTURE_2D, tables.uParams);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, row, 3, rows, gl.RGBA, gl.FLOAT, table);
    gl.bindTexture(gl.TEXTURE_2D, null);
  }
}

/** Writes `texels` texels from the start of a row on; the last row may stay incomplete. */
function fill(gl, texture, row, texels, format, data, words) {
  gl.bindTexture(gl.TEXTURE_2D, texture);
  const rows = Math.floor(texels / WIDTH);
  const rest = texels - rows * WIDTH;
  if (rows) gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, row, WIDTH, rows, format, gl.UNSIGNED_INT, data);
  if (rest) {
    const tail = data.subarray(rows * WIDTH * words);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, row + rows, rest, 1, format, gl.UNSIGNED_INT, tail);
  }
}
