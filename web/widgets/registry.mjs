/** What stands on which node, for the other widgets. Nothing of a removed node is kept. */

const editors = new WeakMap(); // Camera Path node -> path/editor.mjs' Editor
const previews = new WeakMap(); // Preview Scene node -> preview_scene.mjs' Preview

/** @param {?object} editor null when the node is removed */
export const setEditor = (node, editor) => put(editors, node, editor);

/** @param {?object} preview null when the node is removed */
export const setPreview = (node, preview) => put(previews, node, preview);

/** The editor on a node, or undefined. */
export const editorOf = (node) => editors.get(node);

/** The preview on a node, or undefined. */
export const previewOf = (node) => previews.get(node);

/** @returns {string} the address of the scene a Preview Scene node shows, "" for none */
export const sceneAddress = (node) => previews.get(node)?.address ?? "";

/**
 * Adds a keyframe to a Camera Path node.
 *
 * @param {object} node
 * @param {{position: number[], quaternion: number[], vertical_fov_degrees?: number}} pose world axes as in a camera path
 * @returns {boolean} false for a node without an editor
 */
export function addKeyframe(node, pose) {
  const editor = editors.get(node);
  editor?.addKeyframe(pose);
  return Boolean(editor);
}

function put(map, node, value) {
  if (value) map.set(node, value);
  else map.delete(node);
}
