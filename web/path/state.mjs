/**
 * The editor's state: the document, the selected keyframe, undo and redo. What counts is always the node's widgets;
 * this reads them, and writes every change back at once.
 */
import { emptyDocument, parseDocument, writeDocument } from "./document.mjs";

const HISTORY = 200;

export class PathState extends EventTarget {
  #undo = [];
  #redo = [];
  #text = null;
  #merging = null;

  /**
   * @param {{values: () => object, write: (values: object) => void, finish?: () => void}} host the node's widget values by name; `write`
   *   sets some of them; `finish`, if there is one, is called when a change is complete (a drag has ended). Of the
   *   values, this uses `source` and `keyframes`.
   */
  constructor(host) {
    super();
    this.host = host;
    this.document = emptyDocument();
    this.error = "";
    this.selected = -1;
    this.refresh();
  }

  get values() {
    return this.host.values();
  }

  get editing() {
    return this.values.source === "keyframes";
  }

  get key() {
    return this.document.keyframes[this.selected] ?? null;
  }

  get canUndo() {
    return this.#undo.length > 0;
  }

  get canRedo() {
    return this.#redo.length > 0;
  }

  /** Reads the widgets; a text that was not written here (a loaded workflow) begins a new history. */
  refresh() {
    const text = String(this.values.keyframes ?? "");
    if (text !== this.#text) {
      this.#text = text;
      this.#undo = [];
      this.#redo = [];
      this.#merging = null;
      try {
        this.document = parseDocument(text);
        this.error = "";
      } catch (error) {
        this.document = emptyDocument();
        this.error = error.message;
      }
      this.selected = Math.min(this.selected, this.document.keyframes.length - 1);
    }
    this.#changed();
  }

  select(index) {
    this.selected = Math.max(-1, Math.min(index, this.document.keyframes.length - 1));
    this.endMerge();
    this.#changed();
  }

  /**
   * One change, which one undo takes back. It also makes keyframes the node's source.
   *
   * @param {(document: object) => object} change
   * @param {{select?: number, merge?: string}} options `select`: the keyframe selected after it; `merge`: changes of
   *   the same name that follow each other (a drag) are one
   */
  edit(change, { select = this.selected, merge = null } = {}) {
    const document = change(this.document);
    if (document === this.document) return;
    if (merge === null || merge !== this.#merging) {
      this.#undo.push(this.#snapshot());
      if (this.#undo.length > HISTORY) this.#undo.shift();
      this.#redo = [];
    }
    this.#merging = merge;
    this.#apply({ document, source: "keyframes", selected: select }, merge !== null);
  }

  /** Ends a series of merged changes. */
  endMerge() {
    if (this.#merging !== null) this.host.finish?.();
    this.#merging = null;
  }

  undo() {
    this.#step(this.#undo, this.#redo);
  }

  redo() {
    this.#step(this.#redo, this.#undo);
  }

  #step(from, to) {
    if (from.length === 0) return;
    this.endMerge();
    to.push(this.#snapshot());
    this.#apply(from.pop());
  }

  #snapshot() {
    return { document: this.document, source: this.values.source, selected: this.selected };
  }

  #apply({ document, source, selected }, more = false) {
    this.document = document;
    this.error = "";
    this.selected = Math.max(-1, Math.min(selected, document.keyframes.length - 1));
    this.#text = writeDocument(document);
    this.host.write({ keyframes: this.#text, source });
    if (!more) this.host.finish?.();
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
