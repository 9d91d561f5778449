// Every widget of ours has a place on its node: without one it is never attached.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { SLOTS } from "../../web/widgets/slot.mjs";

test("every node of the table of widgets has a slot", () => {
  const source = readFileSync(new URL("../../web/extension.js", import.meta.url), "utf8");
  const listed = [...source.matchAll(/^ {2}(FlashWorld_\w+): \[/gm)].map(([, name]) => name);
  assert.ok(listed.length >= 4);
  for (const name of listed) assert.ok(Object.hasOwn(SLOTS, name), name);
});
