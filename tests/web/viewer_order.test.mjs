import assert from "node:assert/strict";
import { test } from "node:test";
import { SceneIndex } from "../../web/viewer/order.mjs";
import { rotationRows, toPose } from "../../web/viewer/camera.mjs";

function random(seed) {
  let state = seed;
  return () => ((state = (state * 1664525 + 1013904223) >>> 0) / 2 ** 32);
}

/** A chunk of `n` Gaussians; scale code 0 is `low`, each further one a factor more. */
function chunkOf(points, { scaleCode = () => 0, opacityCode = () => 1023, low = 0.01, start = 0 } = {}) {
  const n = points.length;
  const geometry = new Uint32Array(4 * n);
  const floats = new Float32Array(geometry.buffer);
  const look = new Uint32Array(2 * n);
  points.forEach((point, i) => {
    floats.set(point, 4 * i);
    const [scale, opacity] = [scaleCode(i), opacityCode(i)];
    look[2 * i] = (scale << 10) | ((opacity >> 8) << 30);
    look[2 * i + 1] = (opacity & 255) << 24;
  });
  return { start, count: n, params: Float32Array.from([Math.log(low), 0.01, ...Array(9).fill(0)]), geometry, look };
}

const straight = { position: [0, 0, 0], rotation: [1, 0, 0, 0, 1, 0, 0, 0, 1], tangentX: 0.7, tangentY: 0.5, near: 0.01, far: 1000 };

test("nearest first from any camera, and no visible one is missing", () => {
  const next = random(1);
  const points = Array.from({ length: 5000 }, () => [next() * 20 - 10, next() * 20 - 10, next() * 20 - 10]);
  const index = new SceneIndex(points.length);
  index.add(chunkOf(points.slice(0, 2048)));
  index.add(chunkOf(points.slice(2048), { start: 2048 }));
  for (const quaternion of [[1, 0, 0, 0], [0.8, 0.1, -0.5, 0.3], [0, 0, 1, 0]]) {
    const pose = toPose({ position: [1, -2, 0.5], quaternion });
    const rotation = rotationRows(pose);
    const inCamera = points.map((point) => {
      const away = point.map((value, i) => Math.fround(value) - pose.position[i]);
      return [0, 3, 6].map((row) => away.reduce((sum, value, i) => sum + rotation[row + i] * value, 0));
    });
    const { order, depths } = index.see({ ...straight, position: pose.position, rotation });
    for (let i = 1; i < order.length; i++) {
      const [before, after] = [inCamera[order[i - 1]][2], inCamera[order[i]][2]];
      assert.ok(after > before * (1 - 4e-4), `${before} before ${after}`);
    }
    const seen = new Set(order);
    assert.equal(seen.size, order.length);
    inCamera.forEach(([x, y, z], i) => {
      const inside = z > 0.01 && Math.abs(x) < 0.7 * z && Math.abs(y) < 0.5 * z;
      if (inside) assert.ok(seen.has(i));
      if (z < 0 || Math.abs(x) > 0.7 * z + 0.2) assert.ok(!seen.has(i));
    });
    const sorted = [...order].map((i) => inCamera[i][2]);
    assert.ok(Math.abs(depths[0] / sorted[Math.floor(0.02 * sorted.length)] - 1) < 0.01);
    assert.ok(Math.abs(depths[1] / sorted[Math.floor(0.98 * sorted.length)] - 1) < 0.01);
  }
});

test("equal depths keep the order of the file", () => {
  const index = new SceneIndex(100);
  index.add(chunkOf(Array.from({ length: 100 }, (_, i) => [(i % 10) * 0.01, 0, 2])));
  assert.deepEqual([...index.see(straight).order], Array.from({ length: 100 }, (_, i) => i));
});

test("a large one beside the view is seen, a faint one only as far as it shows", () => {
  const index = new SceneIndex(4);
  const beside = [6, 0, 4]; // the view ends at x = 2.8
  index.add(chunkOf([beside, beside, beside, [0, 0, -1]], {
    scaleCode: (i) => (i === 0 ? 0 : 470), // 1.1
    opacityCode: (i) => (i === 2 ? 5 : 1023),
  }));
  assert.deepEqual([...index.see(straight).order], [1]);
});

test("memory is used again if it suffices", () => {
  const index = new SceneIndex(3);
  index.add(chunkOf([[0, 0, 3], [0, 0, 1], [0, 0, 2]]));
  const memory = new Uint32Array(5);
  const { order } = index.see(straight, memory);
  assert.equal(order.buffer, memory.buffer);
  assert.deepEqual([...order], [1, 2, 0]);
  assert.deepEqual([...index.see(straight, new Uint32Array(2)).order], [1, 2, 0]);
});

test("nothing in sight", () => {
  const index = new SceneIndex(1);
  assert.equal(index.see(straight).order.length, 0);
  index.add(chunkOf([[0, 0, 2000]]));
  assert.equal(index.see(straight).order.length, 0);
});
