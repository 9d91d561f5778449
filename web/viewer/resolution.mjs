/** Fewer pixels while the camera moves, if frames take long; all of them as soon as it rests. */

const SLOW = 45; // milliseconds per frame
const QUICK = 18;
const REST = 180; // milliseconds without a move
const STEPS = Object.freeze([1, 0.75, 0.5]);

export class Resolution {
  constructor(adaptive) {
    this.adaptive = adaptive;
    this.step = 0; // used while moving
    this.lastMove = -Infinity;
    this.frameTime = 0; // milliseconds, smoothed
    this.lastDraw = null;
    this.coarse = false; // the last picture
  }

  get moving() {
    return performance.now() - this.lastMove < REST;
  }

  /** Share of the canvas' width and height to draw. */
  get scale() {
    return this.adaptive && this.moving ? STEPS[this.step] : 1;
  }

  moved() {
    this.lastMove = performance.now();
  }

  /** @param now time of the frame; @param busy milliseconds this thread was busy with it */
  drawn(now, busy) {
    const wasMoving = this.moving;
    const gap = this.lastDraw === null ? Infinity : now - this.lastDraw;
    this.lastDraw = now;
    // Between frames that follow one another the gap is the better measure: the graphics card works on its own.
    const time = wasMoving && gap < 1000 ? Math.max(gap, busy) : busy;
    this.frameTime = this.frameTime ? 0.8 * this.frameTime + 0.2 * time : time;
    this.coarse = this.scale < 1;
    if (!wasMoving) return;
    if (time > SLOW && this.step < STEPS.length - 1) this.step++;
    else if (busy < QUICK && gap < SLOW / 2 && this.step > 0) this.step--;
  }

  /** Milliseconds after which to draw again in full; null if the last picture was. */
  get due() {
    return this.coarse ? REST : null;
  }
}
