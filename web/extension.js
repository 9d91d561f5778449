// Registers FlashWorld's widgets with ComfyUI; what they are made of is loaded when a node first needs it.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const WIDGETS = {
  FlashWorld_CameraPath: ["./widgets/camera_path.mjs", "attachCameraPath"],
  FlashWorld_PreviewScene: ["./widgets/preview_scene.mjs", "attachPreview"],
  FlashWorld_LoadScene: ["./widgets/load_scene.mjs", "attachLoadScene"],
  FlashWorld_LoadModel: ["./widgets/model_info.mjs", "attachModelInfo"],
};

app.registerExtension({
  name: "flashworld",
  async nodeCreated(node) {
    const widget = WIDGETS[node.comfyClass];
    if (!widget) return;
    const module = await import(new URL(widget[0], import.meta.url));
    module[widget[1]](node, app, api);
  },
});
