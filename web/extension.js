// Registers FlashWorld's widgets with ComfyUI; what they are made of is loaded when a node first needs it.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { addSlot, SLOTS } from "./widgets/slot.mjs";

const WIDGETS = {
  FlashWorld_CameraPath: ["./widgets/camera_path.mjs", "attachCameraPath"],
  FlashWorld_PreviewScene: ["./widgets/preview_scene.mjs", "attachPreview"],
  FlashWorld_LoadScene: ["./widgets/load_scene.mjs", "attachLoadScene"],
  FlashWorld_LoadModel: ["./widgets/model_info.mjs", "attachModelInfo"],
};
const RESULT = ["./widgets/result_text.mjs", "attachResult"]; // on every other node of ours that has something to say

app.registerExtension({
  name: "flashworld",
  nodeCreated(node) {
    if (!Object.hasOwn(SLOTS, node.comfyClass)) return;
    const widget = WIDGETS[node.comfyClass] ?? RESULT;
    const slot = addSlot(node); // now: when this returns, the node must have all its widgets
    import(new URL(widget[0], import.meta.url)).then((module) => module[widget[1]](node, app, api, slot));
  },
});
