/** What the keyboard does in the plan. */
import { anglesOf, change, quaternionOf } from "./edits.mjs";

const MOVES = Object.freeze({
  ArrowLeft: [-1, 0, 0],
  ArrowRight: [1, 0, 0],
  ArrowUp: [0, 0, 1],
  ArrowDown: [0, 0, -1],
  PageUp: [0, -1, 0],
  PageDown: [0, 1, 0],
});
const TURNS = Object.freeze({ ",": -3, ".": 3, "<": -15, ">": 15 }); // degrees to the right

/**
 * @param {object} plan the Plan
 * @param {KeyboardEvent} event
 * @returns {boolean} whether the key means something here
 */
export function planKey(plan, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const { editor } = plan;
  const { keys, selected } = editor.model();
  if (event.key === "+" || event.key === "=") plan.zoom(1.25);
  else if (event.key === "-") plan.zoom(0.8);
  else if (event.key === "f" || event.key === "Home") editor.fit();
  else if (event.key === "n" && keys.length) editor.select((selected + 1) % keys.length);
  else if (event.key === "p" && keys.length) editor.select((Math.max(selected, 0) - 1 + keys.length) % keys.length);
  else return keys[selected] ? nudge(plan, event, keys[selected], selected) : false;
  return true;
}

function nudge(plan, event, key, index) {
  const { editor } = plan;
  const edit = (values) => editor.edit((document) => change(document, index, values), { select: index });
  if (MOVES[event.key]) {
    const step = plan.step * (event.shiftKey ? 4 : 1);
    edit({ position: key.position.map((value, i) => value + step * MOVES[event.key][i]) });
  } else if (TURNS[event.key]) {
    const angles = anglesOf(key.quaternion);
    edit({ quaternion: quaternionOf({ ...angles, yaw: angles.yaw + TURNS[event.key] }) });
  } else return false;
  return true;
}
