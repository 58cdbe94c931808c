import assert from "node:assert/strict";
import { test } from "node:test";

import { addMessage, branch, newConversation, path, show, siblings, toWire } from "../../../src/sightline/playground/static/js/conversation.js";

const PICTURE = { source: "data:image/png;base64,AA", name: "a.png" };

function asked() {
  const conversation = newConversation();
  const question = addMessage(conversation, { role: "user", text: "What is this?", pictures: [PICTURE] });
  const answer = addMessage(conversation, { role: "assistant", text: "A cat.", created: 1 });
  return { conversation, question, answer };
}

const texts = (conversation) => path(conversation).map(({ text }) => text);

test("the first question names the conversation", () => {
  assert.equal(asked().conversation.title, "What is this?");
});

test("a second answer stands beside the first, and either can be shown", () => {
  const { conversation, question, answer } = asked();
  const second = addMessage(conversation, { role: "assistant", text: "A dog.", created: 2 }, question.id);
  assert.deepEqual(siblings(conversation, second), [answer, second]);
  assert.deepEqual(texts(conversation), ["What is this?", "A dog."]);
  show(conversation, answer);
  assert.deepEqual(texts(conversation), ["What is this?", "A cat."]);
});

test("showing an edited question shows what was answered to it", () => {
  const { conversation, question } = asked();
  const edited = addMessage(conversation, { role: "user", text: "And this?" }, question.parent);
  addMessage(conversation, { role: "assistant", text: "A bird." });
  show(conversation, question);
  assert.deepEqual(texts(conversation), ["What is this?", "A cat."]);
  show(conversation, edited);
  assert.deepEqual(texts(conversation), ["And this?", "A bird."]);
});

test("a branch is a conversation of its own that ends where it was made", () => {
  const { conversation, question, answer } = asked();
  addMessage(conversation, { role: "user", text: "Why?" });
  const other = branch(conversation, answer);
  assert.notEqual(other.id, conversation.id);
  assert.deepEqual(texts(other), ["What is this?", "A cat."]);
  addMessage(other, { role: "user", text: "Sure?" });
  assert.equal(conversation.messages[question.id].text, "What is this?");
  assert.equal(path(conversation).at(-1).text, "Why?");
});

test("on the wire pictures come before the words, and the system prompt before all", () => {
  const { conversation } = asked();
  assert.deepEqual(toWire(path(conversation), "Be brief."), [
    { role: "system", content: "Be brief." },
    {
      role: "user",
      content: [
        { type: "image_url", image_url: { url: PICTURE.source } },
        { type: "text", text: "What is this?" },
      ],
    },
    { role: "assistant", content: "A cat." },
  ]);
});

test("an empty answer is not sent back, a call of a tool is", () => {
  const conversation = newConversation();
  addMessage(conversation, { role: "user", text: "Look" });
  addMessage(conversation, { role: "assistant", text: "" });
  addMessage(conversation, { role: "assistant", text: "", toolCalls: [{ id: "c1", name: "f", arguments: "{}" }] });
  addMessage(conversation, { role: "tool", text: "3", toolCallId: "c1" });
  assert.deepEqual(toWire(path(conversation)).slice(1), [
    { role: "assistant", content: null, tool_calls: [{ id: "c1", type: "function", function: { name: "f", arguments: "{}" } }] },
    { role: "tool", tool_call_id: "c1", content: "3" },
  ]);
});
