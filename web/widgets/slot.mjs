/**
 * Our place on a node: a DOM widget that is there as soon as the node is, and is filled when what belongs into it has
 * been loaded. A subgraph looks for the widgets of its nodes when it is opened, and shows those that are there.
 */

const text = (height) => ({ name: "result", type: "FLASHWORLD_RESULT", width: 270, height, most: 3 * height });

/** Name and type of the widget, and how large it is at least, in pixels; the least width is the node's. */
export const SLOTS = Object.freeze({
  FlashWorld_CameraPath: { name: "camera_path_editor", type: "FLASHWORLD_CAMERA_PATH", width: 400, height: 440 },
  FlashWorld_PreviewScene: { name: "scene_viewer", type: "FLASHWORLD_SCENE", width: 420, height: 360 },
  FlashWorld_LoadModel: { name: "model_info", type: "FLASHWORLD_MODEL_INFO", width: 300, height: 128, most: 256 },
  FlashWorld_Generate: text(58),
  FlashWorld_CleanScene: text(58),
  FlashWorld_ExportScene: text(44),
  FlashWorld_RenderViews: text(44),
  FlashWorld_LoadScene: text(44),
  FlashWorld_LoadCameraPath: text(44),
  FlashWorld_SaveCameraPath: text(44),
});

/**
 * @param {object} node of the graph, of one of the classes in `SLOTS`
 * @returns {{element: HTMLElement, leastWidth: number, leastHeight: () => number}} `element` is ours to fill;
 *   `leastHeight` may be replaced
 */
export function addSlot(node) {
  const { name, type, width, height, most } = SLOTS[node.comfyClass];
  const element = document.createElement("div");
  element.dataset.captureWheel = "true"; // a focused element of ours gets the wheel, not the graph
  element.style.cssText = `position: relative; width: 100%; height: 100%; min-height: ${Math.min(height, 200) - 4}px; overflow: hidden;`;
  const slot = { element, leastWidth: width, leastHeight: () => height };
  const options = {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => slot.leastHeight(),
    getValue: () => undefined,
    setValue: () => {},
  };
  if (most) options.getMaxHeight = () => most;
  const widget = node.addDOMWidget(name, type, element, options);
  widget.serialize = false;
  return slot;
}
