// A call of a tool, as a card: what is called with what, and a place for the result.

import { h } from "./element.js";
import { icon } from "./icons.js";
import { t } from "./language.js";

/** `result` is the message that answered the call, if there is one; `onResult(text)` sends one. */
export function toolCard(call, { result = null, onResult = null }) {
  return h(
    "section",
    { class: "tool-card", "aria-label": t("tool_call", { name: call.name }) },
    h("header", {}, icon("tool"), h("strong", {}, call.name)),
    h("pre", { tabindex: 0 }, h("code", {}, pretty(call.arguments))),
    result && h("div", { class: "tool-result" }, h("span", { class: "muted" }, t("tool_result")), h("pre", { tabindex: 0 }, h("code", {}, result.text))),
    !result && onResult && resultForm(call, onResult),
  );
}

function resultForm(call, onResult) {
  const input = h("textarea", { rows: 2, required: true, "aria-label": t("tool_result_of", { name: call.name }), placeholder: t("tool_result_hint") });
  const submit = (event) => {
    event.preventDefault();
    onResult(input.value);
  };
  return h("form", { class: "tool-form", onsubmit: submit }, input, h("button", { type: "submit" }, t("tool_send")));
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
