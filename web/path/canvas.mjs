/** A canvas that keeps its pixels as fine as the screen shows them, inside a graph that zooms. */
import { element } from "./dom.mjs";

const MAX_SCALE = 3;

/**
 * `canvas` is drawn on and takes the pointer; `keys` lies under it and takes the keyboard: an input that cannot be
 * written in. ComfyUI undoes and copies in the whole graph on the keys of a focused canvas, and leaves those of an
 * input alone; being read-only, it starts no input method and no keyboard on the screen.
 */
export class Surface {
  /** @param {() => void} changed called when the size has changed */
  constructor(label, changed) {
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("aria-hidden", "true");
    this.keys = element("input", {
      class: "fwp-keys", type: "text", readOnly: true, inputMode: "none", role: "application", "aria-label": label,
    });
    this.context = this.canvas.getContext("2d");
    this.observer = new ResizeObserver(changed);
    this.observer.observe(this.canvas);
  }

  /** Both, to be put into one positioned box. */
  get elements() {
    return [this.keys, this.canvas];
  }

  focus() {
    this.keys.focus({ preventScroll: true });
  }

  get focused() {
    return document.activeElement === this.keys;
  }

  /** Size in CSS pixels before the graph's zoom; [0, 0] while hidden. */
  get size() {
    return [this.canvas.clientWidth, this.canvas.clientHeight];
  }

  /** Makes the canvas ready to draw in CSS pixels, clear where no background is given; false if there is nothing to draw on. */
  begin(background) {
    const [width, height] = this.size;
    if (width < 2 || height < 2) return false;
    const shown = this.canvas.getBoundingClientRect().width / width || 1; // the graph's zoom
    const fine = Math.min(Math.max(devicePixelRatio * shown, 1), MAX_SCALE);
    const [pixelsX, pixelsY] = [Math.round(width * fine), Math.round(height * fine)];
    if (this.canvas.width !== pixelsX || this.canvas.height !== pixelsY) {
      this.canvas.width = pixelsX;
      this.canvas.height = pixelsY;
    }
    this.context.setTransform(pixelsX / width, 0, 0, pixelsY / height, 0, 0);
    this.context.clearRect(0, 0, width, height);
    if (background) {
      this.context.fillStyle = background;
      this.context.fillRect(0, 0, width, height);
    }
    return true;
  }

  /** Place of a pointer or wheel event in CSS pixels before the graph's zoom. */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const [width, height] = this.size;
    return [((event.clientX - box.left) * width) / box.width, ((event.clientY - box.top) * height) / box.height];
  }

  dispose() {
    this.observer.disconnect();
    this.canvas.width = this.canvas.height = 0;
    for (const item of this.elements) item.remove();
  }
}

/**
 * Drags on a canvas, one pointer at a time.
 *
 * @param {Surface} surface
 * @param {(place: number[], event: PointerEvent) => null | {move: (place: number[], event: PointerEvent) => void,
 *   end?: () => void}} begin what a press starts
 */
export function onDrag(surface, begin) {
  const { canvas } = surface;
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (drag || event.button > 2) return;
    surface.focus();
    drag = begin(surface.place(event), event);
    if (drag) {
      drag.pointer = event.pointerId;
      canvas.setPointerCapture(event.pointerId);
    }
    event.stopPropagation();
  });
  canvas.addEventListener("mousedown", (event) => {
    event.preventDefault(); // the focus stays where the pointerdown has put it; no automatic scrolling
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag || drag.pointer !== event.pointerId) return;
    drag.move(surface.place(event), event);
    event.stopPropagation();
  });
  const finish = (event) => {
    if (!drag || drag.pointer !== event.pointerId) return;
    const { end } = drag;
    drag = null;
    end?.();
  };
  canvas.addEventListener("pointerup", finish);
  canvas.addEventListener("pointercancel", finish);
  canvas.addEventListener("contextmenu", (event) => {
    event.preventDefault();
    event.stopPropagation();
  });
}
