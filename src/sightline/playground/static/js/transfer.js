// Conversations as files: JSON that keeps everything, Markdown that people read.

import { addMessage, newConversation, path } from "./conversation.js";

const FORMAT = "sightline-conversations";
const ROLES = ["user", "assistant", "tool"];
// Invisible where Markdown is shown; what begins like one of ours in a text is kept apart.
const MARK = /^<!-- sightline:(user|assistant|tool) -->$/;
const PICTURE = /^!\[([^\]]*)\]\(<?((?:data:image\/|https?:\/\/)[^\s>)]*)>?\)$/;

export function toJson(conversations) {
  return JSON.stringify({ format: FORMAT, version: 1, conversations }, null, 1);
}

/** The path that is shown, as Markdown that `fromMarkdown` reads. */
export function toMarkdown(conversation, names = { user: "User", assistant: "Assistant", tool: "Tool" }) {
  const lines = [`# ${conversation.title || "sightline"}`, ""];
  for (const message of path(conversation)) {
    lines.push(`<!-- sightline:${message.role} -->`, `**${names[message.role]}**`, "");
    for (const picture of message.pictures ?? []) {
      lines.push(`![${picture.name.replace(/[[\]\n]/g, " ")}](<${picture.source}>)`, "");
    }
    lines.push(message.text.replace(/^(\\*<!-- sightline:)/gm, "\\$1"), "");
  }
  return lines.join("\n");
}

/** The conversations of a file. Throws when it is not one that was exported from here. */
export function fromFile(text) {
  return text.trimStart().startsWith("{") ? fromJson(text) : [fromMarkdown(text)];
}

function fromJson(text) {
  const file = JSON.parse(text);
  if (file.format !== FORMAT || !Array.isArray(file.conversations)) throw new Error("format");
  return file.conversations.map(checked);
}

function fromMarkdown(text) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  const first = lines.findIndex((line) => MARK.test(line));
  if (first < 0) throw new Error("format");
  const conversation = newConversation();
  conversation.title = lines[0].replace(/^#\s*/, "");
  for (let at = first; at < lines.length; ) {
    const role = lines[at].match(MARK)[1];
    let end = at + 1;
    while (end < lines.length && !MARK.test(lines[end])) end += 1;
    addMessage(conversation, messageOf(role, lines.slice(at + 2, end)));
    at = end;
  }
  return conversation;
}

function messageOf(role, lines) {
  const pictures = [];
  const rest = [...lines];
  while (rest.length && (rest[0] === "" || PICTURE.test(rest[0]))) {
    const found = rest.shift().match(PICTURE);
    if (found) pictures.push({ name: found[1], source: found[2] });
  }
  const text = rest.join("\n").replace(/^\\(\\*<!-- sightline:)/gm, "$1").trimEnd();
  return { role, text, pictures, ...(role === "assistant" && { state: "done" }) };
}

/** A conversation out of a file that anybody may have written: only what is known, well formed. */
function checked(given) {
  const conversation = newConversation({ now: Number(given.created) || Date.now() });
  conversation.title = String(given.title ?? "");
  conversation.updated = Number(given.updated) || conversation.created;
  for (const [id, message] of Object.entries(given.messages)) {
    if (!ROLES.includes(message.role)) throw new Error("role");
    const parent = message.parent === null ? null : String(message.parent);
    conversation.messages[id] = {
      ...message,
      id,
      parent,
      text: String(message.text ?? ""),
      pictures: (message.pictures ?? []).filter((p) => isPicture(p.source)),
    };
  }
  const isWhole = Object.values(conversation.messages).every((m) => m.parent === null || conversation.messages[m.parent]);
  const leaf = given.leaf === null ? null : String(given.leaf);
  if (!isWhole || (leaf !== null && !conversation.messages[leaf])) throw new Error("tree");
  conversation.leaf = leaf;
  return conversation;
}

function isPicture(source) {
  return typeof source === "string" && /^(data:image\/|https?:\/\/)/i.test(source);
}
