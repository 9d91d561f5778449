/**
 * The page's one WebGL2 context, shared by all viewers (browsers keep about sixteen alive), given up when the last of
 * them goes. Viewers draw one after the other on its canvas and copy the picture to a 2D canvas of their own.
 */
import {
  FULL_SCREEN, PROJECT, RESOLVE, SATURATED, SPLAT_FRAGMENT, SPLAT_VERTEX, TILE, TILES, WIDTH,
} from "./shaders.mjs";

const FIRST_SPEED = 50_000; // until the first picture has been timed: that of a processor
const SHORT = 12; // milliseconds

let shared = null;

/**
 * @returns {Gpu} to be given back by `release()`
 * @throws {Error} no WebGL2
 */
export function acquireGpu() {
  shared ??= new Gpu();
  shared.users++;
  return shared;
}

export class Gpu {
  constructor() {
    this.users = 0;
    this.speed = FIRST_SPEED; // work per millisecond
    this.listeners = new Set();
    this.canvas = document.createElement("canvas");
    this.canvas.width = this.canvas.height = 1;
    this.gl = this.canvas.getContext("webgl2", {
      alpha: false, antialias: false, depth: false, stencil: false, powerPreference: "high-performance",
    });
    if (!this.gl) throw new Error("This browser offers no WebGL2, which the viewer needs.");
    this.canvas.addEventListener("webglcontextlost", this.#lost);
    this.canvas.addEventListener("webglcontextrestored", this.#restored);
    this.generation = 0; // grows with every context; objects of an older one are gone
    this.#create();
  }

  release() {
    if (--this.users > 0) return;
    if (shared === this) shared = null;
    this.canvas.removeEventListener("webglcontextlost", this.#lost);
    this.canvas.removeEventListener("webglcontextrestored", this.#restored);
    this.#destroy();
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  get lost() {
    return this.gl.isContextLost();
  }

  /** @param {(lost: boolean) => void} listener @returns {() => void} stops listening */
  onChange(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Makes room for a picture on the canvas. */
  resize(width, height) {
    const { canvas } = this;
    if (canvas.width >= width && canvas.height >= height) return;
    canvas.width = Math.max(canvas.width, width);
    canvas.height = Math.max(canvas.height, height);
  }

  /**
   * Textures and framebuffers to draw a picture of up to this size into.
   *
   * @returns {object} to be given to `deletePicture`
   */
  createPicture(width, height) {
    const { gl } = this;
    const texture = this.texture(this.half ? gl.RGBA16F : gl.RGBA8, width, height);
    const depth = gl.createRenderbuffer();
    gl.bindRenderbuffer(gl.RENDERBUFFER, depth);
    gl.renderbufferStorage(gl.RENDERBUFFER, gl.DEPTH_COMPONENT16, width, height);
    const tiles = this.texture(gl.R8, Math.ceil(width / TILE), Math.ceil(height / TILE));
    return {
      texture, depth, tiles, width, height, generation: this.generation, tilesTarget: this.framebuffer([tiles]),
      target: this.framebuffer([texture], depth), marks: this.framebuffer([], depth),
    };
  }

  deletePicture(picture) {
    const { gl } = this;
    if (picture?.generation !== this.generation) return; // gone with its context
    for (const name of ["target", "marks", "tilesTarget"]) gl.deleteFramebuffer(picture[name]);
    gl.deleteTexture(picture.texture);
    gl.deleteTexture(picture.tiles);
    gl.deleteRenderbuffer(picture.depth);
  }

  /** Resolves when the graphics card has done all it was given so far, or has been lost. */
  finished() {
    const { gl } = this;
    const sync = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
    return new Promise((resolve) => {
      const look = () => {
        const over = !sync || gl.isContextLost() || gl.getSyncParameter(sync, gl.SYNC_STATUS) === gl.SIGNALED;
        if (!over) return setTimeout(look, 1);
        gl.deleteSync(sync);
        resolve();
      };
      setTimeout(look, 0);
    });
  }

  /** Notes how long some work took; see SplatRenderer.work. Short times say little: they are mostly waiting. */
  learn(work, milliseconds) {
    const measured = work / Math.max(milliseconds, 0.5);
    if (measured < this.speed && milliseconds < SHORT) return;
    this.speed = 0.4 * this.speed + 0.6 * Math.min(Math.max(measured, this.speed / 16), 8 * this.speed);
  }

  /** Makes room for `count` records. */
  reserveRecords(count) {
    const { gl } = this;
    const rows = Math.max(1, Math.ceil(count / WIDTH));
    if (this.records && this.records.rows >= rows) return;
    const height = Math.min(Math.max(rows, Math.ceil(1.25 * (this.records?.rows ?? 0))), this.maxRows);
    this.#deleteRecords();
    const textures = [0, 1].map(() => this.texture(gl.RGBA32UI, WIDTH, height));
    this.records = { textures, rows: height, target: this.framebuffer(textures), of: null };
  }

  texture(format, width, height) {
    const { gl } = this;
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, format, width, height);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
    return texture;
  }

  framebuffer(textures, depth = null) {
    const { gl } = this;
    const framebuffer = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, framebuffer);
    textures.forEach((texture, i) => {
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + i, gl.TEXTURE_2D, texture, 0);
    });
    gl.drawBuffers(textures.length ? textures.map((_, i) => gl.COLOR_ATTACHMENT0 + i) : [gl.NONE]);
    if (depth) gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.RENDERBUFFER, depth);
    return framebuffer;
  }

  /** Binds textures to units 0, 1, ... and tells the program's samplers. */
  bindTextures(program, textures) {
    const { gl } = this;
    Object.entries(textures).forEach(([name, texture], unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.uniform1i(program.at[name], unit);
    });
  }

  unbindTextures() {
    const { gl } = this;
    for (let unit = 0; unit < 5; unit++) {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, null);
    }
  }

  #create() {
    const { gl } = this;
    this.generation++;
    this.half = Boolean(gl.getExtension("EXT_color_buffer_float") ?? gl.getExtension("EXT_color_buffer_half_float"));
    this.maxRows = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    this.programs = {
      project: this.#program(FULL_SCREEN, PROJECT),
      splat: this.#program(SPLAT_VERTEX, SPLAT_FRAGMENT),
      saturated: this.#program(FULL_SCREEN, SATURATED),
      tiles: this.#program(FULL_SCREEN, TILES),
      resolve: this.#program(FULL_SCREEN, RESOLVE),
    };
    this.vertexArray = gl.createVertexArray(); // empty: shaders find everything by gl_VertexID
    this.records = null;
  }

  #destroy() {
    const { gl } = this;
    this.#deleteRecords();
    for (const { program } of Object.values(this.programs)) gl.deleteProgram(program);
    gl.deleteVertexArray(this.vertexArray);
  }

  #deleteRecords() {
    const { gl, records } = this;
    if (!records) return;
    gl.deleteFramebuffer(records.target);
    records.textures.forEach((texture) => gl.deleteTexture(texture));
    this.records = null;
  }

  #program(vertex, fragment) {
    const { gl } = this;
    const program = gl.createProgram();
    const shaders = [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]].map(([type, source]) => {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
      return shader;
    });
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      const log = shaders.map((shader) => gl.getShaderInfoLog(shader)).join("") + gl.getProgramInfoLog(program);
      throw new Error(`The viewer's shaders do not work with this graphics driver: ${log}`);
    }
    shaders.forEach((shader) => gl.deleteShader(shader));
    const at = {};
    const uniforms = gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS) ?? 0;
    for (let i = 0; i < uniforms; i++) {
      const { name } = gl.getActiveUniform(program, i);
      at[name] = gl.getUniformLocation(program, name);
    }
    return { program, at };
  }

  #lost = (event) => {
    event.preventDefault(); // else it never comes back
    for (const listener of this.listeners) listener(true);
  };

  #restored = () => {
    this.#create();
    for (const listener of this.listeners) listener(false);
  };
}
