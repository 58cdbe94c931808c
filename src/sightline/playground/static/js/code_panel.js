// The panel of code: the current request in the languages that people paste it into.

import { copyButton } from "./copy_button.js";
import { h } from "./element.js";
import { t } from "./language.js";
import { colour } from "./markdown.js";
import { difyFields, snippets } from "./snippets.js";

const TABS = ["curl", "python", "javascript", "dify"];
const NAMES = { curl: "curl", python: "Python", javascript: "JavaScript", dify: "Dify" };
const COLOURED_AS = { curl: "bash", python: "python", javascript: "javascript" };

let chosen = "curl";

/** `request`: { base, hasKey, body, pictures, model } where `model` is one of the models list. */
export function codePanel(request) {
  const element = h("div", { class: "code-panel" });
  const draw = () => {
    const tabs = h(
      "div",
      { class: "tabs", role: "tablist", "aria-label": t("code") },
      TABS.map((name) =>
        h(
          "button",
          {
            type: "button",
            role: "tab",
            id: `tab-${name}`,
            "aria-selected": String(name === chosen),
            "aria-controls": "code-shown",
            tabindex: name === chosen ? 0 : -1,
            onclick: () => choose(name),
            onkeydown: onKey,
          },
          NAMES[name],
        ),
      ),
    );
    const body = h("div", { id: "code-shown", role: "tabpanel", "aria-labelledby": `tab-${chosen}` });
    body.append(chosen === "dify" ? dify(request) : snippet(request));
    element.replaceChildren(tabs, body);
  };
  const choose = (name) => {
    chosen = name;
    draw();
    element.querySelector(`#tab-${name}`).focus();
  };
  const onKey = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) choose(TABS[(TABS.indexOf(chosen) + step + TABS.length) % TABS.length]);
  };
  draw();
  return element;
}

function snippet(request) {
  const text = snippets(request)[chosen];
  const code = h("code", {}, text);
  colour(code, COLOURED_AS[chosen]);
  return h(
    "div",
    { class: "code-block" },
    h("div", { class: "code-head" }, h("span", {}, NAMES[chosen]), copyButton(() => text, "copy_code")),
    h("pre", { tabindex: 0 }, code),
  );
}

function dify({ base, hasKey, model }) {
  const about = model?.sightline ?? {};
  const rows = difyFields({
    base,
    hasKey,
    model: model?.id ?? "",
    window: model?.max_model_len,
    maxTokens: model?.max_model_len && Math.floor(model.max_model_len / 2),
    hasVision: about.input_modalities?.includes("image") ?? true,
  });
  return h(
    "div",
    {},
    h("p", { class: "muted" }, t("dify_where")),
    h(
      "dl",
      { class: "dify" },
      rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value || t("leave_empty"), value && copyButton(() => value)))),
    ),
    h("p", { class: "muted" }, t("dify_docker")),
  );
}
