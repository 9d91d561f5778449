/** Buttons, scrubber and figures around the picture. */
import { icon } from "./icons.mjs";

const MODE_NAMES = [["color", "Colour"], ["depth", "Depth"], ["points", "Points"], ["opacity", "Opacity"]];
const DEGREE_NAMES = [["3", "SH all"], ["2", "SH 2"], ["1", "SH 1"], ["0", "SH off"]];

export class Toolbar {
  /**
   * @param {HTMLElement} root
   * @param {object} viewer the Viewer, with its options
   */
  constructor(root, viewer) {
    this.viewer = viewer;
    const { options } = viewer;
    this.orbit = button("orbit", "Orbit", "Orbit around the scene (O)", () => viewer.change({ navigation: "orbit" }));
    this.fly = button("fly", "Fly", "Fly: drag to look, W A S D Q E to move, wheel for the speed (V)", () =>
      viewer.change({ navigation: "fly" }));
    this.mode = select("What to show", MODE_NAMES, (mode) => viewer.change({ mode }));
    this.degree = select("Colour that changes with the direction of view (spherical harmonics)", DEGREE_NAMES, (degree) =>
      viewer.change({ degree: Number(degree) }));
    this.background = make("input", { type: "color", title: "Background colour", ariaLabel: "Background colour" });
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
    this.figures.textContent = count ? `${text} \u00b7 ${Math.max(1, Math.round(frameTime))} ms` : "";
    this.figures.title = `${number(shown)} in sight; the graph keeps all ${number(total)}. Time per frame.`;
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
