/** A stick for fingers: pushed forward it flies ahead, sideways to the side. Shown in fly mode where pointers are coarse. */

const REACH = 36; // pixels from the middle to full speed

export class Stick {
  /**
   * @param {HTMLElement} box over the picture
   * @param {import("./controls.mjs").Controls} controls
   */
  constructor(box, controls) {
    this.controls = controls;
    this.knob = document.createElement("span");
    this.element = document.createElement("div");
    this.element.className = "stick";
    this.element.setAttribute("aria-hidden", "true"); // keys do the same
    this.element.title = "Fly: push forward, back and to the sides";
    this.element.append(this.knob);
    box.append(this.element);
    this.pointer = null;
    for (const [type, listener] of Object.entries({
      pointerdown: this.#down, pointermove: this.#move, pointerup: this.#up, pointercancel: this.#up,
    })) {
      this.element.addEventListener(type, listener);
    }
    this.element.addEventListener("dblclick", (event) => event.stopPropagation());
  }

  show(navigation) {
    this.element.hidden = navigation !== "fly";
  }

  #down = (event) => {
    event.stopPropagation();
    if (this.pointer !== null) return;
    this.pointer = event.pointerId;
    this.element.setPointerCapture(event.pointerId);
    this.#push(event);
  };

  #move = (event) => {
    event.stopPropagation();
    if (event.pointerId === this.pointer) this.#push(event);
  };

  #up = (event) => {
    event.stopPropagation();
    if (event.pointerId !== this.pointer) return;
    this.pointer = null;
    this.knob.style.transform = "";
    this.controls.push(0, 0);
  };

  #push({ clientX, clientY }) {
    const box = this.element.getBoundingClientRect();
    const zoom = box.width / (this.element.offsetWidth || 1) || 1; // of the graph
    const away = [clientX - box.left - box.width / 2, clientY - box.top - box.height / 2].map((pixels) => pixels / zoom);
    const size = Math.max(Math.hypot(...away), REACH);
    const [right, down] = away.map((value) => value / size);
    this.knob.style.transform = `translate(${right * REACH}px, ${down * REACH}px)`;
    this.controls.push(right, -down);
  }
}
