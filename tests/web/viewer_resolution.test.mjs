import assert from "node:assert/strict";
import { test } from "node:test";
import { Resolution } from "../../web/viewer/resolution.mjs";

test("full at rest, coarser while moving if pictures take long, finer again if they are quick", () => {
  const resolution = new Resolution(true);
  assert.equal(resolution.scale(), 1);
  for (let i = 0; i < 2; i++) {
    resolution.moved();
    resolution.drawn(110, 90, resolution.scale());
  }
  assert.equal(resolution.scale(), 0.5);
  assert.equal(resolution.scale(1e6), 0.25, "what is expected to take long begins coarse");
  resolution.drawn(20, 5, 0.5);
  assert.ok(resolution.due > 0, "to be drawn again in full");
  for (let i = 0; i < 3; i++) {
    resolution.moved();
    resolution.drawn(20, 5, resolution.scale());
  }
  assert.equal(resolution.scale(), 1);
  resolution.lastMove = -Infinity;
  resolution.drawn(310, 300, resolution.scale());
  assert.equal(resolution.scale(1e6), 1, "a still picture is never coarse");
  assert.equal(resolution.due, null);
});

test("never coarse where that is not wanted", () => {
  const resolution = new Resolution(false);
  for (let i = 0; i < 5; i++) {
    resolution.moved();
    resolution.drawn(200, 190, 1);
    assert.equal(resolution.scale(1e6), 1);
  }
  assert.ok(resolution.frameTime > 150);
});

test("a long wait is told at once, and forgotten at once", () => {
  const resolution = new Resolution(true);
  for (let i = 0; i < 20; i++) resolution.drawn(20, 5, 1);
  resolution.drawn(4000, 3900, 1);
  assert.equal(resolution.frameTime, 4000);
  resolution.drawn(20, 5, 1);
  assert.ok(resolution.frameTime < 250);
});
