/** Starts the viewer on a page with a scene inside (formats/scenes/html.py): the whole window, nothing fetched. */
import { createViewer } from "./viewer.mjs";

const STEP = 1 << 20; // characters of base64 at a time, a multiple of 4

/** @returns {Promise<string>} address of the preview stream that stands in the page as gzip in base64 */
async function sceneAddress(element) {
  const text = element.textContent.trim();
  const parts = [];
  for (let start = 0; start < text.length; start += STEP) {
    const part = atob(text.slice(start, start + STEP));
    const bytes = new Uint8Array(part.length);
    for (let i = 0; i < part.length; i++) bytes[i] = part.charCodeAt(i);
    parts.push(bytes);
  }
  element.remove();
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("gzip"));
  return URL.createObjectURL(await new Response(stream).blob());
}

async function start() {
  const about = JSON.parse(document.getElementById("about").textContent);
  const viewer = createViewer(document.getElementById("viewer"), { settings: { path: false } });
  window.viewer = viewer;
  viewer.setStatus("Opening ...");
  const address = await sceneAddress(document.getElementById("scene"));
  try {
    await viewer.load(address, { cameras: about.cameras });
  } finally {
    viewer.setStatus("");
    URL.revokeObjectURL(address);
  }
}

start().catch((error) => {
  const text = document.createElement("p");
  text.setAttribute("role", "alert");
  text.style.cssText = "position: fixed; left: 1em; bottom: 1em; font: 14px system-ui, sans-serif;";
  text.textContent = `The scene cannot be shown: ${error.message}`;
  document.body.append(text);
});
