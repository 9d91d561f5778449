// Camera path documents: what is read, refused and written, hostile texts among them.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { MAX_KEYFRAMES, MAX_TEXT, emptyDocument, parseDocument, writeDocument } from "../../web/path/document.mjs";

const documents = JSON.parse(readFileSync(new URL("./goldens/documents.json", import.meta.url), "utf8"));
const key = { position: [0, 1, 2], quaternion: [1, 0, 0, 0], vertical_fov_degrees: null, time: null };
const text = (keyframes) => JSON.stringify({ version: 1, keyframes });

for (const { text, read } of documents) {
  test(`${read ? "reads" : "refuses"} ${JSON.stringify(text).slice(0, 150)}`, () => {
    if (read) parseDocument(text);
    else assert.throws(() => parseDocument(text), (error) => error.constructor === Error && error.message.length < 300);
  });
}

test("too much of anything is refused before it is read", () => {
  assert.throws(() => parseDocument(" ".repeat(MAX_TEXT) + "{}"), /longer/);
  assert.throws(() => parseDocument(text(Array(MAX_KEYFRAMES + 1).fill(key))), /more than/);
  assert.equal(parseDocument(text(Array(MAX_KEYFRAMES).fill(key))).keyframes.length, MAX_KEYFRAMES);
});

test("a document survives writing and reading", () => {
  const document = { spline: "linear", timing: "times", loop: true, keyframes: [{ ...key, time: 1.5 }, key] };
  assert.deepEqual(parseDocument(writeDocument(document)), document);
});

test("the empty document is the empty text, and one with a choice of its own is not", () => {
  assert.equal(writeDocument(emptyDocument()), "");
  assert.deepEqual(parseDocument(""), emptyDocument());
  const looping = { ...emptyDocument(), loop: true };
  assert.deepEqual(parseDocument(writeDocument(looping)), looping);
});

test("nothing reaches Object.prototype", () => {
  assert.throws(() => parseDocument('{"version": 1, "__proto__": {"polluted": 1}}'));
  assert.equal({}.polluted, undefined);
});
