// The API page: the server's own OpenAPI document, readable and to be tried out. No help from
// elsewhere: what is shown comes from /openapi.json of this server.

import { inWords } from "./api_words.js";
import { h, prose } from "./element.js";
import { copyButton } from "./copy_button.js";
import { askForKey, rememberedKey } from "./key_dialog.js";
import { t, translate } from "./language.js";
import { pageControls } from "./page_controls.js";
import { schemaView } from "./schema_view.js";

const at = (id) => document.getElementById(id);
let key = rememberedKey();
let shown = null;

async function send(method, path, body) {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  if (body !== undefined) headers["content-type"] = "application/json";
  return fetch(path, { method, headers, body, credentials: "omit" });
}

async function load() {
  try {
    const response = await send("GET", "/openapi.json");
    if (response.status === 401) return await askAgain();
    shown = await response.json();
    at("notice").hidden = true;
    draw();
  } catch {
    notice(t("unreachable"));
  }
}

async function askAgain() {
  notice(t("key_needed"));
  const given = await askForKey({ isWrong: true, current: key });
  if (given === null) return;
  key = given;
  await load();
}

function notice(text) {
  at("notice").hidden = false;
  at("notice").textContent = text;
}

function draw() {
  const groups = new Map();
  for (const [path, methods] of Object.entries(shown.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags[0];
      groups.set(tag, [...(groups.get(tag) ?? []), endpoint(method, path, operation)]);
    }
  }
  at("document").replaceChildren(
    h("p", { class: "docs-intro" }, prose(`${shown.info.title} ${shown.info.version}: ${inWords(shown.info.description).trim()}`)),
    ...[...groups].map(([tag, endpoints]) => h("section", {}, h("h2", {}, inWords(tag)), endpoints)),
  );
}

function endpoint(method, path, operation) {
  const summary = h(
    "summary",
    {},
    h("span", { class: "verb" }, method),
    h("span", { class: "endpoint-path" }, path),
    h("span", { class: "endpoint-about" }, prose(inWords(operation.summary))),
  );
  const view = h("details", { class: "endpoint", id: operation.operationId }, summary);
  view.addEventListener("toggle", () => view.open && view.children.length === 1 && view.append(body(method, path, operation)));
  return view;
}

function body(method, path, operation) {
  const request = operation.requestBody?.content["application/json"];
  const answer = operation.responses[200]?.content;
  const errors = Object.entries(operation.responses).filter(([status]) => status !== "200");
  return h(
    "div",
    { class: "endpoint-body" },
    request && h("section", {}, h("h3", {}, t("api_request")), schemaView(request.schema, shown)),
    answer && Object.entries(answer).map(([type, { schema }]) => h("section", {}, h("h3", {}, `${t("api_answer")} · ${type}`), schemaView(schema["x-piece"] ?? schema, shown))),
    trial(method, path, request?.examples?.simple.value),
    h("section", {}, h("h3", {}, t("api_errors")), h("ul", { class: "errors-list" }, errors.map(([status, { description }]) => h("li", {}, h("b", {}, status), " ", prose(inWords(description)))))),
  );
}

function trial(method, path, example) {
  if (path.includes("{")) return null;
  const input = example && h("textarea", { value: JSON.stringify(example, null, 2), spellcheck: "false", "aria-label": t("api_request") });
  const output = h("pre", { hidden: true });
  const button = h("button", { class: "primary", type: "button", onclick: run }, t("api_try"));
  const text = () => curl(method, path, input?.value);

  async function run() {
    button.disabled = true;
    output.hidden = false;
    output.textContent = "…";
    try {
      const response = await send(method.toUpperCase(), path, input?.value);
      if (response.status === 401) await askAgain();
      output.textContent = `${response.status}\n${pretty(await response.text())}`;
    } catch {
      output.textContent = t("unreachable");
    } finally {
      button.disabled = false;
    }
  }
  return h("section", { class: "try" }, h("h3", {}, t("api_trial")), input, h("div", { class: "try-actions" }, button, copyButton(text, "copy")), output);
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function curl(method, path, input) {
  const lines = [`curl -X ${method.toUpperCase()} ${location.origin}${path}`];
  if (key) lines.push('-H "Authorization: Bearer $SIGHTLINE_API_KEY"');
  if (input) lines.push("-H 'Content-Type: application/json'", `-d '${input.replaceAll("'", "'\\''")}'`);
  return lines.join(" \\\n  ");
}

at("controls").append(...pageControls(() => {
  translate();
  if (shown) draw();
}));
translate();
load();
