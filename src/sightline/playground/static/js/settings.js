// The settings of a conversation: what they are called on the wire, what they may be, how they
// become part of a request. A setting that is empty is left to the model.

/** Every number that can be set; `hint` and `label` are keys of the strings. */
export const NUMBERS = [
  { name: "temperature", min: 0, max: 2, step: 0.1 },
  { name: "top_p", min: 0.01, max: 1, step: 0.05 },
  { name: "max_tokens", min: 1, max: 1_000_000, step: 1 },
  { name: "seed", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1 },
  { name: "top_k", min: 0, max: 1000, step: 1 },
  { name: "min_p", min: 0, max: 1, step: 0.05 },
  { name: "presence_penalty", min: -2, max: 2, step: 0.1 },
  { name: "frequency_penalty", min: -2, max: 2, step: 0.1 },
  { name: "repetition_penalty", min: 0.1, max: 2, step: 0.05 },
];

export const DEFAULTS = Object.freeze({
  system: "",
  stop: "",
  format: "text", // "text" | "json_object" | "json_schema"
  schema: "",
  tools: "",
  ...Object.fromEntries(NUMBERS.map(({ name }) => [name, ""])),
});

/** The fields of a request that `settings` ask for. Text that is no JSON is left out. */
export function requestFields(settings) {
  const fields = {};
  for (const { name } of NUMBERS) {
    const value = settings[name];
    if (value !== "" && Number.isFinite(Number(value))) fields[name] = Number(value);
  }
  const stop = settings.stop.split("\n").filter((line) => line !== "");
  if (stop.length) fields.stop = stop;
  if (settings.format === "json_object") fields.response_format = { type: "json_object" };
  if (settings.format === "json_schema") {
    const schema = parsed(settings.schema);
    if (schema) {
      fields.response_format = { type: "json_schema", json_schema: { name: "answer", schema } };
    }
  }
  const tools = parsed(settings.tools);
  if (Array.isArray(tools) && tools.length) fields.tools = tools;
  return fields;
}

/** What is wrong with a box of JSON: null when nothing is, or when it is empty. */
export function jsonProblem(text) {
  if (text.trim() === "") return null;
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return error.message;
  }
}

/** How many settings differ from what the model would do by itself. */
export function countChanged(settings) {
  return Object.keys(DEFAULTS).filter(
    (name) => settings[name] !== DEFAULTS[name] && !(name === "schema" && settings.format !== "json_schema"),
  ).length;
}

/** The body of a chat request. Ours reports what became of the pictures and where the time went. */
export function chatBody({ model, messages, settings, report }) {
  return {
    model,
    messages,
    ...requestFields(settings),
    stream: true,
    stream_options: { include_usage: true },
    ...(report && { sightline: { report: true } }),
  };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
