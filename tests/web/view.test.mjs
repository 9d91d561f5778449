// The 3D view's camera and projection.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Projection, frustumCorners } from "../../web/path/projection.mjs";
import { lookAt, distance } from "../../web/path/math3d.mjs";
import { ViewCamera } from "../../web/path/view_camera.mjs";

const identity = { position: [0, 0, 0], quaternion: [1, 0, 0, 0], fov: 90 };
const near = (a, b, error = 1e-9) => a.every((value, i) => Math.abs(value - b[i]) <= error);

test("pixels are right, down and forward", () => {
  const projection = new Projection(identity, 200, 100, 0.01);
  assert.ok(near(projection.point([0, 0, 5]), [100, 50]));
  assert.ok(near(projection.point([1, 0, 1]), [150, 50])); // fov 90: one unit at depth one is half the height
  assert.ok(near(projection.point([0, 1, 1]), [100, 100]));
  assert.equal(projection.point([0, 0, -1]), null);
});

test("lines are cut off at the lens", () => {
  const projection = new Projection(identity, 200, 100, 0.5);
  const [from, to] = projection.line([0, 1, -1], [0, 1, 1]);
  assert.ok(near(from, [100, 50 + 50 / 0.5]) && near(to, [100, 100]));
  assert.equal(projection.line([0, 1, -1], [3, 1, 0.4]), null);
});

test("the corners of a camera's picture are the corners of the canvas", () => {
  const camera = { ...lookAt([1, -2, 0.5], [0.3, 1, 4]), fov: 40 };
  const projection = new Projection(camera, 300, 200, 0.01);
  const corners = frustumCorners(camera, 1.5, 2).map((corner) => projection.point(corner));
  [[0, 0], [300, 0], [300, 200], [0, 200]].forEach((corner, i) => assert.ok(near(corners[i], corner, 1e-6)));
});

test("orbiting keeps the point and the distance, up to the steepest, and does not roll", () => {
  const camera = new ViewCamera();
  camera.frame([1, 2, 3], 2, 1.5);
  const { pivot, distance: away } = camera;
  for (let i = 0; i < 50; i++) camera.orbit(17, i % 3 ? 9 : -4);
  assert.ok(near(camera.pivot, pivot, 1e-6) && near(pivot, [1, 2, 3], 1e-9));
  assert.ok(Math.abs(distance(camera.position, pivot) - away) < 1e-6);
  const up = new Projection({ ...camera.pose, fov: 60 }, 100, 100, 1e-3);
  const [below, above] = [up.point(pivot), up.point([pivot[0], pivot[1] - 0.1, pivot[2]])];
  assert.ok(Math.abs(below[0] - above[0]) < 1e-6 && above[1] < below[1]);
});

test("framing shows all of a sphere on wide and on narrow canvases", () => {
  for (const aspect of [0.4, 1, 3]) {
    const camera = new ViewCamera();
    camera.frame([0, 0, 0], 1, aspect);
    const projection = new Projection({ ...camera.pose, fov: camera.fov }, 100 * aspect, 100, 1e-3);
    for (const point of [[0.8, 0, 0], [-0.8, 0, 0], [0, 0.8, 0], [0, -0.8, 0], [0, 0, 0.8], [0, 0, -0.8]]) {
      const [x, y] = projection.point(point);
      assert.ok(x > 0 && x < 100 * aspect && y > 0 && y < 100, `${aspect}: ${point}`);
    }
  }
});

test("turning on the spot and moving go the way they say", () => {
  const camera = new ViewCamera();
  camera.pose = { position: [0, 0, 0], quaternion: [1, 0, 0, 0] };
  camera.move(1, 2, 3);
  assert.ok(near(camera.position, [1, 2, 3]));
  camera.look(90, 0); // to the right: ahead is now x
  camera.move(0, 0, 1);
  assert.ok(near(camera.position, [2, 2, 3]));
  camera.look(0, 90); // up: ahead is now -y
  camera.move(0, 0, 1);
  assert.ok(near(camera.position, [2, 1, 3]));
});
