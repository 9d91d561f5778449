// Runs before a viewer's own scripts. Times every animation frame that draws, the graphics work included: reading one
// pixel back waits for it. While `watch` is on, a sample of the picture is kept with every frame.
window.bench = { frames: [], watch: true, drawn: 0, most: 0, gl: null };
for (const owner of [HTMLCanvasElement, OffscreenCanvas]) {
  const { getContext } = owner.prototype;
  owner.prototype.getContext = function (kind, ...rest) {
    const context = getContext.call(this, kind, ...rest);
    if (kind === "webgl2" && context && context !== bench.gl) {
      bench.gl = context;
      for (const name of ["drawArrays", "drawElements", "drawArraysInstanced", "drawElementsInstanced"]) {
        const draw = context[name];
        const instances = { drawArraysInstanced: 3, drawElementsInstanced: 4 }[name];
        const vertices = name.startsWith("drawArrays") ? 2 : 1;
        context[name] = (...args) => {
          bench.drawn += args[vertices] * (instances ? args[instances] : 1);
          return draw.apply(context, args);
        };
      }
    }
    return context;
  };
}
bench.pixels = new Uint8Array(704 * 480 * 4);
bench.sample = () => {
  const sample = new Uint8Array(3 * 88 * 60);
  let to = 0;
  for (let y = 4; y < 480; y += 8) {
    for (let x = 4; x < 704; x += 8, to += 3) sample.set(bench.pixels.subarray(4 * (704 * y + x), 4 * (704 * y + x) + 3), to);
  }
  return sample;
};
const frame = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (callback) =>
  frame((now) => {
    const drawn = bench.drawn;
    const began = performance.now();
    callback(now);
    const work = bench.drawn - drawn;
    bench.most = Math.max(bench.most, work);
    if (work < 0.2 * bench.most) return; // preparations, or a frame without the scene
    const { gl } = bench;
    const bound = gl.getParameter(gl.READ_FRAMEBUFFER_BINDING);
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, null);
    const size = bench.watch ? [704, 480] : [1, 1];
    gl.readPixels(0, 0, ...size, gl.RGBA, gl.UNSIGNED_BYTE, bench.pixels);
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, bound);
    const end = performance.now();
    bench.frames.push({ began, end, sample: bench.watch ? bench.sample() : null });
  });
// Milliseconds since the page was opened: the first frame with something in it, and the first that looks like the last.
bench.summary = () => {
  const frames = bench.frames.filter((entry) => entry.sample);
  const last = frames.at(-1).sample;
  const lit = (sample) => sample.reduce((sum, value) => sum + (value > 40), 0) > 0.05 * sample.length;
  const difference = (sample) => sample.reduce((sum, value, i) => sum + Math.abs(value - last[i]), 0) / sample.length;
  const first = frames.find((entry) => lit(entry.sample));
  let complete = frames.length - 1;
  while (complete > 0 && difference(frames[complete - 1].sample) < 2) complete--;
  return { first: first?.end, complete: frames[complete].end, frames: frames.length, brightness: last.reduce((a, b) => a + b) / last.length };
};
