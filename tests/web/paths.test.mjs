// The JavaScript path is the Python path: every golden case, to 1e-5.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { toMatrix } from "../../web/path/math3d.mjs";
import { samplePath } from "../../web/path/document.mjs";

const cases = JSON.parse(readFileSync(new URL("./goldens/paths.json", import.meta.url), "utf8"));

test("there are goldens of every kind", () => {
  assert.ok(cases.length > 100);
  const presets = new Set(cases.map((item) => item.values.source === "preset" && item.values.preset));
  assert.equal(presets.size, 13); // twelve, and false
});

cases.forEach(({ values, cameras }, i) => {
  test(`case ${i}: ${values.source} ${values.source === "preset" ? values.preset : ""} ${values.moves}`, () => {
    const path = samplePath(values);
    assert.equal(path.length, cameras.length);
    path.forEach(({ position, quaternion, fov }, frame) => {
      const m = toMatrix(quaternion);
      const row = [0, 1, 2].flatMap((r) => [m[3 * r], m[3 * r + 1], m[3 * r + 2], position[r]]);
      row.push(fov);
      row.forEach((number, k) => {
        const error = Math.abs(number - cameras[frame][k]);
        assert.ok(error <= 1e-5, `frame ${frame}, number ${k}: ${number} is not ${cameras[frame][k]}`);
      });
    });
  });
});
