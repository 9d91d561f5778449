/** The elements of a viewer, in a shadow tree that keeps the page's styles out and ours in. */
import { STYLE } from "./style.mjs";

/**
 * @param {HTMLElement} element gets one child
 * @returns {{holder: HTMLElement, root: HTMLElement, picture: HTMLElement, status: HTMLElement, message: HTMLElement}}
 *   the child; what has the keyboard focus; what takes the pointer; two lines of text over the picture
 */
export function buildShell(element) {
  const holder = document.createElement("div");
  holder.dataset.captureWheel = "true"; // a graph editor leaves the wheel to us while we have the focus
  Object.assign(holder.style, { width: "100%", height: "100%", minHeight: "0" });
  const style = document.createElement("style");
  style.textContent = STYLE;
  const root = document.createElement("section");
  root.className = "viewer";
  root.tabIndex = 0;
  root.setAttribute("aria-label", "3D scene");
  const picture = document.createElement("div");
  picture.className = "picture";
  const [status, message] = [["status", "status"], ["message", "alert"]].map(([name, role]) => {
    const line = document.createElement("p");
    line.className = name;
    line.setAttribute("role", role);
    line.hidden = true;
    return line;
  });
  picture.append(status, message);
  root.append(picture);
  holder.attachShadow({ mode: "open" }).append(style, root);
  element.append(holder);
  return { holder, root, picture, status, message };
}

/** Shows a line with a text, or hides it if there is none. */
export function say(line, text) {
  line.textContent = text;
  line.hidden = !text;
}

/** Over the whole page, in the browser's top layer, because a graph editor transforms what it contains; or back. */
export function fillWindow(root, on) {
  root.classList.toggle("full", on);
  if (!root.showPopover) return; // an older browser: over the nearest transformed ancestor at least
  if (on) {
    root.popover = "manual";
    root.showPopover();
  } else {
    root.hidePopover();
    root.removeAttribute("popover");
  }
}
