/** Buttons, scrubber and figures around the picture. */

/** Our own icons, 16 x 16, drawn with strokes in the color of the text. */
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

const MODE_NAMES = [["color", "Color"], ["depth", "Depth"], ["points", "Points"], ["opacity", "Opacity"]];
const DEGREE_NAMES = [["3", "SH all"], ["2", "SH 2"], ["1", "SH 1"], ["0", "SH off"]];

export class Toolbar {
  /**
   * @param {HTMLElement} root
   * @param {object} viewer the Viewer, with its options
   */
  constructor(root, viewer) {
    this.viewer = viewer;
    const { options } = viewer;
    this.orbit = button("orbit", "Orbit", "Orbit around the scene (O); double-click what to orbit around", () => viewer.change({ navigation: "orbit" }));
    this.fly = button("fly", "Fly", "Fly: drag to look, W A S D Q E to move, wheel for the speed (V)", () =>
      viewer.change({ navigation: "fly" }));
    this.mode = select("What to show", MODE_NAMES, (mode) => viewer.change({ mode }));
    this.degree = select("Color that changes with the direction of view (spherical harmonics)", DEGREE_NAMES, (degree) =>
      viewer.change({ degree: Number(degree) }));
    this.background = make("input", { type: "color", title: "Background color", ariaLabel: "Background color" });
    this.background.addEventListener("input", () => viewer.change({ background: this.background.value }));
    this.path = button("path", "", "Show the camera path", () => viewer.change({ path: !viewer.settings.path }));
    this.soft = button("soft", "", "As soft as the views the scene was made from; off: every splat at its own size, gaps may show", () =>
      viewer.change({ soft: !viewer.settings.soft }));
    this.full = button("full", "", "Full window (Escape leaves)", () => viewer.setFullWindow(!viewer.fullWindow));

    const top = make("div", { className: "bar top", role: "toolbar", ariaLabel: "View" });
    top.append(
      group(this.orbit, this.fly),
      group(
        button("reset", "", "Back to the first camera (R)", () => viewer.reset()),
        button("all", "", "Frame the whole scene (F)", () => viewer.frameAll()),
      ),
      group(this.mode, this.degree, this.background, this.soft, this.path),
      make("span", { className: "space" }),
      group(
        options.onUseView && button("use", "Use this view", "Give this view to the graph as a camera, and to a connected path as a keyframe", () =>
          options.onUseView(viewer.getView())),
        options.onSnapshot && button("snapshot", "Snapshot", "Render this view as a picture with transparency for the graph", () =>
          options.onSnapshot(viewer.getView())),
      ),
      group(this.full),
    );

    this.playButton = button("play", "", "Play the camera path (Space)", () => (viewer.playing ? viewer.pause() : viewer.play()));
    this.scrubber = make("input", { type: "range", min: "0", step: "1", className: "scrubber", title: "View of the path", ariaLabel: "View of the path" });
    this.scrubber.addEventListener("input", () => {
      viewer.pause();
      viewer.seek(Number(this.scrubber.value));
    });
    this.position = make("output", { className: "position" });
    this.path_group = group(this.playButton, this.scrubber, this.position);
    this.path_group.classList.add("path");
    this.figures = make("output", { className: "figures" });
    const bottom = make("div", { className: "bar bottom" });
    bottom.append(this.path_group, this.figures);
    root.prepend(top);
    root.append(bottom);
    this.showPlayer({ index: 0, playing: false }, 0);
  }

  showSettings({ navigation, mode, degree, background, path, soft, speed }) {
    press(this.orbit, navigation === "orbit");
    press(this.fly, navigation === "fly");
    press(this.path, path);
    press(this.soft, soft);
    this.fly.querySelector(".text").textContent = navigation === "fly" && speed !== 1 ? `Fly \u00d7${speed.toPrecision(2)}` : "Fly";
    this.mode.value = mode;
    this.degree.value = String(degree);
    this.degree.disabled = mode === "depth" || mode === "opacity";
    this.background.value = background;
    this.background.disabled = mode === "opacity";
  }

  showScene(header) {
    const degree = header?.degree ?? 3;
    this.soft.hidden = !header?.metadata?.focal_px; // scenes by others do not say
    for (const option of this.degree.options) option.hidden = Number(option.value) > degree && option.value !== "3";
  }

  showPlayer({ index, playing }, count) {
    this.path_group.hidden = count < 2;
    this.scrubber.max = String(Math.max(0, count - 1));
    this.scrubber.value = String(Math.round(index));
    this.position.textContent = `${Math.round(index) + 1} / ${count}`;
    this.playButton.querySelector("svg").replaceWith(icon(playing ? "pause" : "play"));
    this.playButton.ariaLabel = playing ? "Pause" : "Play the camera path";
  }

  showStats({ count, total, shown, frameTime }) {
    const number = (value) => value.toLocaleString("en-US");
    const text = total > count ? `${number(count)} of ${number(total)} splats` : `${number(count)} splats`;
    const time = frameTime < 1000 ? `${Math.max(1, Math.round(frameTime))} ms` : `${(frameTime / 1000).toFixed(1)} s`;
    this.figures.textContent = count ? `${text} \u00b7 ${time}` : "";
    this.figures.title = `${number(shown)} in sight; the graph keeps all ${number(total)}. Time until a view is drawn.`;
  }

  showFullWindow(on) {
    press(this.full, on);
  }
}

function make(tag, properties) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "role") element.setAttribute(name, value);
    else if (name === "ariaLabel") element.setAttribute("aria-label", value);
    else element[name] = value;
  }
  return element;
}

function button(iconName, text, title, action) {
  const element = make("button", { type: "button", title, ariaLabel: text || title });
  element.append(icon(iconName));
  if (text) element.append(make("span", { className: "text", textContent: text }));
  element.addEventListener("click", action);
  return element;
}

function select(title, choices, action) {
  const element = make("select", { title, ariaLabel: title });
  for (const [value, text] of choices) element.append(make("option", { value, textContent: text }));
  element.addEventListener("change", () => action(element.value));
  return element;
}

function group(...elements) {
  const element = make("div", { className: "group" });
  element.append(...elements.filter(Boolean));
  element.hidden = !element.childElementCount;
  return element;
}

function press(element, on) {
  element.setAttribute("aria-pressed", String(on));
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" })) {
    svg.setAttribute(key, value);
  }
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}
