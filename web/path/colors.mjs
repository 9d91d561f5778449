/** The editor's colors: the host's theme where there is one, its own accents. */
export const COLORS = Object.freeze({
  start: [86, 196, 255], // the path runs from this
  end: [255, 176, 72], // to this
  accent: "#ffb048",
  key: "#f2f2f2",
  selected: "#ffb048",
  playhead: "#7dffb0",
  grid: "rgba(160, 170, 190, 0.16)",
  axis: "rgba(160, 170, 190, 0.42)",
  faint: "rgba(200, 210, 230, 0.30)",
  back: "#16181d",
  text: "rgba(225, 230, 240, 0.78)",
});

/** Color of a place on the path, `fraction` from 0 at its start to 1 at its end. */
export function pathColor(fraction, alpha = 1) {
  const [r, g, b] = COLORS.start.map((from, i) => Math.round(from + (COLORS.end[i] - from) * fraction));
  return `rgba(${r}, ${g}, ${b}, ${alpha})`;
}
