/** The worker that keeps scenes sorted: {type: "scene" | "chunk" | "drop" | "see"} in, {view, order, ...} out. */
import { handleSortMessage } from "./sorter.mjs";

const scenes = new Map();
self.onmessage = ({ data }) => {
  const answer = handleSortMessage(scenes, data);
  if (answer) self.postMessage(answer, [answer.order.buffer]);
};
