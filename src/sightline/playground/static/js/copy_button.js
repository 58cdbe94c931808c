// A button that puts a text on the clipboard, and says that it did.

import { h } from "./element.js";
import { icon } from "./icons.js";
import { t } from "./language.js";

const SHOWN_MS = 1500;

export function copyButton(getText, label = "copy") {
  const button = h("button", { class: "quiet small", type: "button", "aria-label": t(label), title: t(label), onclick: copy }, icon("copy"));

  async function copy() {
    await write(getText());
    button.replaceChildren(icon("check"));
    button.setAttribute("aria-label", t("copied"));
    setTimeout(() => {
      button.replaceChildren(icon("copy"));
      button.setAttribute("aria-label", t(label));
    }, SHOWN_MS);
  }
  return button;
}

/** The clipboard's own interface exists on https and loopback only. */
async function write(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea", { class: "offscreen", value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
