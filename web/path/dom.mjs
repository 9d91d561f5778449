/** Small helpers for building the editor's elements. */

/** An element with properties, and `aria-*`/`data-*`/`role` attributes, and children. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (/^(aria-|data-|role$|for$)/.test(name)) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/**
 * A button. It is an input element because ComfyUI leaves Ctrl+Z to those, and undoes in the whole graph for others.
 *
 * @param {string} label what is on it
 * @param {string} description what it does, for the tooltip and for screen readers
 */
export function button(label, description, click) {
  return element("input", { type: "button", value: label, title: description, "aria-label": description, onclick: click });
}

/** A labeled number field; `changed` gets the number on every input and `done` is called when it is left. */
export function numberField(label, description, { step, min = null, max = null, changed, done }) {
  const input = element("input", { type: "number", step: String(step), title: description, "aria-label": description });
  if (min !== null) input.min = String(min);
  if (max !== null) input.max = String(max);
  input.addEventListener("input", () => changed(input.value.trim() === "" ? null : Number(input.value)));
  input.addEventListener("change", done);
  return { input, row: element("label", { class: "fwp-field" }, element("span", {}, label), input) };
}

/** Shows a number in a field unless somebody is typing in it. */
export function showNumber(input, value, digits) {
  if (document.activeElement === input) return;
  input.value = value === null ? "" : String(Number(value.toFixed(digits)) + 0);
}

/** A labeled choice. @param {[string, string][]} options value and text */
export function choice(label, description, options, changed) {
  const select = element("select", { title: description, "aria-label": description });
  select.append(...options.map(([value, text]) => element("option", { value, textContent: text })));
  select.addEventListener("change", () => changed(select.value));
  return { select, row: element("label", { class: "fwp-field" }, element("span", {}, label), select) };
}
