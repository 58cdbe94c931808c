import assert from "node:assert/strict";
import { test } from "node:test";

import { Answer } from "../../../src/sightline/playground/static/js/answer.js";
import { EventParser } from "../../../src/sightline/playground/static/js/event_stream.js";

const STREAM = 'data: {"a":1}\n\n: keep-alive\n\ndata: {"a":"中"}\n\ndata: [DONE]\n\n';

test("events are the same however the text is cut", () => {
  for (let cut = 0; cut <= STREAM.length; cut += 1) {
    const parser = new EventParser();
    const events = [...parser.feed(STREAM.slice(0, cut)), ...parser.feed(STREAM.slice(cut))];
    assert.deepEqual(events, ['{"a":1}', '{"a":"中"}', "[DONE]"]);
  }
});

function answered(...deltas) {
  let now = 0;
  const answer = new Answer({}, () => now);
  for (const delta of deltas) {
    now += 100;
    answer.take({ choices: [{ index: 0, delta }] });
  }
  answer.take({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] });
  answer.take({ choices: [], usage: { completion_tokens: 2 } });
  answer.end("done");
  return answer.message;
}

test("text and times of an answer are put together", () => {
  const message = answered({ role: "assistant", content: "" }, { content: "A " }, { content: "cat." });
  assert.equal(message.text, "A cat.");
  assert.equal(message.finishReason, "stop");
  assert.equal(message.facts.firstMs, 200); // the role alone is no word
  assert.equal(message.facts.totalMs, 300);
  assert.equal(message.facts.usage.completion_tokens, 2);
});

test("reasoning is kept apart, and counted once when it comes under both names", () => {
  const message = answered({ reasoning_content: "Hm", reasoning: "Hm" }, { content: "Yes." });
  assert.equal(message.reasoning, "Hm");
  assert.equal(message.text, "Yes.");
  assert.deepEqual([message.facts.reasoningFrom, message.facts.reasoningTo], [100, 200]);
});

test("a call of a tool is put together from its pieces", () => {
  const message = answered(
    { tool_calls: [{ index: 0, id: "call_1", function: { name: "look", arguments: '{"a"' } }] },
    { tool_calls: [{ index: 0, function: { arguments: ":1}" } }] },
  );
  assert.deepEqual(message.toolCalls, [{ id: "call_1", name: "look", arguments: '{"a":1}' }]);
});

test("an error is kept with the message", () => {
  const answer = new Answer({}, () => 0);
  answer.end("failed", Object.assign(new Error("No."), { code: "queue_full", status: 429 }));
  assert.deepEqual(answer.message.error, { message: "No.", code: "queue_full", status: 429, param: null });
});
