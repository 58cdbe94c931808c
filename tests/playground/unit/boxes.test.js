import assert from "node:assert/strict";
import { test } from "node:test";

import { readBoxes, withoutOpenTag } from "../../../src/sightline/playground/static/js/boxes.js";

const BOX = { x: 0.1, y: 0.2, width: 0.3, height: 0.4, label: "cat" };

function close(found, wanted) {
  for (const name of ["x", "y", "width", "height"]) assert.ok(Math.abs(found[name] - wanted[name]) < 1e-9, name);
  assert.equal(found.label, wanted.label);
}

test("a tagged box is of 0 to 1000 and leaves its label in the text", () => {
  const { text, boxes } = readBoxes("See <ref>cat</ref><box>(100,200),(400,600)</box> here.");
  close(boxes[0], BOX);
  assert.equal(text, "See \u{E000}0\u{E001}cat\u{E002} here.");
});

test("Qwen2-VL's own tags are read as well", () => {
  const { boxes } = readBoxes("<|object_ref_start|>cat<|object_ref_end|><|box_start|>(100,200),(400,600)<|box_end|>");
  close(boxes[0], BOX);
});

test("one label may have several boxes, and a box no label", () => {
  const { text, boxes } = readBoxes("<ref>cats</ref><box>(0,0),(10,10)</box><box>(20,20),(30,30)</box> <box>(1,1),(2,2)</box>");
  assert.equal(boxes.length, 3);
  assert.ok(text.startsWith("\u{E000}0,1"));
});

test("corners in any order make the same box", () => {
  const { boxes } = readBoxes("<ref>cat</ref><box>(400,600),(100,200)</box>");
  close(boxes[0], BOX);
});

test("what is no box stays text", () => {
  for (const source of ["<box>here</box>", "<ref>cat</ref> alone", "<box>(5,5),(5,5)</box>", "a < b"]) {
    assert.deepEqual(readBoxes(source), { text: source, boxes: [] });
  }
});

test("JSON boxes are found in code fences and in nested lists", () => {
  const json = JSON.stringify([{ bbox_2d: [100, 200, 400, 600], label: "cat" }]);
  for (const source of [json, `Here:\n\`\`\`json\n${json}\n\`\`\`\n`, JSON.stringify({ objects: JSON.parse(json) })]) {
    close(readBoxes(source).boxes[0], BOX);
  }
});

test("JSON boxes of one to nothing are fractions, those of pixels go by what the model saw", () => {
  close(readBoxes(JSON.stringify({ bbox: [0.1, 0.2, 0.4, 0.6], label: "cat" })).boxes[0], BOX);
  const seen = { width: 2000, height: 1000 };
  close(readBoxes(JSON.stringify({ bbox_2d: [200, 200, 800, 600], label: "cat" }), { seen, model: "Qwen2.5-VL-7B" }).boxes[0], BOX);
  close(readBoxes(JSON.stringify({ bbox_2d: [200, 200, 1100, 600], label: "cat" }), { seen }).boxes[0], { ...BOX, width: 0.45 });
});

test("a box is cut at the edges of the picture", () => {
  const { boxes } = readBoxes("<box>(900,900),(1200,1200)</box>");
  close(boxes[0], { x: 0.9, y: 0.9, width: 0.1, height: 0.1, label: "" });
});

test("a tag that is still being written is held back", () => {
  assert.equal(withoutOpenTag("See <ref>ca"), "See ");
  assert.equal(withoutOpenTag("See <bo"), "See ");
  assert.equal(withoutOpenTag("a < b"), "a < b");
  assert.equal(withoutOpenTag("done <ref>cat</ref>"), "done <ref>cat</ref>");
});
