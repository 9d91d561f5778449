import assert from "node:assert/strict";
import { test } from "node:test";
import { StreamParser } from "../../web/viewer/format.mjs";
import { handleSortMessage } from "../../web/viewer/sorter.mjs";

/** The scene of tests/formats/test_stream.py::test_bytes_on_disk, byte by byte. */
function twoGaussians({ json = {}, magic = "FWSPLAT1", count = 2, rows = 2, extra = 0 } = {}) {
  const fields = { total: 2, sh_degree: 1, center: [1, 2, 3], radius: 2, metadata: { seed: 1 }, ...json };
  let text = JSON.stringify(fields);
  text += " ".repeat((16 - (text.length % 16)) % 16);
  const bytes = new Uint8Array(16 + text.length + 80 + 2 * 40 + extra);
  const view = new DataView(bytes.buffer);
  new TextEncoder().encodeInto(magic, bytes);
  view.setUint32(8, count, true);
  view.setUint32(12, text.length, true);
  new TextEncoder().encodeInto(text, bytes.subarray(16));
  const start = 16 + text.length;
  view.setUint32(start, rows, true);
  const floats = [0, 0, 0, 1, 0, 1 / 255, 0, 2 / 255, 2 / 127, 0, 0, 0, 1, 2, 3, 4, 5];
  floats.forEach((value, i) => view.setFloat32(start + 8 + 4 * i, value, true));
  [0, 1, 2, null, 3, 4, 5, null].forEach((value, i) => value !== null && view.setFloat32(start + 80 + 4 * i, value, true));
  const words = [[3, (150 << 20) | (872 << 10) | 150], [7, (2 << 30) | (511 << 20) | (511 << 10) | 511]];
  words.push([8, 3 << 30], [9, (255 << 24) | (255 << 16)], [10, 2 << 30], [11, 255]);
  for (const [at, word] of words) view.setUint32(start + 80 + 4 * at, word >>> 0, true);
  bytes.set([64, 0, 129], start + 80 + 4 * 16);
  return bytes;
}

function parse(bytes, pieces) {
  const chunks = [];
  let header = null;
  const parser = new StreamParser({ onHeader: (value) => (header = value), onChunk: (chunk) => chunks.push(chunk) });
  for (let at = 0; at < bytes.length; at += pieces) parser.push(bytes.subarray(at, at + pieces));
  parser.end();
  return { header, chunks };
}

for (const pieces of [1, 7, 80, 1e6]) {
  test(`a stream in pieces of ${pieces} bytes`, () => {
    const { header, chunks } = parse(twoGaussians(), pieces);
    assert.deepEqual(header, { count: 2, total: 2, degree: 1, center: [1, 2, 3], radius: 2, metadata: { seed: 1 } });
    assert.equal(chunks.length, 1);
    const [{ start, count, params, box, geometry, look, harmonics }] = chunks;
    assert.deepEqual([start, count, [...box]], [0, 2, [0, 1, 2, 3, 4, 5]]);
    assert.deepEqual([...params].map(Math.fround), [0, 0, 0, 1, 0, 1 / 255, 0, 2 / 255, 2 / 127, 0, 0].map(Math.fround));
    assert.deepEqual([...new Float32Array(geometry.buffer, geometry.byteOffset, 8)].filter((_, i) => i % 4 < 3), [0, 1, 2, 3, 4, 5]);
    assert.equal(geometry[7], ((2 << 30) | (511 << 20) | (511 << 10) | 511) >>> 0);
    assert.deepEqual([...look], [3 * 2 ** 30, 255 * 2 ** 24 + 255 * 2 ** 16, 2 * 2 ** 30, 255]);
    assert.deepEqual([...new Int8Array(harmonics.buffer, harmonics.byteOffset + 16, 4)], [64, 0, -127, 0]);
  });
}

test("damaged streams are refused", () => {
  const good = twoGaussians();
  const refused = {
    "not a scene": twoGaussians({ magic: "FWSPLAT2" }),
    "out of range": twoGaussians({ count: 2 ** 30 }),
    "do not fit": twoGaussians({ rows: 3 }),
    "which do not fit": twoGaussians({ rows: 0 }),
    "holds values out": twoGaussians({ json: { sh_degree: 9 } }),
    "values out of range": twoGaussians({ json: { center: [1, 2] } }),
    "cannot be read": good.map((byte, i) => (i === 20 ? 255 : byte)),
    "cut short": good.subarray(0, good.length - 1),
    "follow the last": twoGaussians({ extra: 1 }),
  };
  for (const [message, bytes] of Object.entries(refused)) assert.throws(() => parse(bytes, 1e6), new RegExp(message), message);
  const nan = twoGaussians();
  const start = 16 + new DataView(nan.buffer).getUint32(12, true);
  new DataView(nan.buffer).setFloat32(start + 8, NaN, true);
  assert.throws(() => parse(nan, 1e6), /out of range/);
});

test("a stream of nothing is complete after its header", () => {
  const text = JSON.stringify({ total: 5, sh_degree: 2, center: [0, 0, 0], radius: 1 }).padEnd(80);
  const bytes = new Uint8Array(16 + text.length);
  new TextEncoder().encodeInto("FWSPLAT1", bytes);
  new DataView(bytes.buffer).setUint32(12, text.length, true);
  new TextEncoder().encodeInto(text, bytes.subarray(16));
  assert.equal(parse(bytes, 9).header.total, 5);
});

test("the worker's messages: a chunk, a view, and gone", () => {
  const scenes = new Map();
  const { chunks } = parse(twoGaussians(), 1e6);
  handleSortMessage(scenes, { type: "scene", scene: 1, capacity: 2 });
  handleSortMessage(scenes, { type: "chunk", scene: 1, chunk: chunks[0] });
  const camera = { position: [0, 0, 0], rotation: [1, 0, 0, 0, 1, 0, 0, 0, 1], tangentX: 1, tangentY: 1, near: 0.01, far: 100 };
  const answer = handleSortMessage(scenes, { type: "see", scene: 1, view: 4, camera });
  assert.deepEqual([answer.view, [...answer.order], answer.known], [4, [0, 1], 2]);
  handleSortMessage(scenes, { type: "drop", scene: 1 });
  assert.equal(handleSortMessage(scenes, { type: "see", scene: 1, view: 4, camera }).order.length, 0);
});
