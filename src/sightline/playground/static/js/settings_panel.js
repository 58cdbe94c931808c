// The panel of settings: what the model is told first, how it chooses its words, which form its
// answer must have, which tools it may call.

import { h } from "./element.js";
import { t } from "./language.js";
import { DEFAULTS, jsonProblem, NUMBERS } from "./settings.js";

const FORMATS = ["text", "json_object", "json_schema"];
const SCHEMA_EXAMPLE = '{\n  "type": "object",\n  "properties": {\n    "shape": { "type": "string" },\n    "count": { "type": "integer" }\n  },\n  "required": ["shape", "count"]\n}';
const TOOLS_EXAMPLE = '[{"type": "function", "function": {\n  "name": "look_up",\n  "parameters": {"type": "object", "properties": {"name": {"type": "string"}}}\n}}]';

/** `settings` is changed in place; `onChange` is called after every change. */
export function settingsPanel(settings, onChange) {
  const element = h("form", { class: "settings", onsubmit: (event) => event.preventDefault() });
  const change = (name, value) => {
    settings[name] = value;
    onChange();
  };
  const draw = () => element.replaceChildren(...sections(settings, change, reset, draw));
  const reset = () => {
    Object.assign(settings, DEFAULTS);
    onChange();
    draw();
  };
  draw();
  return element;
}

function sections(settings, change, reset, redraw) {
  return [
    textField("system", settings, change, { rows: 4, hint: t("system_hint") }),
    h("h3", {}, t("sampling")),
    ...NUMBERS.map((rule) => numberField(rule, settings, change)),
    textField("stop", settings, change, { rows: 2, hint: "" }),
    h("h3", {}, t("answer_form")),
    formatField(settings, change, redraw),
    settings.format === "json_schema" && jsonField("schema", settings, change, SCHEMA_EXAMPLE),
    h("h3", {}, t("tools")),
    jsonField("tools", settings, change, TOOLS_EXAMPLE),
    h("button", { class: "reset", type: "button", onclick: reset }, t("reset_settings")),
  ].filter(Boolean);
}

function field(name, control) {
  const hintId = `hint-${name}`;
  control.id = `setting-${name}`;
  control.setAttribute("aria-describedby", hintId);
  return h(
    "div",
    { class: "field" },
    h("label", { for: control.id }, t(`set_${name}`)),
    control,
    h("p", { class: "hint", id: hintId }, t(`hint_${name}`)),
  );
}

function numberField({ name, min, max, step }, settings, change) {
  const input = h("input", { type: "number", min, max, step: "any", inputmode: "decimal", value: settings[name], placeholder: t("model_default") });
  input.dataset.step = step;
  input.addEventListener("input", () => {
    const isValid = input.validity.valid;
    input.setAttribute("aria-invalid", String(!isValid));
    if (isValid) change(name, input.value === "" ? "" : Number(input.value));
  });
  const box = field(name, input);
  box.classList.add("inline");
  return box;
}

function textField(name, settings, change, { rows, hint }) {
  return field(name, h("textarea", { rows, value: settings[name], placeholder: hint, oninput: (event) => change(name, event.target.value) }));
}

function formatField(settings, change, redraw) {
  const choose = (format) => {
    change("format", format);
    redraw();
    document.getElementById(`format-${format}`)?.focus();
  };
  return h(
    "fieldset",
    { class: "segments" },
    h("legend", { class: "offscreen" }, t("answer_form")),
    FORMATS.map((format) =>
      h(
        "label",
        {},
        h("input", { type: "radio", name: "format", id: `format-${format}`, checked: settings.format === format, onchange: () => choose(format) }),
        h("span", {}, t(`format_${format}`)),
      ),
    ),
  );
}

function jsonField(name, settings, change, example) {
  const mark = h("p", { class: "problem", role: "status" });
  const input = h("textarea", { class: "code", rows: 7, spellcheck: "false", value: settings[name], placeholder: example });
  const judge = () => {
    const problem = jsonProblem(input.value);
    input.setAttribute("aria-invalid", String(problem !== null));
    mark.textContent = problem ?? "";
  };
  input.addEventListener("input", () => {
    change(name, input.value);
    judge();
  });
  judge();
  const box = field(name, input);
  box.append(mark);
  return box;
}
