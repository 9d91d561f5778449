// Changes of a camera path, and undo and redo of them.
import assert from "node:assert/strict";
import { test } from "node:test";

import { emptyDocument, parseDocument, sampleKeys, writeDocument } from "../../web/path/document.mjs";
import * as edits from "../../web/path/edits.mjs";
import { PRESETS, makePath } from "../../web/path/presets.mjs";
import { rotationAngle, normalizeQuaternion, upper, distance } from "../../web/path/math3d.mjs";
import { PathState } from "../../web/path/state.mjs";

const pose = (x, time = null) => ({ position: [x, 0, 0], quaternion: [1, 0, 0, 0], vertical_fov_degrees: null, time });
const path = (...keyframes) => ({ ...emptyDocument(), keyframes });
const xs = (document) => document.keyframes.map((key) => key.position[0]);
const times = (document) => document.keyframes.map((key) => key.time);

test("keyframes are put in, taken out and put in another order", () => {
  const document = path(pose(0), pose(1), pose(2));
  assert.deepEqual(xs(edits.insert(document, 1, pose(5))), [0, 5, 1, 2]);
  assert.deepEqual(xs(edits.remove(document, 1)), [0, 2]);
  assert.deepEqual(xs(edits.reorder(document, 0, 2)), [1, 2, 0]);
  assert.deepEqual(xs(edits.reorder(document, 2, 0)), [2, 0, 1]);
  assert.deepEqual(xs(document), [0, 1, 2]); // nothing is changed in place
});

test("times stay in order whatever is done", () => {
  const document = { ...path(pose(0, 1), pose(1, 2), pose(2, 5)), timing: "times" };
  assert.deepEqual(times(edits.reorder(document, 0, 2)), [1, 2, 5]);
  assert.deepEqual(times(edits.insert(document, 0, pose(9))), [-1, 1, 2, 5]);
  assert.deepEqual(times(edits.insert(document, 2, pose(9))), [1, 2, 3.5, 5]);
  assert.deepEqual(times(edits.insert(document, 3, pose(9))), [1, 2, 5, 7]);
  assert.deepEqual(times(edits.retime(document, 1, 3)), [1, 3, 5]);
  assert.deepEqual(times(edits.retime(document, 1, 99)), [1, 4.999, 5]);
  assert.deepEqual(times(edits.retime(document, 1, -99)), [1, 1.001, 5]);
});

test("going by times makes them where there are none", () => {
  assert.deepEqual(times(edits.withTiming(path(pose(0), pose(1, 7), pose(2)), "times")), [0, 1, 2]);
  assert.deepEqual(times(edits.withTiming(path(pose(0, 3), pose(1, 7)), "times")), [3, 7]);
  const begun = edits.insert({ ...emptyDocument(), timing: "times" }, 0, pose(0));
  assert.deepEqual(times(edits.insert(begun, 1, pose(1))), [0, 1]);
});

test("angles are those of the moves, and come back", () => {
  for (const [axis, preset] of [["yaw", "pan"], ["pitch", "tilt"], ["roll", "roll"]]) {
    const [turned] = PRESETS[preset].poses([1], { amount: 20, focus: 1, turns: 1 });
    const angles = { yaw: 0, pitch: 0, roll: 0, [axis]: 20 };
    for (const name of Object.keys(angles)) {
      assert.ok(Math.abs(edits.anglesOf(turned.quaternion)[name] - angles[name]) < 1e-9, `${preset}: ${name}`);
    }
  }
  for (const angles of [{ yaw: 100, pitch: -50, roll: 170 }, { yaw: -3, pitch: 80, roll: -20 }]) {
    const back = edits.anglesOf(edits.quaternionOf(angles));
    for (const name of Object.keys(angles)) assert.ok(Math.abs(back[name] - angles[name]) < 1e-6);
  }
});

test("every preset, alone and in a chain, becomes keyframes that go the same way", () => {
  const chains = Object.keys(PRESETS).map((name) => [{ name, amount: PRESETS[name].defaultAmount }]);
  chains.push([{ name: "orbit", amount: 360 }], [{ name: "spiral", amount: 0.5 }, { name: "dolly_in", amount: 0.5 }]);
  chains.push([{ name: "truck", amount: 1 }, { name: "arc", amount: 40 }, { name: "tilt", amount: -10 }]);
  for (const moves of chains) {
    const document = edits.keyframesFromMoves(moves, { focus: 1.5, turns: 2, fov: 60 });
    assert.deepEqual(parseDocument(writeDocument(document)), document);
    const views = 97;
    const wanted = makePath(moves, { views, focus: 1.5, turns: 2 });
    const got = sampleKeys(document, { views, fov: 60 });
    const total = wanted.slice(1).reduce((sum, item, i) => sum + distance(item.position, wanted[i].position), 0);
    wanted.forEach((item, i) => {
      const name = `${JSON.stringify(moves)} at ${i} with ${document.keyframes.length} keyframes`;
      assert.ok(distance(item.position, got[i].position) <= 0.015 * total + 1e-5, name);
      const turned = rotationAngle(upper(normalizeQuaternion(item.quaternion)), upper(got[i].quaternion));
      assert.ok(turned <= Math.PI / 120, name);
    });
    assert.ok(document.keyframes.length <= 100, `${moves[0].name} takes ${document.keyframes.length} keyframes`);
  }
});

function node(keyframes = "", source = "preset") {
  const values = { source, keyframes };
  return { values: () => ({ ...values }), write: (some) => Object.assign(values, some), now: values };
}

test("undo and redo restore the widgets, the source among them", () => {
  const host = node();
  const state = new PathState(host);
  state.edit((document) => edits.insert(document, 0, pose(1)), { select: 0 });
  state.edit((document) => edits.insert(document, 1, pose(2)), { select: 1 });
  const both = host.now.keyframes;
  assert.equal(host.now.source, "keyframes");
  assert.equal(parseDocument(both).keyframes.length, 2);
  state.undo();
  assert.deepEqual(xs(parseDocument(host.now.keyframes)), [1]);
  assert.equal(state.selected, 0);
  state.undo();
  assert.equal(host.now.keyframes, "");
  assert.equal(host.now.source, "preset");
  assert.equal(state.canUndo, false);
  state.undo(); // nothing left: nothing happens
  state.redo();
  state.redo();
  assert.equal(host.now.keyframes, both);
  assert.equal(state.canRedo, false);
  state.undo();
  state.edit((document) => edits.insert(document, 1, pose(7)));
  assert.equal(state.canRedo, false); // another way was taken
});

test("a drag is one step, the next drag another", () => {
  const host = node(writeDocument(path(pose(0))), "keyframes");
  const state = new PathState(host);
  for (const x of [1, 2, 3]) state.edit((document) => edits.change(document, 0, { position: [x, 0, 0] }), { merge: "a" });
  state.endMerge();
  for (const x of [4, 5]) state.edit((document) => edits.change(document, 0, { position: [x, 0, 0] }), { merge: "a" });
  state.undo();
  assert.deepEqual(xs(state.document), [3]);
  state.undo();
  assert.deepEqual(xs(state.document), [0]);
  assert.equal(state.canUndo, false);
});

test("a text from elsewhere is read, and a bad one is said and kept", () => {
  const host = node(writeDocument(path(pose(0), pose(1))), "keyframes");
  const state = new PathState(host);
  state.select(1);
  host.write({ keyframes: writeDocument(path(pose(8))) });
  state.refresh();
  assert.deepEqual(xs(state.document), [8]);
  assert.equal(state.selected, 0);
  host.write({ keyframes: '{"version": 9}' });
  state.refresh();
  assert.match(state.error, /version 9/);
  assert.equal(host.now.keyframes, '{"version": 9}');
  assert.equal(state.selected, -1);
});
