// The request of a conversation as something to paste: curl, Python, JavaScript, and the fields of
// Dify. Pictures that were given as files are read from files of their names.

/** { curl, python, javascript }, each a text. `pictures` maps data URLs to file names. */
export function snippets({ base, hasKey, body, pictures = new Map() }) {
  const clean = { ...body };
  delete clean.sightline;
  delete clean.stream_options;
  const context = { base, hasKey, body: clean, files: pictures };
  return { curl: curl(context), python: python(context), javascript: javascript(context) };
}

/** [[field, value]] for "OpenAI-API-compatible" in Dify. */
export function difyFields({ base, model, window, maxTokens, hasKey, hasVision }) {
  return [
    ["Model Type", "LLM"],
    ["Model Name", model],
    ["API Key", hasKey ? "YOUR_KEY" : ""],
    ["API endpoint URL", base],
    ["Completion mode", "Chat"],
    ["Model context size", String(window ?? "")],
    ["Upper bound for max tokens", String(maxTokens ?? "")],
    ["Vision Support", hasVision ? "Support" : "No Support"],
  ];
}

function curl({ base, hasKey, body, files }) {
  const media = (file) => `data:${file.type};base64,$(base64 < ${shellWord(file.name)} | tr -d '\\n')`;
  // In a here-document the shell replaces $ and ` and takes \ for itself.
  const escaped = (text) => text.replace(/[\\$`]/g, "\\$&");
  const json = withFiles(JSON.stringify(body, null, 2), files, (file) => `"\u{E010}${file.key}"`, escaped);
  const filled = json.replace(/\u{E010}(\d+)/gu, (_, key) => media(fileOf(files, Number(key))));
  return [
    `curl -N ${base}/chat/completions \\`,
    ...(hasKey ? ["  -H 'Authorization: Bearer YOUR_KEY' \\"] : []),
    "  -H 'Content-Type: application/json' \\",
    "  -d @- <<END",
    filled,
    "END",
  ].join("\n");
}

function python({ base, hasKey, body, files }) {
  const { model, messages, stream, ...options } = body;
  const known = ["temperature", "top_p", "max_tokens", "seed", "stop", "presence_penalty", "frequency_penalty", "response_format", "tools"];
  const extra = Object.fromEntries(Object.entries(options).filter(([name]) => !known.includes(name)));
  const plain = Object.entries(options).filter(([name]) => known.includes(name));
  const literal = (value) =>
    withFiles(pythonLiteral(value, 1), files, (file) => `picture(${JSON.stringify(file.name)})`);
  return [
    ...(files.size ? ["import base64", "import mimetypes", ""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${JSON.stringify(base)}, api_key=${hasKey ? '"YOUR_KEY"' : '"none"'})`,
    "",
    ...(files.size
      ? [
          "",
          "def picture(path: str) -> str:",
          '    data = base64.b64encode(open(path, "rb").read()).decode()',
          '    return f"data:{mimetypes.guess_type(path)[0]};base64,{data}"',
          "",
          "",
        ]
      : []),
    "stream = client.chat.completions.create(",
    `    model=${JSON.stringify(model)},`,
    `    messages=${literal(messages)},`,
    ...plain.map(([name, value]) => `    ${name}=${literal(value)},`),
    ...(Object.keys(extra).length ? [`    extra_body=${literal(extra)},`] : []),
    `    stream=${stream ? "True" : "False"},`,
    ")",
    "for chunk in stream:",
    '    print(chunk.choices[0].delta.content or "", end="", flush=True)',
  ].join("\n");
}

function javascript({ base, hasKey, body, files }) {
  const json = withFiles(JSON.stringify(body, null, 2), files, (file) => `await picture(${JSON.stringify(file.name)})`);
  return [
    'import OpenAI from "openai";',
    ...(files.size ? ['import { readFile } from "node:fs/promises";'] : []),
    "",
    `const client = new OpenAI({ baseURL: ${JSON.stringify(base)}, apiKey: ${hasKey ? '"YOUR_KEY"' : '"none"'} });`,
    ...(files.size
      ? [
          "const picture = async (path) =>",
          '  `data:image/${path.split(".").pop()};base64,${await readFile(path, "base64")}`;',
        ]
      : []),
    "",
    `const stream = await client.chat.completions.create(${json});`,
    "for await (const chunk of stream) {",
    '  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");',
    "}",
  ].join("\n");
}

/** `text` with every data URL that is a known picture replaced, quotes included. */
function withFiles(text, files, write, escape = (rest) => rest) {
  let at = 0;
  let out = "";
  for (const [whole, url] of matches(text)) {
    const file = files.get(url);
    if (!file) continue;
    const begin = text.indexOf(whole, at);
    out += escape(text.slice(at, begin)) + write(file);
    at = begin + whole.length;
  }
  return out + escape(text.slice(at));
}

function matches(text) {
  return [...text.matchAll(/"(data:image\/[^"]*)"/g)];
}

function fileOf(files, key) {
  return [...files.values()].find((file) => file.key === key);
}

function shellWord(name) {
  return /^[\w.-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`;
}

function pythonLiteral(value, depth) {
  const pad = "    ".repeat(depth);
  const inner = `${pad}    `;
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (Array.isArray(value)) {
    if (value.length === 0) return "[]";
    return `[\n${value.map((item) => inner + pythonLiteral(item, depth + 1)).join(",\n")},\n${pad}]`;
  }
  if (typeof value === "object") {
    const entries = Object.entries(value);
    if (entries.length === 0) return "{}";
    const lines = entries.map(([key, item]) => `${inner}${JSON.stringify(key)}: ${pythonLiteral(item, depth + 1)}`);
    return `{\n${lines.join(",\n")},\n${pad}}`;
  }
  return JSON.stringify(value);
}
