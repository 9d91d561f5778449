/** Moves the camera along a path. */
import { mix } from "./camera.mjs";

const VIEWS_PER_SECOND = 12;

export class Player {
  /**
   * @param {import("./stage.mjs").Stage} stage
   * @param {() => void} onChange after every change of `index`, `playing` or the path
   */
  constructor(stage, onChange) {
    this.stage = stage;
    this.onChange = onChange;
    this.cameras = [];
    this.index = 0; // may lie between two cameras
    this.playing = false;
  }

  setCameras(cameras) {
    this.cameras = cameras;
    this.index = Math.min(this.index, Math.max(0, cameras.length - 1));
    if (cameras.length < 2) this.pause();
    this.onChange();
  }

  seek(index) {
    const { cameras } = this;
    if (!cameras.length || !Number.isFinite(index)) return;
    this.index = Math.min(Math.max(index, 0), cameras.length - 1);
    const low = Math.floor(this.index);
    const rest = this.index - low;
    this.stage.setPose(rest === 0 ? cameras[low] : mix(cameras[low], cameras[low + 1], rest));
    this.stage.redraw();
    this.onChange();
  }

  play() {
    if (this.playing || this.cameras.length < 2) return;
    this.playing = true;
    if (this.index >= this.cameras.length - 1) this.index = 0;
    this.stage.steps.add(this.#step);
    this.stage.redraw();
    this.onChange();
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.stage.steps.delete(this.#step);
    this.onChange();
  }

  #step = (seconds) => {
    if (!this.playing) return false;
    const end = this.cameras.length - 1;
    const next = this.index + VIEWS_PER_SECOND * seconds;
    this.seek(next > end ? 0 : next); // around again
    return true;
  };
}
