// Which language the page speaks, and its texts in that language.

import { STRINGS } from "./strings.js";

const KEY = "sightline.language";
const LANGUAGES = ["en", "zh"];

let current = preferred();

function preferred() {
  const chosen = globalThis.localStorage?.getItem(KEY);
  if (LANGUAGES.includes(chosen)) return chosen;
  return (globalThis.navigator?.language ?? "en").toLowerCase().startsWith("zh") ? "zh" : "en";
}

export function language() {
  return current;
}

export function setLanguage(name) {
  current = name;
  localStorage.setItem(KEY, name);
}

/** The text under `key`, with {name} replaced by `values.name`. */
export function t(key, values = {}) {
  const entry = STRINGS[key];
  if (!entry) throw new Error(`no text called ${key}`);
  return entry[LANGUAGES.indexOf(current)].replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** A number as people write it: 1,602. */
export function count(number) {
  return new Intl.NumberFormat(current === "zh" ? "zh-CN" : "en").format(number);
}

/** Fill every element below `root` that names its text: data-t, data-t-label, data-t-hint. */
export function translate(root = document) {
  document.documentElement.lang = current === "zh" ? "zh-CN" : "en";
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
    element.title = t(element.dataset.tLabel);
  }
  for (const element of root.querySelectorAll("[data-t-hint]")) element.placeholder = t(element.dataset.tHint);
}
