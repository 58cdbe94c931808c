// The last requests as a waterfall: one row each, with a bar of where its time went.

import { h } from "./element.js";
import { duration, stagesOf } from "./facts.js";
import { bar } from "./facts_view.js";
import { count, language, t } from "./language.js";

/** `requests` are those of the server's list, the latest first. `opened` holds the ids of the
 * rows that are open, and is kept up to date.
 */
export function waterfall(requests, opened) {
  if (requests.length === 0) return h("p", { class: "muted" }, t("no_requests"));
  const longest = Math.max(...requests.map(({ duration_s: seconds }) => seconds), 0.001);
  return h("ol", { class: "waterfall" }, requests.map((request) => row(request, longest, opened)));
}

function row(request, longest, opened) {
  const { id, status, duration_s: seconds, timings, path } = request;
  const stages = stagesOf(timings);
  const known = stages.reduce((sum, stage) => sum + stage.seconds, 0);
  const details = h(
    "details",
    { class: "request", open: opened.has(id) },
    h(
      "summary",
      {},
      h("span", { class: "request-time number" }, clock(request.started)),
      h("span", { class: status < 400 ? "request-status good" : "request-status bad" }, request.is_running ? "…" : String(status)),
      h("span", { class: "request-path" }, path),
      h("span", { class: "request-bar" }, known > 0 ? bar(stages, longest) : plain(seconds, longest)),
      h("span", { class: "request-length number" }, duration(seconds)),
    ),
    h("div", { class: "request-more" }, facts(request, stages), request.content && content(request.content)),
  );
  details.addEventListener("toggle", () => (details.open ? opened.add(id) : opened.delete(id)));
  return h("li", {}, details);
}

function plain(seconds, longest) {
  return h("span", { class: "time-bar", "aria-hidden": "true" }, h("span", { class: "stage stage-queue", style: { width: `${(seconds / longest) * 100}%` } }));
}

function facts(request, stages) {
  const rows = [
    ["request_id", request.id],
    ["request_error", request.error],
    ["model", request.model],
    ["fact_prompt", request.prompt_tokens && count(request.prompt_tokens)],
    ["fact_pictures", request.image_tokens && count(request.image_tokens)],
    ["fact_from_cache", request.cached_tokens && count(request.cached_tokens)],
    ["fact_answer", request.completion_tokens && count(request.completion_tokens)],
    ...stages.map(({ name, seconds }) => [`stage_${name}`, duration(seconds)]),
  ].filter(([, value]) => value);
  return h("dl", { class: "fact-table" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, t(name)), h("dd", { class: "number" }, value))));
}

function content({ messages, answer }) {
  const entry = (who, text) => h("div", { class: "request-content" }, h("h4", {}, who), h("pre", { tabindex: 0 }, text));
  return h(
    "div",
    {},
    messages.map(({ role, text }) => entry(role, text)),
    answer && entry(t("model"), answer),
  );
}

function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString(language() === "zh" ? "zh-CN" : "en-GB");
}
