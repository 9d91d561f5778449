/** Play, scrub, undo and redo. */
import { button, element } from "./dom.mjs";

const FRAMES_PER_SECOND = 24;
const SHORTEST = 0.5; // seconds a path takes at least

export class Bar {
  #frame = null; // the animation frame asked for while playing

  /** @param {object} editor `seek(time)` is called with every move of the playhead, time from 0 to 1 */
  constructor(editor) {
    this.editor = editor;
    this.time = 0;
    this.play = button("▶", "Play the path", () => this.toggle());
    this.play.className = "fwp-play";
    this.scrub = element("input", {
      type: "range", min: "0", max: "1000", value: "0", "aria-label": "Place on the path",
      title: "Place on the path", oninput: () => this.#go(this.scrub.value / 1000),
    });
    this.count = element("span", { class: "fwp-frame" });
    this.undo = button("↶", "Undo (Ctrl+Z)", () => editor.state.undo());
    this.redo = button("↷", "Redo (Ctrl+Shift+Z)", () => editor.state.redo());
    this.element = element("div", { class: "fwp-row" }, this.play, this.scrub, this.count, this.undo, this.redo);
  }

  get playing() {
    return this.#frame !== null;
  }

  toggle() {
    if (this.playing) return this.stop();
    const length = 1000 * Math.max(this.editor.state.values.frames / FRAMES_PER_SECOND, SHORTEST);
    const began = performance.now() - (this.time < 1 ? this.time : 0) * length;
    const step = (now) => {
      this.#frame = requestAnimationFrame(step);
      this.#go(Math.min(Math.max((now - began) / length, 0), 1));
      if (this.time === 1) this.stop();
    };
    this.#frame = requestAnimationFrame(step);
    this.editor.redraw();
  }

  stop() {
    if (this.playing) cancelAnimationFrame(this.#frame);
    this.#frame = null;
    this.editor.redraw();
  }

  #go(time) {
    this.time = time;
    this.editor.seek();
  }

  /** Brings the controls up to date. */
  show({ canUndo, canRedo, values: { frames } }) {
    this.play.value = this.playing ? "❚❚" : "▶";
    this.play.setAttribute("aria-label", this.playing ? "Pause" : "Play the path");
    if (document.activeElement !== this.scrub) this.scrub.value = String(Math.round(this.time * 1000));
    this.count.textContent = `${Math.round(this.time * (frames - 1)) + 1} / ${frames}`;
    this.undo.disabled = !canUndo;
    this.redo.disabled = !canRedo;
  }
}
