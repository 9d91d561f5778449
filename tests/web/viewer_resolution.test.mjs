import assert from "node:assert/strict";
import { test } from "node:test";
import { Resolution } from "../../web/viewer/resolution.mjs";

test("full at rest, coarser while moving if frames take long, finer again if they are quick", () => {
  const resolution = new Resolution(true);
  assert.equal(resolution.scale, 1);
  for (let now = 0; now < 400; now += 100) {
    resolution.moved();
    resolution.drawn(now, 90);
  }
  assert.equal(resolution.scale, 0.5);
  assert.ok(resolution.due > 0, "to be drawn again in full");
  for (let now = 400; now < 480; now += 16) {
    resolution.moved();
    resolution.drawn(now, 5);
  }
  assert.equal(resolution.scale, 1);
  resolution.lastMove = -Infinity;
  resolution.drawn(1000, 300);
  assert.equal(resolution.scale, 1, "a still picture is never coarse");
  assert.equal(resolution.due, null);
});

test("never coarse where that is not wanted", () => {
  const resolution = new Resolution(false);
  for (let now = 0; now < 1000; now += 200) {
    resolution.moved();
    resolution.drawn(now, 190);
    assert.equal(resolution.scale, 1);
  }
  assert.ok(resolution.frameTime > 150);
});
