/** Makes a node large enough for its widgets and has it drawn again; one that is larger keeps its size. */
export function makeRoom(node, leastWidth = 0) {
  const needed = node.computeSize?.();
  if (needed && node.size) {
    const size = [Math.max(node.size[0], needed[0], leastWidth), Math.max(node.size[1], needed[1])];
    if (size[0] > node.size[0] || size[1] > node.size[1]) node.setSize?.(size);
  }
  node.graph?.setDirtyCanvas?.(true, true);
}
