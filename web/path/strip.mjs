/** The keyframes as a strip of cards: chosen, added, deleted, put in another order. */
import { button, element } from "./dom.mjs";
import { remove, reorder } from "./edits.mjs";

const DRAG = 6; // pixels before a press becomes a drag

let strips = 0;

export class Strip {
  /** @param {object} editor the Editor */
  constructor(editor) {
    this.editor = editor;
    this.name = `flashworld-keyframes-${++strips}`; // radio buttons of one strip share a name
    this.cards = element("div", { class: "fwp-cards", role: "radiogroup", "aria-label": "Keyframes" });
    this.add = button("+ Add view", "Add a keyframe where the 3D view stands now (K)", () => editor.addHere());
    this.set = button("Set to view", "Move the selected keyframe to where the 3D view stands now", () => editor.setHere());
    this.delete = button("Delete", "Delete the selected keyframe (Delete)", () => this.#delete());
    this.earlier = button("‹", "Move the selected keyframe one place earlier (Alt+Left)", () => this.#shift(-1));
    this.later = button("›", "Move the selected keyframe one place later (Alt+Right)", () => this.#shift(1));
    const tools = element("div", { class: "fwp-row" }, this.add, this.set, this.earlier, this.later, this.delete);
    this.element = element("div", { class: "fwp-strip" }, this.cards, tools);
    this.cards.addEventListener("pointerdown", (event) => this.#press(event));
    this.cards.addEventListener("keydown", (event) => this.#key(event));
  }

  show({ document, selected }) {
    const keys = document.keyframes;
    const focused = this.cards.contains(window.document.activeElement);
    while (this.cards.children.length > keys.length) this.cards.lastChild.remove();
    while (this.cards.children.length < keys.length) this.cards.append(this.#card(this.cards.children.length));
    keys.forEach((key, i) => this.#fill(this.cards.children[i], key, i, i === selected, document.timing));
    for (const tool of [this.set, this.delete]) tool.disabled = selected < 0;
    this.earlier.disabled = selected <= 0;
    this.later.disabled = selected < 0 || selected === keys.length - 1;
    this.cards.dataset.empty = keys.length ? "" : "No keyframes yet: fly the 3D view somewhere and add it.";
    const chosen = this.cards.children[Math.max(selected, 0)];
    if (selected >= 0 && this.shown !== selected) this.#reveal(chosen);
    this.shown = selected;
    if (focused && chosen) chosen.querySelector("input").focus({ preventScroll: true });
  }

  /** Scrolls the strip, and nothing around it. */
  #reveal(card) {
    const left = card.offsetLeft - this.cards.offsetLeft;
    const { scrollLeft, clientWidth } = this.cards;
    if (left < scrollLeft) this.cards.scrollLeft = left;
    else if (left + card.offsetWidth > scrollLeft + clientWidth) this.cards.scrollLeft = left + card.offsetWidth - clientWidth;
  }

  #card(i) {
    const radio = element("input", { type: "radio", name: this.name, onchange: () => this.editor.select(i) });
    return element("label", { class: "fwp-card" }, radio, element("b", {}), element("small", {}));
  }

  #fill(card, key, i, chosen, timing) {
    const [radio, number, detail] = card.children;
    radio.checked = chosen;
    number.textContent = String(i + 1);
    const lens = key.vertical_fov_degrees === null ? "" : `${Number(key.vertical_fov_degrees.toFixed(1))}°`;
    const time = timing === "times" && key.time !== null ? `${Number(key.time.toFixed(2))} s` : "";
    detail.textContent = [time, lens].filter(Boolean).join(" ");
    const where = key.position.map((value) => Number(value.toFixed(2))).join(", ");
    radio.setAttribute("aria-label", `Keyframe ${i + 1} at ${where} ${time} ${lens}`.trim());
    card.title = `Keyframe ${i + 1}: click to select, double-click to look through it, drag to put it elsewhere`;
    card.classList.toggle("fwp-chosen", chosen);
  }

  #delete() {
    const index = this.editor.state.selected;
    if (index < 0) return;
    const left = this.editor.state.document.keyframes.length - 2;
    this.editor.edit((document) => remove(document, index), { select: Math.min(index, left) });
  }

  #shift(by) {
    const from = this.editor.state.selected;
    const to = from + by;
    if (from < 0 || to < 0 || to >= this.editor.state.document.keyframes.length) return;
    this.editor.edit((document) => reorder(document, from, to), { select: to });
  }

  #key(event) {
    if (event.altKey && event.key === "ArrowLeft") this.#shift(-1);
    else if (event.altKey && event.key === "ArrowRight") this.#shift(1);
    else if (event.key === "Enter") this.editor.lookThrough(true);
    else return; // the rest is the editor's, or the radio buttons' own
    event.preventDefault();
    event.stopPropagation();
  }

  /** Deletes the selected keyframe on behalf of the editor's keyboard commands. */
  deleteSelected() {
    this.#delete();
  }

  #press(event) {
    const card = event.target.closest?.(".fwp-card");
    if (!card || event.button !== 0) return;
    event.stopPropagation();
    const from = [...this.cards.children].indexOf(card);
    const start = event.clientX;
    let to = from;
    let dragging = false;
    const move = (now) => {
      if (!dragging && Math.abs(now.clientX - start) < DRAG) return;
      if (!dragging) {
        dragging = true;
        this.cards.setPointerCapture(event.pointerId);
        card.classList.add("fwp-dragged");
      }
      to = this.#slot(now.clientX, from);
      [...this.cards.children].forEach((other, i) => {
        other.classList.toggle("fwp-before", to < from && i === to);
        other.classList.toggle("fwp-after", to > from && i === to);
      });
    };
    const end = (last) => {
      this.cards.removeEventListener("pointermove", move);
      this.cards.removeEventListener("pointerup", end);
      this.cards.removeEventListener("pointercancel", end);
      for (const other of this.cards.children) other.classList.remove("fwp-before", "fwp-after", "fwp-dragged");
      if (last.type === "pointercancel" || !dragging) return;
      if (to !== from) this.editor.edit((document) => reorder(document, from, to), { select: to });
    };
    this.cards.addEventListener("pointermove", move);
    this.cards.addEventListener("pointerup", end);
    this.cards.addEventListener("pointercancel", end);
  }

  /** The place in the order that a card dropped at `x` (screen) would take. */
  #slot(x, from) {
    let to = 0;
    [...this.cards.children].forEach((card, i) => {
      const box = card.getBoundingClientRect();
      if (i !== from && x > box.left + box.width / 2) to += 1;
    });
    return to;
  }
}
