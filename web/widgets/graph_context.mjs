/** What a Camera Path node needs of the graph: the picture its path begins at, the scene to draw it in. */
import { allNodes, upstream } from "./graph.mjs";
import { sceneAddress } from "./registry.mjs";

const BACKGROUND = "#16181d";

export const isLinked = (input) => input?.link !== null && input?.link !== undefined;

function includes(nodes, wanted) {
  for (const node of nodes) if (node === wanted) return true;
  return false;
}

const rootOf = (graph) => graph?.rootGraph ?? graph;

function nodesOf(node, comfyClass) {
  return [...allNodes(rootOf(node.graph))].filter((other) => other.comfyClass === comfyClass);
}

/**
 * The picture that the scene of this path is made from: {file, as a Load Image node names it, or ""; index, of the
 * camera of the path that took it}.
 */
export function inputOf(node) {
  for (const generate of nodesOf(node, "FlashWorld_Generate")) {
    if (!includes(upstream(generate, "trajectory"), node)) continue;
    for (const source of upstream(generate, "image")) {
      const file = source.widgets?.find((widget) => widget.name === "image")?.value;
      if (!/^LoadImage/.test(source.comfyClass ?? source.type ?? "") || typeof file !== "string") continue;
      const index = Number(generate.widgets?.find((widget) => widget.name === "image_index")?.value);
      return { file, index: Number.isInteger(index) ? index : 0 };
    }
  }
  return { file: "", index: 0 };
}

/** Address of a file named as in a Load Image node: "folder/name.png", with " [temp]" or the like at its end. */
export function fileAddress(api, named) {
  const [, path, type = "input"] = named.match(/^(.*?)(?: \[(input|output|temp)\])?$/s);
  const slash = path.lastIndexOf("/");
  const query = new URLSearchParams({ filename: path.slice(slash + 1), subfolder: path.slice(0, Math.max(slash, 0)), type });
  return api.apiURL(`/view?${query}`);
}

/** The Preview Scene nodes of the graph; those that this path leads to first. */
function previewsOf(node) {
  const near = (preview) =>
    includes(upstream(preview, "trajectory"), node) || includes(upstream(preview, "splat"), node) ? 0 : 1;
  return nodesOf(node, "FlashWorld_PreviewScene").sort((a, b) => near(a) - near(b));
}

/**
 * Attributes: `picture`, an image element or null; `pictureIndex`, its camera of the path; `scene`, null or
 * {element, show(camera)}. They follow the graph with every `look()`.
 */
export class GraphContext {
  picture = null;
  pictureIndex = 0;
  scene = null;
  #name = "";
  #address = "";
  #viewer = null;
  #gone = false;

  /** @param {() => void} changed called when a picture or a scene has arrived */
  constructor(node, api, changed) {
    Object.assign(this, { node, api, changed });
  }

  look() {
    const { file: name, index } = inputOf(this.node);
    if (index !== this.pictureIndex) this.changed();
    this.pictureIndex = index;
    if (name !== this.#name) {
      this.#name = name;
      this.picture = null;
      if (name) this.#loadPicture(name);
    }
    this.#lookForScene();
  }

  #loadPicture(name) {
    const image = new Image();
    image.onload = () => {
      if (this.#name !== name || this.#gone) return;
      this.picture = image;
      this.changed();
    };
    image.src = fileAddress(this.api, name); // a file that is gone leaves the view without a picture
  }

  async #lookForScene() {
    const previews = previewsOf(this.node);
    if (!previews.length && !this.#address) return;
    const address = previews.map(sceneAddress).find(Boolean) ?? "";
    if (address === this.#address || this.#gone) return;
    this.#address = address;
    if (address) await this.#loadScene(address);
    else this.#dropScene();
  }

  /** The viewer shares what the preview has on the graphics card: a scene is there once. */
  async #loadScene(address) {
    try {
      if (!this.#viewer) await this.#makeViewer();
      if (this.#gone) return;
      await this.#viewer.viewer.load(address, { cameras: [], keepView: true });
      if (this.#gone || this.#address !== address) return;
      this.scene = this.#viewer;
    } catch {
      this.#dropScene(); // no WebGL, or a file of an earlier run: the path is drawn without the scene
    }
    if (!this.#gone) this.changed();
  }

  async #makeViewer() {
    const { createViewer } = await import("../viewer/viewer.mjs");
    if (this.#gone) return;
    const element = document.createElement("div");
    element.style.cssText = "position: absolute; inset: 0; pointer-events: none;";
    element.inert = true; // the canvas over it is what is used
    const settings = { path: false, background: BACKGROUND };
    const viewer = createViewer(element, { toolbar: false, settings });
    const show = ({ position, quaternion, fov }) =>
      viewer.setView({ position, quaternion, vertical_fov_degrees: fov });
    this.#viewer = { element, show, viewer };
  }

  #dropScene() {
    this.scene = null;
    this.#viewer?.viewer.clear();
    this.changed();
  }

  dispose() {
    this.#gone = true;
    this.picture = this.scene = null;
    this.#viewer?.viewer.dispose();
    this.#viewer?.element.remove();
    this.#viewer = null;
  }
}
