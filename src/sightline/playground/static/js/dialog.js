// Dialogs: the browser's own, so that focus, Escape and the page behind are taken care of.

import { h } from "./element.js";
import { icon } from "./icons.js";
import { t } from "./language.js";

/** Show `content` under `title`; resolves when it was closed. `close` is given to `build`. */
export function openDialog(title, build, { wide = false } = {}) {
  const dialog = h("dialog", { class: wide ? "dialog wide" : "dialog", "aria-label": title });
  const close = () => dialog.close();
  dialog.append(
    h(
      "header",
      { class: "dialog-head" },
      h("h2", {}, title),
      h("button", { class: "quiet", type: "button", "aria-label": t("close"), onclick: close }, icon("close")),
    ),
    build(close),
  );
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) close();
  });
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve();
    });
  });
}

/** Ask before something is lost. Resolves to whether it may be. */
export async function confirmLoss(question, action) {
  let isConfirmed = false;
  await openDialog(question, (close) =>
    h(
      "div",
      { class: "dialog-actions" },
      h("button", { type: "button", onclick: close }, t("cancel")),
      h("button", { class: "danger", type: "button", autofocus: true, onclick: () => { isConfirmed = true; close(); } }, action),
    ),
  );
  return isConfirmed;
}

/** Ask for one line of text. Resolves to it, or to null. */
export async function askForText(title, { label, value = "", type = "text", action, hint = "" }) {
  let given = null;
  await openDialog(title, (close) => {
    const input = h("input", { type, value, required: true, autofocus: true, autocomplete: "off", "aria-label": label, placeholder: hint });
    const submit = (event) => {
      event.preventDefault();
      given = input.value.trim();
      close();
    };
    return h(
      "form",
      { class: "dialog-form", onsubmit: submit },
      input,
      h("div", { class: "dialog-actions" }, h("button", { class: "primary", type: "submit" }, action)),
    );
  });
  return given || null;
}
