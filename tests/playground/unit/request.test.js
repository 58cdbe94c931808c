import assert from "node:assert/strict";
import { test } from "node:test";

import { chatBody, countChanged, DEFAULTS, jsonProblem, NUMBERS } from "../../../src/sightline/playground/static/js/settings.js";
import { difyFields, snippets } from "../../../src/sightline/playground/static/js/snippets.js";
import { STRINGS } from "../../../src/sightline/playground/static/js/strings.js";

const MESSAGES = [{ role: "user", content: "hi" }];
const body = (settings = {}) => chatBody({ model: "m", messages: MESSAGES, settings: { ...DEFAULTS, ...settings } });

test("settings that are empty are left to the model", () => {
  assert.deepEqual(body(), { model: "m", messages: MESSAGES, stream: true, stream_options: { include_usage: true } });
});

test("zero is a setting, not an empty one", () => {
  assert.equal(body({ temperature: 0, seed: 0 }).temperature, 0);
});

test("stops are lines, schemas and tools are JSON", () => {
  const made = body({ stop: "a\n\nb", format: "json_schema", schema: '{"type": "object"}', tools: '[{"type": "function"}]' });
  assert.deepEqual(made.stop, ["a", "b"]);
  assert.deepEqual(made.response_format, { type: "json_schema", json_schema: { name: "answer", schema: { type: "object" } } });
  assert.deepEqual(made.tools, [{ type: "function" }]);
});

test("a schema that is no JSON is not sent, and said to be none", () => {
  assert.equal(body({ format: "json_schema", schema: "{" }).response_format, undefined);
  assert.notEqual(jsonProblem("{"), null);
  assert.equal(jsonProblem(" "), null);
});

test("changed settings are counted", () => {
  assert.equal(countChanged({ ...DEFAULTS, temperature: 0.5, system: "x" }), 2);
});

test("every setting has a name and a hint in both languages", () => {
  for (const name of [...NUMBERS.map((rule) => rule.name), "system", "stop", "schema", "tools"]) {
    assert.equal(STRINGS[`set_${name}`].length, 2);
    assert.equal(STRINGS[`hint_${name}`].length, 2);
  }
});

test("every text is there in both languages, with the same gaps", () => {
  const gaps = (text) => [...text.matchAll(/\{(\w+)\}/g)].map((found) => found[1]).sort();
  for (const [key, texts] of Object.entries(STRINGS)) {
    assert.equal(texts.length, 2, key);
    assert.ok(texts.every((text) => text.length > 0), key);
    assert.deepEqual(gaps(texts[0]), gaps(texts[1]), key);
  }
});

const URL = "data:image/png;base64,AAAA";
const asked = {
  base: "http://127.0.0.1:8888/v1",
  hasKey: true,
  body: chatBody({
    model: "m",
    messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: URL } }, { type: "text", text: "It's $5 \"here\"" }] }],
    settings: { ...DEFAULTS, temperature: 0.5, top_k: 3 },
    report: true,
  }),
  pictures: new Map([[URL, { name: "my cat.png", type: "image/png", key: 0 }]]),
};

test("code reads pictures from files and never carries their bytes or the key", () => {
  for (const text of Object.values(snippets(asked))) {
    assert.ok(!text.includes("AAAA"));
    assert.ok(text.includes("my cat.png"));
    assert.ok(text.includes("YOUR_KEY"));
    assert.ok(!text.includes("sightline"));
  }
});

test("curl's here-document keeps dollars and quotes as they are", () => {
  const { curl } = snippets(asked);
  assert.ok(curl.includes("$(base64 < 'my cat.png' | tr -d '\\n')"));
  assert.ok(curl.includes("\\$5"));
  assert.ok(curl.includes('\\\\"here'));
});

test("Python gets what the SDK does not know in extra_body, and Python's own words", () => {
  const { python } = snippets(asked);
  assert.ok(python.includes('extra_body={\n        "top_k": 3'));
  assert.ok(python.includes("stream=True"));
  assert.ok(python.includes('picture("my cat.png")'));
});

test("Dify's fields name the model and its window", () => {
  const fields = new Map(difyFields({ base: asked.base, model: "m", window: 2048, maxTokens: 1024, hasKey: false, hasVision: true }));
  assert.equal(fields.get("Model Name"), "m");
  assert.equal(fields.get("Model context size"), "2048");
  assert.equal(fields.get("Vision Support"), "Support");
});
