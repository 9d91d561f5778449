// The viewer's renderer constants and low-pass filter are the core's.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as ours from "../../web/viewer/constants.mjs";

const golden = JSON.parse(readFileSync(new URL("./goldens/constants.json", import.meta.url), "utf8"))[0];

test("the constants are the core's", () => {
  for (const [name, value] of Object.entries(golden.constants)) assert.deepEqual(ours[name], value, name);
});

test("the low-pass filter is the core's", () => {
  for (const { metadata, focal, low_pass: wanted } of golden.low_pass) {
    assert.ok(Math.abs(ours.lowPass(metadata, focal) - wanted) < 1e-6, JSON.stringify(metadata));
  }
});

test("clip planes grow with the scene", () => {
  for (const size of [1e-4, 1, 1e6]) {
    const foreign = ours.clipPlanes({ radius: 3 * size, metadata: {} });
    assert.ok(Math.abs(foreign.near / size - 3 * ours.NEAR_OF_EXTENT) < 1e-12);
    const made = ours.clipPlanes({ radius: 3 * size, metadata: { scene_scale: 0.5 * size } });
    assert.ok(Math.abs(made.near / size - 0.5 * ours.NEAR_OF_SCALE) < 1e-12);
    for (const { near, far } of [foreign, made]) assert.ok(far > 1e5 * near);
  }
});
