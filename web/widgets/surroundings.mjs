/** What stands around a node in the graph: the picture a path begins at, the scene it was made for. */

const FAR = 60; // nodes looked at in search of a picture, so that a ring of links ends

export const isLinked = (input) => input?.link !== null && input?.link !== undefined;

/** The node at the other end of an input's link, or null (also at the edge of a subgraph). */
function sourceOf(node, input) {
  if (!isLinked(input)) return null;
  const link = linkOf(node.graph, input.link);
  return link ? (node.graph.getNodeById?.(link.origin_id) ?? null) : null;
}

function linkOf(graph, id) {
  const { links } = graph ?? {};
  return (typeof links?.get === "function" ? links.get(id) : links?.[id]) ?? null;
}

/** All nodes that a node's outputs lead to, near ones first. */
function* downstream(node) {
  const seen = new Set([node]);
  for (const current of seen) {
    if (seen.size > FAR) return;
    for (const output of current.outputs ?? []) {
      for (const id of output.links ?? []) {
        const target = current.graph?.getNodeById?.(linkOf(current.graph, id)?.target_id);
        if (target && !seen.has(target)) {
          seen.add(target);
          yield target;
        }
      }
    }
  }
}

/** The file chosen in the nearest Load Image node that feeds an input, or "". */
function imageFile(node, input) {
  const next = [sourceOf(node, input)];
  const seen = new Set();
  for (const current of next) {
    if (!current || seen.has(current) || seen.size > FAR) continue;
    seen.add(current);
    const file = current.widgets?.find((widget) => widget.name === "image")?.value;
    if (/^LoadImage/.test(current.comfyClass ?? current.type ?? "") && typeof file === "string") return file;
    next.push(...(current.inputs ?? []).map((other) => sourceOf(current, other)));
  }
  return "";
}

/** The picture that the scene of this path is made from, as a file name in ComfyUI's input folder, or "". */
export function inputFile(node) {
  for (const target of downstream(node)) {
    if (target.comfyClass !== "FlashWorld_Generate") continue;
    const file = imageFile(target, target.inputs?.find((input) => input.name === "image"));
    if (file) return file;
  }
  return "";
}

/** Address of a file named as in a Load Image node: "folder/name.png", with " [temp]" or the like at its end. */
export function fileAddress(api, named) {
  const [, path, type = "input"] = named.match(/^(.*?)(?: \[(input|output|temp)\])?$/);
  const slash = path.lastIndexOf("/");
  const query = new URLSearchParams({ filename: path.slice(slash + 1), subfolder: path.slice(0, Math.max(slash, 0)), type });
  return api.apiURL(`/view?${query}`);
}

/** The input picture of a path, kept while it stays the same one. */
export class InputPicture {
  #name = "";
  #image = null;

  /** @param {object} api the host's  @param {() => void} loaded called when a picture has arrived */
  constructor(api, loaded) {
    this.api = api;
    this.loaded = loaded;
  }

  /** An image element that can be drawn, or null. */
  of(node) {
    const name = inputFile(node);
    if (name !== this.#name) {
      this.#name = name;
      this.#image = null;
      if (name) this.#load(name);
    }
    return this.#image;
  }

  #load(name) {
    const image = new Image();
    image.onload = () => {
      if (this.#name !== name) return;
      this.#image = image;
      this.loaded();
    };
    image.src = fileAddress(this.api, name); // a file that is gone leaves the view without a picture
  }
}
