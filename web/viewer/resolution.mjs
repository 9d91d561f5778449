/** Fewer pixels while the camera moves, if pictures take long; all of them as soon as it rests. */

const SLOW = 45; // milliseconds per picture
const QUICK = 18;
const LONG = 250;
const REST = 180; // milliseconds without a move
const STEPS = Object.freeze([1, 0.75, 0.5, 0.35, 0.25]);

export class Resolution {
  constructor(adaptive) {
    this.adaptive = adaptive;
    this.step = 0; // used while moving
    this.lastMove = -Infinity;
    this.frameTime = 0; // milliseconds somebody waited for a picture, smoothed
    this.coarse = false; // the last picture
  }

  get moving() {
    return performance.now() - this.lastMove < REST;
  }

  /**
   * Share of the canvas' width and height to draw.
   *
   * @param {number} [expected] milliseconds that a picture in full is expected to take
   * @param {boolean} [hurry] whether something to see now is worth more than a sharp picture later
   */
  scale(expected = 0, hurry = this.moving) {
    if (!this.adaptive || !hurry) return 1;
    const fits = STEPS.findIndex((step) => expected * step * step <= SLOW);
    return STEPS[Math.max(this.step, fits < 0 ? STEPS.length - 1 : fits)];
  }

  moved() {
    this.lastMove = performance.now();
  }

  /**
   * @param {number} waited milliseconds from the wish for a picture to the picture
   * @param {number} took milliseconds the graphics card was busy with it
   * @param {number} scale it was drawn at
   */
  drawn(waited, took, scale) {
    // A picture that took long is told as it is: the mean of many quick ones would hide it.
    const before = Math.min(this.frameTime, LONG);
    this.frameTime = before && waited < LONG ? 0.8 * before + 0.2 * waited : waited;
    this.coarse = scale < 1;
    if (!this.moving) return;
    if (took > SLOW && this.step < STEPS.length - 1) this.step++;
    else if (took < QUICK && this.step > 0) this.step--;
  }

  /** Milliseconds after which to draw again in full; null if the last picture was. */
  get due() {
    return this.coarse ? REST : null;
  }
}
