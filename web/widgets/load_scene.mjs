/** What Load Scene says, and a button that brings a file from the user's computer into ComfyUI's input folder. */
import { attachResult } from "./result_text.mjs";

const ACCEPT = ".ply,.spz,.sog,.zip,.splat,.ksplat,.glb,.gltf";
const FOLDER = "splats"; // below the input folder

/** Fills a Load Scene node; files dropped on it are taken too. `app` and `api` are the host's, `slot` is `addSlot`'s. */
export function attachLoadScene(node, app, api, slot) {
  attachResult(node, app, api, slot);
  const picker = Object.assign(document.createElement("input"), { type: "file", accept: ACCEPT });
  const take = async (file) => {
    try {
      choose(node, await upload(api, file));
    } catch (error) {
      tell(app, `${file.name} could not be brought into ComfyUI: ${error.message}`);
    }
  };
  picker.onchange = () => {
    const file = picker.files[0];
    picker.value = ""; // the same file can be chosen again
    if (file) take(file);
  };
  const button = node.addWidget("button", "choose file", null, () => picker.click(), { serialize: false });
  button.serialize = false;
  const { onDragOver, onDragDrop } = node;
  node.onDragOver = function (event) {
    return [...(event.dataTransfer?.items ?? [])].some((item) => item.kind === "file") || onDragOver?.call(this, event) || false;
  };
  node.onDragDrop = function (event) {
    const file = [...(event.dataTransfer?.files ?? [])].find(isScene);
    if (!file) return onDragDrop?.call(this, event) ?? false;
    take(file);
    return true;
  };
}

const isScene = (file) => ACCEPT.split(",").some((ending) => file.name.toLowerCase().endsWith(ending));

/** @returns {Promise<string>} the name for the node's list */
async function upload(api, file) {
  const body = new FormData();
  body.append("image", file); // the host's one way in for files of any kind
  body.append("type", "input");
  body.append("subfolder", FOLDER);
  const response = await api.fetchApi("/upload/image", { method: "POST", body });
  if (!response.ok) throw new Error(response.status === 413 ? "it is larger than this server takes" : `HTTP ${response.status}`);
  const { name, subfolder } = await response.json();
  return subfolder ? `${subfolder}/${name}` : name;
}

function choose(node, name) {
  const widget = node.widgets.find((item) => item.name === "file");
  const values = widget.options.values;
  if (Array.isArray(values) && !values.includes(name)) values.push(name);
  widget.value = name;
  widget.callback?.(name);
  node.setDirtyCanvas?.(true, true);
}

function tell(app, text) {
  const toast = app.extensionManager?.toast;
  if (toast) toast.add({ severity: "error", summary: "Load Scene", detail: text, life: 8000 });
  else app.ui?.dialog?.show(text);
}
