import assert from "node:assert/strict";
import { test } from "node:test";

import { kindOf, objectsIn, resolve } from "../../../src/sightline/playground/static/js/schema_view.js";

const DOCUMENT = { components: { schemas: { Part: { type: "object", properties: { text: { type: "string" } } } } } };
const REF = { $ref: "#/components/schemas/Part" };

test("a kind is told in a few words", () => {
  assert.equal(kindOf({ type: "string" }), "string");
  assert.equal(kindOf({}), "any");
  assert.equal(kindOf({ const: "text" }), '"text"');
  assert.equal(kindOf({ anyOf: [{ enum: ["a", "b"] }, { type: "null" }] }), '"a" | "b" | null');
  assert.equal(kindOf({ type: "array", items: REF }), "Part[]");
  assert.equal(kindOf({ type: "number", minimum: 0, maximum: 2 }), "number 0…2");
  assert.equal(kindOf({ type: "number", exclusiveMinimum: 0, maximum: 1 }), "number >0…1");
  assert.equal(kindOf({ type: "integer", minimum: 1 }), "integer ≥ 1");
});

test("references are followed, and objects found wherever they stand", () => {
  assert.equal(resolve(REF, DOCUMENT), DOCUMENT.components.schemas.Part);
  assert.deepEqual(objectsIn({ anyOf: [{ type: "string" }, { type: "array", items: REF }] }, DOCUMENT), [DOCUMENT.components.schemas.Part]);
  assert.deepEqual(objectsIn({ type: "string" }, DOCUMENT), []);
});
