/** A line over the picture that says when a view takes long to draw, with a button that thins the splats out, or back. */

const LONG = 1000; // milliseconds that are worth a word
const AIM = 250; // milliseconds that a picture should take with fewer splats
const LEAST = 0.01; // share of the splats that is left at least by one press

export class SlowNotice {
  /**
   * @param {HTMLElement} box over the picture
   * @param {import("./stage.mjs").Stage} stage
   */
  constructor(box, stage) {
    this.stage = stage;
    this.text = document.createElement("span");
    this.button = document.createElement("button");
    this.button.type = "button";
    this.button.addEventListener("click", () => this.#press());
    this.element = document.createElement("div");
    this.element.className = "slow";
    this.element.setAttribute("role", "status");
    this.element.hidden = true;
    this.element.append(this.text, this.button);
    for (const type of ["pointerdown", "dblclick"]) this.element.addEventListener(type, (event) => event.stopPropagation());
    box.append(this.element);
  }

  /** While a picture is in work: for how many seconds, and the share of it that is done. */
  working(seconds, done) {
    const whole = seconds / Math.max(done, 0.01);
    this.#show(`This view takes about ${Math.ceil(whole)} s to draw (${Math.round(100 * done)} % done).`, 1000 * whole);
  }

  /** After every picture. */
  shown() {
    const { frameTime, share } = this.stage;
    if (frameTime > LONG) this.#show(`This view took ${(frameTime / 1000).toFixed(1)} s to draw.`, frameTime);
    else if (share < 1) this.#show(`${percent(share)} of the splats are drawn.`, 0);
    else this.element.hidden = true;
  }

  #show(text, time) {
    this.time = time;
    this.text.textContent = text;
    this.button.textContent = time ? "Fewer splats" : "All splats";
    this.button.title = time ? "Draw only some of the splats of this scene, so that it can be moved" : "Draw all splats again";
    this.element.hidden = false;
  }

  #press() {
    const { stage, time } = this;
    stage.setShare(time ? stage.share * Math.max(LEAST, Math.min(AIM / time, 0.5)) : 1);
    this.element.hidden = true;
  }
}

const percent = (share) => `${share < 0.1 ? Number((100 * share).toPrecision(1)) : Math.round(100 * share)} %`;
