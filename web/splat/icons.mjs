/** Our own icons, 16 x 16, drawn with strokes in the colour of the text. */
const SHAPES = Object.freeze({
  orbit: "M8 6a2 2 0 1 0 0 4a2 2 0 1 0 0-4M2 8c0-4 12-4 12 0c0 2.2-3 3.2-6 3.2M10 9.2L8 11.2L10 13.2",
  fly: "M2 8.5L14 3L10.5 13.5L7.5 9.5Z M7.5 9.5L14 3",
  reset: "M3 8a5 5 0 1 0 1.6-3.7M3 2.5V5.5H6",
  all: "M2 5V2H5M11 2H14V5M14 11V14H11M5 14H2V11M6 6H10V10H6Z",
  path: "M2 13C5 13 4 8 7.5 8S10 3 14 3M2 13m-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0M13 3a1 1 0 1 0 2 0a1 1 0 1 0-2 0",
  soft: "M2 8a3 3 0 1 0 6 0a3 3 0 1 0-6 0M5.5 8a3 3 0 1 0 6 0a3 3 0 1 0-6 0M9 8a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0",
  full: "M9.5 2.5H13.5V6.5M13.5 2.5L9 7M6.5 13.5H2.5V9.5M2.5 13.5L7 9",
  use: "M2 5H5L6 3.5H10L11 5H14V12.5H2ZM8 6.5V11M5.75 8.75H10.25",
  snapshot: "M2 3H14V13H2ZM2 11.5L6 7.5L9 10.5L11 9L14 11.5M10 6a1 1 0 1 0 2 0a1 1 0 1 0-2 0",
  play: "M5 3L12.5 8L5 13Z",
  pause: "M5.5 3V13M10.5 3V13",
});

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" })) {
    svg.setAttribute(key, value);
  }
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}
