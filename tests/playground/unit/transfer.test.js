import assert from "node:assert/strict";
import { test } from "node:test";

import { addMessage, newConversation, path } from "../../../src/sightline/playground/static/js/conversation.js";
import { fromFile, toJson, toMarkdown } from "../../../src/sightline/playground/static/js/transfer.js";

function conversation() {
  const made = newConversation();
  addMessage(made, { role: "user", text: "这是什么?\n\nLook:", pictures: [{ name: "a [1].png", source: "data:image/png;base64,AA==" }] });
  addMessage(made, { role: "assistant", text: "# A heading\n\n<!-- sightline:user -->\n\n```\ncode\n```", state: "done" });
  return made;
}

test("JSON gives back everything but the identity", () => {
  const made = conversation();
  const [read] = fromFile(toJson([made]));
  assert.deepEqual(read.messages, made.messages);
  assert.equal(read.leaf, made.leaf);
  assert.equal(read.title, made.title);
});

test("Markdown gives back the words and pictures of the path", () => {
  const made = conversation();
  const [read] = fromFile(toMarkdown(made, { user: "我", assistant: "模型", tool: "工具" }));
  assert.deepEqual(path(read).map(({ role, text }) => [role, text]), path(made).map(({ role, text }) => [role, text]));
  assert.equal(path(read)[0].pictures[0].source, "data:image/png;base64,AA==");
  assert.equal(read.title, made.title);
});

test("a text that looks like a mark of ours stays text, however often it is exported", () => {
  let read = conversation();
  for (let times = 0; times < 3; times += 1) [read] = fromFile(toMarkdown(read));
  assert.equal(path(read).length, 2);
  assert.ok(path(read)[1].text.includes("\n<!-- sightline:user -->\n"));
});

test("files that are none of ours are refused", () => {
  const broken = JSON.parse(toJson([conversation()]));
  broken.conversations[0].leaf = "gone";
  for (const text of ["", "{}", "[1]", "# Some notes\n\nText", '{"format": "other"}', JSON.stringify(broken)]) {
    assert.throws(() => fromFile(text));
  }
});

test("a picture of an imported file may not be anything but a picture", () => {
  const file = JSON.parse(toJson([conversation()]));
  const first = Object.values(file.conversations[0].messages)[0];
  first.pictures = [{ source: "javascript:alert(1)", name: "x" }];
  const [read] = fromFile(JSON.stringify(file));
  assert.deepEqual(path(read)[0].pictures, []);
});
