import assert from "node:assert/strict";
import { test } from "node:test";

import { judgeJson } from "../../../src/sightline/playground/static/js/json_schema.js";
import { STRINGS } from "../../../src/sightline/playground/static/js/strings.js";

const SCHEMA = {
  type: "object",
  properties: {
    shape: { enum: ["circle", "square"] },
    count: { type: "integer", minimum: 1 },
    tags: { type: "array", items: { type: "string", maxLength: 3 }, maxItems: 2 },
    of: { $ref: "#/$defs/of" },
  },
  required: ["shape"],
  additionalProperties: false,
  $defs: { of: { anyOf: [{ type: "string" }, { type: "null" }] } },
};

const CASES = [
  ['{"shape": "circle", "count": 2, "tags": ["a"], "of": null}', null],
  ['```json\n{"shape": "circle"}\n```', null],
  ["not json", "json_not_json", "$"],
  ["[]", "json_wrong_type", "$"],
  ["{}", "json_missing", "$"],
  ['{"shape": "star"}', "json_not_one_of", "$.shape"],
  ['{"shape": "circle", "count": 1.5}', "json_wrong_type", "$.count"],
  ['{"shape": "circle", "count": 0}', "json_too_small", "$.count"],
  ['{"shape": "circle", "tags": ["a", "long"]}', "json_too_long", "$.tags[1]"],
  ['{"shape": "circle", "tags": ["a", "b", "c"]}', "json_too_long", "$.tags"],
  ['{"shape": "circle", "of": 3}', "json_no_variant", "$.of"],
  ['{"shape": "circle", "more": 1}', "json_extra", "$"],
];

for (const [text, reason, path] of CASES) {
  test(`${text} is ${reason ?? "right"}`, () => {
    const verdict = judgeJson(text, SCHEMA);
    assert.equal(verdict.ok, reason === null);
    if (reason) {
      assert.deepEqual([verdict.reason, verdict.path], [reason, path]);
      assert.ok(STRINGS[reason]);
    }
  });
}

test("without a schema any JSON is right", () => {
  assert.equal(judgeJson("[1, 2]").ok, true);
});
