// A conversation as a tree: regenerating or editing adds a sibling, and one path of it is shown.
//
// conversation: { id, title, created, updated, messages: { id: message }, leaf }
// message: { id, parent, role: "user" | "assistant" | "tool", text, pictures, created, ... }
//   user:      pictures: [{ source, name, type, bytes, width, height }]
//   assistant: reasoning, toolCalls: [{ id, name, arguments }], model, state, error, facts
//   tool:      toolCallId
// `leaf` is the last message of the path that is shown; null while there is none.

const TITLE_CHARACTERS = 48;

export function newConversation({ id = crypto.randomUUID(), now = Date.now() } = {}) {
  return { id, title: "", created: now, updated: now, messages: {}, leaf: null };
}

/** Add a message after `parent` (by default the last one shown) and show it. Returns it. */
export function addMessage(conversation, fields, parent = conversation.leaf) {
  const message = {
    id: crypto.randomUUID(),
    parent,
    text: "",
    pictures: [],
    created: Date.now(),
    ...fields,
  };
  conversation.messages[message.id] = message;
  conversation.leaf = message.id;
  conversation.updated = Date.now();
  conversation.title ||= titleOf(message);
  return message;
}

/** The messages from the first to `end`, oldest first. */
export function path(conversation, end = conversation.leaf) {
  const found = [];
  for (let id = end; id !== null && conversation.messages[id]; id = conversation.messages[id].parent) {
    found.push(conversation.messages[id]);
  }
  return found.reverse();
}

/** The alternatives to a message, itself among them, oldest first. */
export function siblings(conversation, message) {
  return Object.values(conversation.messages)
    .filter((other) => other.parent === message.parent && other.role === message.role)
    .sort((one, other) => one.created - other.created);
}

/** Show `message`, and below it the latest answers that were given there. */
export function show(conversation, message) {
  let leaf = message;
  for (;;) {
    const children = Object.values(conversation.messages).filter((m) => m.parent === leaf.id);
    if (children.length === 0) break;
    leaf = children.reduce((latest, child) => (child.created >= latest.created ? child : latest));
  }
  conversation.leaf = leaf.id;
}

/** A new conversation that begins with everything up to `message`. */
export function branch(conversation, message) {
  const copy = newConversation();
  copy.title = conversation.title;
  for (const old of path(conversation, message.id)) copy.messages[old.id] = structuredClone(old);
  copy.leaf = message.id;
  return copy;
}

/** What the API is sent for these messages, an answer that failed or is empty left out. */
export function toWire(messages, system = "") {
  const wire = system.trim() ? [{ role: "system", content: system }] : [];
  for (const message of messages) {
    if (message.role === "user") wire.push({ role: "user", content: userContent(message) });
    if (message.role === "tool") {
      wire.push({ role: "tool", tool_call_id: message.toolCallId, content: message.text });
    }
    if (message.role === "assistant" && (message.text || message.toolCalls?.length)) {
      wire.push(assistantMessage(message));
    }
  }
  return wire;
}

function userContent(message) {
  if (message.pictures.length === 0) return message.text;
  const parts = message.pictures.map((picture) => ({
    type: "image_url",
    image_url: { url: picture.source },
  }));
  return message.text ? [...parts, { type: "text", text: message.text }] : parts;
}

function assistantMessage({ text, toolCalls = [] }) {
  if (toolCalls.length === 0) return { role: "assistant", content: text };
  return {
    role: "assistant",
    content: text || null,
    tool_calls: toolCalls.map((call) => ({
      id: call.id,
      type: "function",
      function: { name: call.name, arguments: call.arguments },
    })),
  };
}

function titleOf(message) {
  if (message.role !== "user") return "";
  const line = message.text.trim().split("\n")[0] || message.pictures[0]?.name || "";
  return line.length > TITLE_CHARACTERS ? `${line.slice(0, TITLE_CHARACTERS - 1)}…` : line;
}
