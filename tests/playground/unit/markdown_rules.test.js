import assert from "node:assert/strict";
import { test } from "node:test";

import { boxRule } from "../../../src/sightline/playground/static/js/box_rule.js";
import { readBoxes } from "../../../src/sightline/playground/static/js/boxes.js";
import { mathRule } from "../../../src/sightline/playground/static/js/math_rule.js";
import markdownIt from "../../../src/sightline/playground/static/vendor/markdown-it/markdown-it.esm.min.mjs";

const md = markdownIt({ html: false }).use(mathRule).use(boxRule);
const formulas = (text) => [...md.render(text).matchAll(/data-tex="([^"]*)"/g)].map((found) => found[1]);

test("formulas are found between all four pairs of signs", () => {
  assert.deepEqual(formulas("$a$ and \\(b\\) and $$c$$ and \\[d\\]"), ["a", "b", "c", "d"]);
  assert.deepEqual(formulas("$$\nx^2\n+ y\n$$"), ["x^2\n+ y"]);
});

test("money, spaces and escaped signs are no formulas", () => {
  for (const text of ["$5 and $6", "a $ b $ c", "\\$a\\$", "`$a$`"]) assert.deepEqual(formulas(text), []);
});

test("a formula that is not closed yet is shown as it is", () => {
  assert.deepEqual(formulas("$$\nx^2\n"), []);
  assert.ok(md.render("$$\nx^2\n").includes("$$"));
});

test("a label points at its boxes, in the middle of Markdown", () => {
  const { text } = readBoxes("a **bold** word, <ref>猫</ref><box>(1,2),(3,4)</box>.");
  assert.ok(md.render(text).includes('data-boxes="0">猫</span>'));
});

test("a box without a label shows its number", () => {
  const { text } = readBoxes("at <box>(1,2),(3,4)</box>");
  assert.ok(md.render(text).includes('data-boxes="0">1</span>'));
});

test("HTML in an answer stays text", () => {
  assert.ok(!md.render("<script>alert(1)</script><b>x</b>").includes("<b>"));
});
