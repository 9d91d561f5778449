/** The 3D view: the path with its cameras, over the scene or over the input picture's view. */
import { Surface, onDrag } from "./canvas.mjs";
import { COLORS, pathColor } from "./colors.mjs";
import { focalOfFov, forward, fovOfFocal, add, distance, mix, scale } from "./math3d.mjs";
import { Projection, drawPicture, frustumCorners, trace } from "./projection.mjs";
import { ViewCamera } from "./view_camera.mjs";

const PICK = 12; // pixels
const NOTHING = "no picture";
const THROUGH = 0.94; // how much of the view a picture fills when looking through a camera

export class View3D {
  /**
   * @param {{model: () => object, select: (index: number) => void, redraw: () => void, leave: () => void,
   *   command: (event: KeyboardEvent) => void}} editor `model` gives what is drawn (see Editor), `leave` ends looking
   *   through a camera
   */
  constructor(editor) {
    this.editor = editor;
    this.camera = new ViewCamera();
    this.free = false; // moved by the user, who then says when to frame
    this.framedWith = null; // the picture that was there when the path was framed last
    this.surface = new Surface(
      "3D view of the camera path. Drag to turn, Shift and drag to shift, wheel to come closer; " +
        "W A S D Q E to move, arrow keys to turn, F to see everything, K to add a keyframe here.",
      () => editor.redraw(),
    );
    this.surface.canvas.dataset.captureWheel = "true";
    this.#listen();
  }

  get element() {
    return this.surface.canvas;
  }

  get elements() {
    return this.surface.elements;
  }

  /** The camera that would be drawn through, with the field of view that shows all of its picture. */
  viewing(model) {
    if (!model.through) return this.camera;
    const [width, height] = this.surface.size;
    const focal = focalOfFov(model.through.fov) * Math.min(1, width / height / model.aspect) * THROUGH;
    return { ...model.through, fov: fovOfFocal(focal) };
  }

  /** Shows the whole path. */
  frame(model = this.editor.model()) {
    const { center, radius } = extentOf(model, Boolean(model.picture));
    const [width, height] = this.surface.size;
    this.camera.frame(center, radius, width / height || 1);
    this.framedWith = model.picture ?? NOTHING;
  }

  draw(model) {
    if (!this.surface.begin(model.scene ? null : COLORS.back)) return;
    // Presets stay in sight as they change; nothing jumps while keyframes are edited.
    if (!this.free && (!model.keys.length || this.framedWith !== (model.picture ?? NOTHING))) this.frame(model);
    const [width, height] = this.surface.size;
    const { radius, bottom, center } = extentOf(model);
    const camera = this.viewing(model);
    const projection = new Projection(camera, width, height, Math.max(radius * 1e-3, 1e-6));
    model.scene?.show(camera);
    if (!model.scene) this.#drawGrid(projection, center, bottom, radius);
    if (!model.scene && model.picture && model.home) this.#drawInput(projection, model);
    if (!model.through) this.#drawPath(projection, model, radius);
    if (model.through) this.#drawGuide(model, camera);
  }

  #drawGrid(projection, center, bottom, radius) {
    const { context } = this.surface;
    const step = niceStep(radius / 2);
    const reach = 8;
    const [x0, z0] = [Math.round(center[0] / step), Math.round(center[2] / step)];
    context.lineWidth = 1;
    context.strokeStyle = COLORS.grid;
    context.beginPath();
    for (let i = -reach; i <= reach; i++) {
      const [x, z] = [(x0 + i) * step, (z0 + i) * step];
      trace(context, projection, [x, bottom, (z0 - reach) * step], [x, bottom, (z0 + reach) * step]);
      trace(context, projection, [(x0 - reach) * step, bottom, z], [(x0 + reach) * step, bottom, z]);
    }
    context.stroke();
  }

  /** The input picture, as far ahead of its camera as what the path circles. */
  #drawInput(projection, model) {
    const corners = frustumCorners(model.home, model.aspect, model.focus);
    const { context } = this.surface;
    drawPicture(context, projection, model.picture, corners);
    if (model.through) return;
    context.strokeStyle = COLORS.faint;
    context.lineWidth = 1;
    context.beginPath();
    corners.forEach((corner, i) => {
      trace(context, projection, model.home.position, corner);
      trace(context, projection, corner, corners[(i + 1) % 4]);
    });
    context.stroke();
  }

  #drawPath(projection, model, radius) {
    const { context } = this.surface;
    const { curve, path, keys, selected, aspect } = model;
    const size = 0.16 * radius;
    context.lineWidth = 1;
    const every = Math.max(1, Math.ceil(path.length / 24));
    path.forEach((camera, i) => {
      if (i % every) return;
      context.strokeStyle = pathColor(path.length > 1 ? i / (path.length - 1) : 0, 0.35);
      this.#drawFrustum(projection, camera, aspect, 0.7 * size);
    });
    context.lineWidth = 2.5;
    context.lineCap = "round";
    for (let i = 0; i + 1 < curve.length; i++) {
      context.strokeStyle = pathColor(i / (curve.length - 1));
      context.beginPath();
      trace(context, projection, curve[i], curve[i + 1]);
      context.stroke();
    }
    keys.forEach((key, i) => {
      context.strokeStyle = i === selected ? COLORS.selected : COLORS.key;
      context.lineWidth = i === selected ? 2 : 1.25;
      this.#drawFrustum(projection, key, aspect, size);
      this.#drawDot(projection, key.position, i === selected ? 5 : 3.5, context.strokeStyle, i + 1);
    });
    if (model.playhead && !model.through) {
      context.strokeStyle = COLORS.playhead;
      context.lineWidth = 2;
      this.#drawFrustum(projection, model.playhead, aspect, size);
    }
  }

  #drawFrustum(projection, camera, aspect, depth) {
    const { context } = this.surface;
    const corners = frustumCorners(camera, aspect, depth);
    context.beginPath();
    corners.forEach((corner, i) => {
      trace(context, projection, camera.position, corner);
      trace(context, projection, corner, corners[(i + 1) % 4]);
    });
    // A roof over the picture's top, so that up is seen.
    const above = add(mix(corners[0], corners[1], 0.5), scale(add(corners[0], scale(corners[3], -1)), 0.18));
    trace(context, projection, corners[0], above);
    trace(context, projection, above, corners[1]);
    context.stroke();
  }

  #drawDot(projection, position, size, color, label) {
    const at = projection.point(position);
    if (!at) return;
    const { context } = this.surface;
    context.beginPath();
    context.arc(at[0], at[1], size, 0, 2 * Math.PI);
    context.fillStyle = color;
    context.fill();
    context.font = "600 11px system-ui, sans-serif";
    context.fillStyle = COLORS.text;
    context.fillText(String(label), at[0] + 7, at[1] - 6);
  }

  /** The edge of the picture of the camera that is looked through. */
  #drawGuide(model, camera) {
    const { context } = this.surface;
    const [width, height] = this.surface.size;
    const tall = (height * focalOfFov(camera.fov)) / focalOfFov(model.through.fov);
    const wide = tall * model.aspect;
    const [x, y] = [(width - wide) / 2, (height - tall) / 2];
    context.fillStyle = "rgba(10, 11, 14, 0.55)";
    context.beginPath();
    context.rect(0, 0, width, height);
    context.rect(x, y, wide, tall);
    context.fill("evenodd");
    context.strokeStyle = COLORS.playhead;
    context.lineWidth = 1.5;
    context.strokeRect(x, y, wide, tall);
  }

  #listen() {
    const { canvas } = this.surface;
    onDrag(this.surface, (start, event) => {
      const model = this.editor.model();
      this.#leaveThrough(model);
      const shifting = event.shiftKey || event.button > 0;
      let last = start;
      let moved = 0;
      return {
        move: (place) => {
          const [dx, dy] = [place[0] - last[0], place[1] - last[1]];
          last = place;
          moved += Math.abs(dx) + Math.abs(dy);
          if (moved < 3) return;
          this.free = true;
          if (shifting) this.#shift(dx, dy);
          else if (model.through || event.altKey) this.camera.look(-0.25 * dx, 0.25 * dy);
          else this.camera.orbit(0.4 * dx, -0.4 * dy);
          this.editor.redraw();
        },
        end: () => {
          if (moved < 3 && event.button === 0) this.#pick(start);
        },
      };
    });
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (!this.surface.focused) return; // the graph zooms until the view has been clicked
        event.preventDefault();
        event.stopPropagation();
        this.#leaveThrough(this.editor.model());
        this.free = true;
        this.camera.zoom(Math.exp(0.0012 * event.deltaY));
        this.editor.redraw();
      },
      { passive: false },
    );
    this.surface.keys.addEventListener("keydown", (event) => {
      if (!this.#key(event)) this.editor.command(event);
      else event.preventDefault();
    });
  }

  #shift(dx, dy) {
    const unit = this.camera.distance / (focalOfFov(this.camera.fov) * this.surface.size[1]);
    this.camera.move(-dx * unit, -dy * unit, 0);
  }

  /** From looking through a camera, stay where it is. */
  #leaveThrough(model) {
    if (!model.through) return;
    this.camera.pose = { position: model.through.position, quaternion: model.through.quaternion };
    this.camera.fov = model.through.fov;
    this.camera.distance = model.focus;
    this.free = true;
    this.editor.leave();
  }

  #pick(place) {
    const model = this.editor.model();
    const projection = new Projection(this.camera, ...this.surface.size, 1e-6);
    let [best, nearest] = [-1, PICK];
    model.keys.forEach((key, i) => {
      const at = projection.point(key.position);
      const off = at ? Math.hypot(at[0] - place[0], at[1] - place[1]) : Infinity;
      if (off < nearest) [best, nearest] = [i, off];
    });
    if (best >= 0) this.editor.select(best);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const model = this.editor.model();
    const step = 0.04 * this.camera.distance * (event.shiftKey ? 4 : 1);
    const moves = { w: [0, 0, 1], s: [0, 0, -1], a: [-1, 0, 0], d: [1, 0, 0], q: [0, 1, 0], e: [0, -1, 0] };
    const turns = { ArrowLeft: [-3, 0], ArrowRight: [3, 0], ArrowUp: [0, 3], ArrowDown: [0, -3] };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (moves[key]) {
      this.#leaveThrough(model);
      this.camera.move(...moves[key].map((value) => value * step));
    } else if (turns[key]) {
      const through = Boolean(model.through);
      this.#leaveThrough(model);
      if (through) this.camera.look(...turns[key]);
      else this.camera.orbit(...turns[key]);
    } else if (key === "f" || key === "Home") this.editor.fit();
    else return false;
    this.free = key !== "f" && key !== "Home";
    this.editor.redraw();
    return true;
  }

  dispose() {
    this.surface.dispose();
  }
}

/**
 * A sphere around everything the editor draws, and the height (largest y) it reaches down to.
 *
 * @param {boolean} picture with all of the input picture, not only its middle
 */
export function extentOf(model, picture = false) {
  const points = [...model.curve, ...model.keys.map((key) => key.position)];
  const { home } = model;
  if (home && picture) points.push(...frustumCorners(home, model.aspect, model.focus));
  else if (home) points.push(add(home.position, scale(forward(home), model.focus)));
  if (points.length === 0) points.push([0, 0, 0], [0, 0, model.focus]);
  const least = [0, 1, 2].map((k) => Math.min(...points.map((point) => point[k])));
  const most = [0, 1, 2].map((k) => Math.max(...points.map((point) => point[k])));
  const center = mix(least, most, 0.5);
  const radius = Math.max(distance(least, most) / 2, 0.35 * model.focus, 1e-3);
  return { center, radius, bottom: most[1] + 0.35 * radius };
}

/** 1, 2 or 5 times a power of ten, at most `size`. */
export function niceStep(size) {
  const power = 10 ** Math.floor(Math.log10(size));
  const times = size / power;
  return (times >= 5 ? 5 : times >= 2 ? 2 : 1) * power;
}
