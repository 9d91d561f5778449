/**
 * Reads a preview stream while it arrives. Twin of the core's formats/stream.py, where the layout is described.
 * A complete chunk is handed on as the tables the graphics card takes as they are.
 */

export const MAGIC = "FWSPLAT1";
export const ALIGN = 2048; // rows of every chunk but the last are a multiple of it
export const PAIRS = Object.freeze([0, 2, 3, 6]); // 8-byte words of harmonics per Gaussian, by degree
const CHUNK_HEADER = 80;
const MAX_JSON = 1 << 24;
const MAX_COUNT = 1 << 26;
const LITTLE = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/**
 * @typedef {object} Chunk
 * @property {number} start index of its first Gaussian in the file
 * @property {number} count
 * @property {Float32Array} params [11] log_scale_min, log_scale_step, dc_min[3], dc_step[3], sh_step[3]
 * @property {Float32Array} box [6] smallest and largest position
 * @property {Uint32Array} geometry [count * 4]
 * @property {Uint32Array} look [count * 2]
 * @property {Uint32Array} harmonics [count * 2 * PAIRS[degree]]
 */
export class StreamParser {
  /** @param {{onHeader: (header: object) => void, onChunk: (chunk: Chunk) => void}} handlers */
  constructor({ onHeader, onChunk }) {
    this.onHeader = onHeader;
    this.onChunk = onChunk;
    this.header = null;
    this.done = 0; // Gaussians handed on
    this.position = 0; // in the file
    this.#expect(16, this.#magic);
  }

  get complete() {
    return this.header !== null && this.done === this.header.count;
  }

  /** @param {Uint8Array} bytes the next piece of the file, of any size */
  push(bytes) {
    let offset = 0;
    while (offset < bytes.length) {
      if (this.complete) throw new Error(`Bytes follow the last chunk of the scene at ${this.position}.`);
      const size = Math.min(bytes.length - offset, this.wanted.length - this.filled);
      this.wanted.set(bytes.subarray(offset, offset + size), this.filled);
      this.filled += size;
      this.position += size;
      offset += size;
      // A step may expect nothing (an empty header), so this goes on until a step waits for bytes.
      while (this.filled === this.wanted.length && !this.complete) this.step(this.wanted);
    }
  }

  /** @throws {Error} the file ended early */
  end() {
    if (!this.complete) throw new Error(`The scene is cut short after ${this.position} bytes.`);
  }

  #expect(size, step) {
    this.wanted = new Uint8Array(size);
    this.filled = 0;
    this.step = step;
  }

  #magic(bytes) {
    if (String.fromCharCode(...bytes.subarray(0, 8)) !== MAGIC) throw new Error("This is not a scene for the viewer.");
    const [count, size] = fromBytes(Uint32Array, bytes, 8);
    if (count > MAX_COUNT || size > MAX_JSON) throw new Error("The scene's header is out of range.");
    this.count = count;
    this.#expect(size, this.#json);
  }

  #json(bytes) {
    let fields;
    try {
      fields = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    } catch {
      throw new Error("The scene's header cannot be read.");
    }
    const { sh_degree: degree, total, center, radius, metadata } = fields ?? {};
    const numbers = [total, radius, ...(Array.isArray(center) ? center : [])];
    if (!(degree in PAIRS) || numbers.length !== 5 || !numbers.every(Number.isFinite)) {
      throw new Error("The scene's header holds values out of range.");
    }
    this.rowBytes = 24 + 8 * PAIRS[degree];
    this.header = { count: this.count, total, degree, center, radius, metadata: metadata ?? {} };
    this.#expect(CHUNK_HEADER, this.#chunkHeader);
    this.onHeader(this.header);
  }

  #chunkHeader(bytes) {
    const [count] = fromBytes(Uint32Array, bytes, 0);
    const left = this.count - this.done;
    if (count === 0 || count > left || (count % ALIGN !== 0 && count !== left)) {
      throw new Error(`The scene's chunk before byte ${this.position} has ${count} rows, which do not fit.`);
    }
    const floats = fromBytes(Float32Array, bytes, 8);
    if (!floats.subarray(0, 17).every(Number.isFinite)) {
      throw new Error(`The scene's chunk before byte ${this.position} holds values out of range.`);
    }
    this.chunk = { start: this.done, count, params: floats.slice(0, 11), box: floats.slice(11, 17) };
    this.#expect(count * this.rowBytes, this.#chunkRows);
  }

  #chunkRows(bytes) {
    const { count } = this.chunk;
    const pairs = PAIRS[this.header.degree];
    const geometry = fromBytes(Uint32Array, bytes, 0, 4 * count);
    const look = fromBytes(Uint32Array, bytes, 16 * count, 2 * count);
    const harmonics = fromBytes(Uint32Array, bytes, 24 * count, 2 * pairs * count);
    const chunk = { ...this.chunk, geometry, look, harmonics };
    this.done += count;
    this.#expect(CHUNK_HEADER, this.#chunkHeader);
    this.onChunk(chunk);
  }
}

/**
 * Fetch a stream and hand on its parts as they arrive.
 *
 * @param {string} url
 * @param {{onHeader: Function, onChunk: Function, signal?: AbortSignal}} options
 * @returns {Promise<object>} the header, when everything has arrived
 */
export async function fetchStream(url, { onHeader, onChunk, signal }) {
  const response = await fetch(url, { signal });
  if (response.status === 404) throw new Error("The scene's file is gone. Run the workflow again to see it.");
  if (!response.ok) throw new Error(`The scene could not be fetched (HTTP ${response.status}).`);
  const parser = new StreamParser({ onHeader, onChunk });
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parser.push(value);
    }
    parser.end();
  } catch (error) {
    reader.cancel().catch(() => {});
    throw error;
  }
  return parser.header;
}

/**
 * Little-endian numbers out of bytes, on machines of either byte order.
 *
 * @param {Uint32ArrayConstructor | Float32ArrayConstructor} type 4-byte numbers
 * @param {Uint8Array} bytes
 * @param {number} offset in bytes, a multiple of 4 within the underlying buffer
 * @param {number} [count] numbers; all that follow by default
 * @returns a view of the same memory where the machine allows it
 */
function fromBytes(type, bytes, offset, count = (bytes.length - offset) >> 2) {
  if (!LITTLE) {
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset + offset, count);
    for (let i = 0; i < count; i++) words[i] = view.getUint32(offset + 4 * i, true);
  }
  return new type(bytes.buffer, bytes.byteOffset + offset, count);
}
