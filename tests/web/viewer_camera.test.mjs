import assert from "node:assert/strict";
import { test } from "node:test";
import {
  distanceAhead, focalOf, framing, frustumCorners, mix, moved, toPose, turned, viewOf,
} from "../../web/viewer/camera.mjs";
import { rotate } from "../../web/path/math3d.mjs";
import { colorOf, completeSettings, DEFAULTS } from "../../web/viewer/settings.mjs";

const near = (a, b, limit = 1e-9) => a.forEach((value, i) => assert.ok(Math.abs(value - b[i]) < limit, `${a} ${b}`));
const pose = toPose({ position: [1, -2, 3], quaternion: [1.8, 0.2, -0.6, 0.4], vertical_fov_degrees: 50 });

test("projection and ray are inverse", () => {
  const view = viewOf(pose, 640, 360, null, 0.01);
  const { origin, direction } = view.ray(100, 50);
  const { x, y, depth } = view.project(origin.map((value, i) => value + 7 * direction[i]));
  near([x, y], [100, 50], 1e-8);
  assert.ok(depth > 0 && depth < 7);
  assert.equal(view.project(moved(pose, 0, 0, -1).position), null);
});

test("straight ahead is the middle, right is right, down is down", () => {
  const view = viewOf(toPose({ position: [0, 0, 0], quaternion: [1, 0, 0, 0], vertical_fov_degrees: 90 }), 200, 100, null, 0.01);
  near(Object.values(view.project([0, 0, 2])), [100, 50, 2]);
  near(Object.values(view.project([1, 2, 2])), [125, 100, 2]);
});

test("a frame's field of view is the pose's, and the frame fits in", () => {
  const ninety = { vertical_fov_degrees: 90 };
  assert.ok(Math.abs(focalOf(ninety, 800, 400) - 200) < 1e-9);
  assert.ok(Math.abs(focalOf(ninety, 800, 400, 1.5) - 200) < 1e-9); // 600 x 400 of it
  assert.ok(Math.abs(focalOf(ninety, 300, 400, 1.5) - 100) < 1e-9); // 300 x 200 of it
});

test("orbiting keeps its pivot in the middle and the horizon level", () => {
  const level = toPose({ position: [0, 0, 0], quaternion: [1, 0, 0, 0] });
  let now = level;
  for (let i = 0; i < 100; i++) now = turned(now, 7, 3, 4);
  const pivot = rotate(now.quaternion, [0, 0, 4]).map((value, i) => value + now.position[i]);
  near(pivot, [0, 0, 4], 1e-6);
  near([rotate(now.quaternion, [1, 0, 0])[1]], [0], 1e-6);
  assert.ok(Math.abs(rotate(now.quaternion, [0, 0, 1])[1]) < 0.9999);
  assert.ok(turned(level, 5, 0, 4).position[0] < 0, "a drag to the right moves the camera to the left");
  assert.ok(turned(level, 5, 0, 0).quaternion[2] > 0, "or turns it to the right, around itself");
});

test("framing keeps the direction and holds the ball", () => {
  const framed = framing(pose, [5, 5, 5], 2, 1.5);
  assert.deepEqual(framed.quaternion, pose.quaternion);
  const view = viewOf(framed, 600, 400, null, 0.01);
  near(Object.values(view.project([5, 5, 5])).slice(0, 2), [300, 200], 1e-6);
  const narrow = viewOf(framing(pose, [5, 5, 5], 2, 0.3), 300, 1000, null, 0.01);
  const side = moved({ ...pose, position: [5, 5, 5] }, 2, 0, 0).position;
  const { x } = narrow.project(side);
  assert.ok(x < 300 && x > 250, String(x));
  assert.ok(Math.abs(distanceAhead(framed, [5, 5, 5], 2) - 2 / Math.sin((25 * Math.PI) / 180)) < 1e-9);
});

test("poses in between, and their pyramids", () => {
  const other = toPose({ position: [3, 0, 3], quaternion: [1, 0, 0, 0], vertical_fov_degrees: null });
  near(mix(pose, other, 0.5).position, [2, -1, 3]);
  assert.equal(mix(pose, other, 0.5).vertical_fov_degrees, 55);
  near(mix(pose, other, 0).quaternion, pose.quaternion, 1e-12);
  const corners = frustumCorners({ ...other, vertical_fov_degrees: 90 }, 2, 1);
  near(corners[0], [1, -1, 4]);
  near(corners[2], [5, 1, 4]);
});

test("poses that are none are refused", () => {
  const good = { position: [0, 0, 0], quaternion: [1, 0, 0, 0] };
  for (const bad of [{ position: [0, 0] }, { position: [0, 0, NaN] }, { quaternion: [0, 0, 0, 0] }, { quaternion: undefined }]) {
    assert.throws(() => toPose({ ...good, ...bad }), /pose/);
  }
  assert.equal(toPose(good).vertical_fov_degrees, 60);
});

test("settings from anywhere", () => {
  assert.deepEqual(completeSettings(undefined), DEFAULTS);
  const odd = { navigation: "walk", mode: 3, degree: "2", background: "red;", path: 1, speed: "x", more: 1 };
  assert.deepEqual(completeSettings(odd), DEFAULTS);
  assert.equal(completeSettings({ speed: 1e9 }).speed, 100);
  assert.deepEqual(colorOf("#0080ff"), [0, 128 / 255, 1]);
});
