// The controls that every page has: colours and language.

import { h } from "./element.js";
import { icon } from "./icons.js";
import { language, setLanguage, t } from "./language.js";
import { remember } from "./storage.js";

/** `onLanguage` is called when another language was chosen. */
export function pageControls(onLanguage) {
  const theme = h("button", { class: "quiet", type: "button", "data-t-label": "switch_theme", onclick: switchTheme }, icon("theme"));
  const tongue = h("button", { class: "quiet tongue", type: "button", onclick: switchLanguage });
  const draw = () => {
    tongue.textContent = language() === "zh" ? "EN" : "中文";
    tongue.setAttribute("lang", language() === "zh" ? "en" : "zh-CN");
    tongue.setAttribute("aria-label", language() === "zh" ? "English" : "中文");
  };

  function switchLanguage() {
    setLanguage(language() === "zh" ? "en" : "zh");
    draw();
    onLanguage();
  }
  draw();
  return [theme, tongue];
}

function switchTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  remember("theme", root.dataset.theme);
}

/** The marks of a page's place in the site: links to the others. */
export function siteLink(path, iconName, label) {
  return h("a", { class: "quiet", href: path, "data-t-label": label, title: t(label) }, icon(iconName));
}
