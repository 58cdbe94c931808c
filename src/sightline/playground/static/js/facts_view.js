// The numbers under an answer: a line, a bar of where the time went, and behind it the details.

import { h } from "./element.js";
import { duration, numbersOf, stagesOf } from "./facts.js";
import { count, t } from "./language.js";

/** Null while nothing is known. */
export function factsView(facts) {
  if (!facts || facts.totalMs === null) return null;
  const numbers = numbersOf(facts);
  const stages = stagesOf(facts.report?.timings);
  const total = stages.reduce((sum, { seconds }) => sum + seconds, 0);
  const line = [
    numbers.firstMs !== null && t("fact_first", { time: duration(numbers.firstMs / 1000) }),
    numbers.tokensPerSecond !== null && t("fact_speed", { speed: numbers.tokensPerSecond.toFixed(1) }),
    numbers.imageTokens > 0 && t("fact_image_tokens", { tokens: count(numbers.imageTokens) }),
    numbers.cachedTokens > 0 && t("fact_cached", { tokens: count(numbers.cachedTokens) }),
  ].filter(Boolean);
  return h(
    "details",
    { class: "facts" },
    h("summary", {}, h("span", { class: "facts-line" }, line.join(" · ")), total > 0 && bar(stages, total)),
    h(
      "div",
      { class: "facts-more" },
      total > 0 && h("h4", {}, t("where_time_went")),
      total > 0 && legend(stages),
      table(numbers),
      notices(facts.report?.warnings ?? []),
    ),
  );
}

/** `scale` is how many seconds the whole width means. */
export function bar(stages, scale) {
  return h(
    "span",
    { class: "time-bar", role: "img", "aria-label": stages.map(inWords).join(", ") },
    stages
      .filter(({ seconds }) => seconds > 0)
      .map(({ name, seconds }) =>
        h("span", { class: `stage stage-${name}`, style: { width: `${(seconds / scale) * 100}%` }, title: inWords({ name, seconds }) }),
      ),
  );
}

function inWords({ name, seconds }) {
  return `${t(`stage_${name}`)} ${duration(seconds)}`;
}

function legend(stages) {
  return h(
    "ul",
    { class: "stage-legend" },
    stages.map(({ name, seconds }) =>
      h("li", {}, h("span", { class: `swatch stage-${name}` }), h("span", {}, t(`stage_${name}`)), h("span", { class: "number" }, duration(seconds))),
    ),
  );
}

function table(numbers) {
  const rows = [
    ["fact_total", numbers.totalMs !== null && duration(numbers.totalMs / 1000)],
    ["fact_prompt", numbers.promptTokens !== null && count(numbers.promptTokens)],
    ["fact_pictures", numbers.imageTokens !== null && count(numbers.imageTokens)],
    ["fact_from_cache", numbers.cachedTokens !== null && count(numbers.cachedTokens)],
    ["fact_answer", numbers.answerTokens !== null && count(numbers.answerTokens)],
  ].filter(([, value]) => value !== false);
  return h("dl", { class: "fact-table" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, t(name)), h("dd", { class: "number" }, value))));
}

function notices(warnings) {
  const shown = warnings.filter(({ severity }) => severity === "warn");
  if (shown.length === 0) return null;
  return h("ul", { class: "notices" }, shown.map(({ field, reason }) => h("li", {}, t("ignored_field", { field, reason }))));
}
