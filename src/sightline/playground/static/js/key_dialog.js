// The API key of a server: asked for when the server wants one, forgotten with the page unless
// the person says otherwise.

import { openDialog } from "./dialog.js";
import { h } from "./element.js";
import { t } from "./language.js";
import { remember, remembered } from "./storage.js";

export function rememberedKey() {
  return remembered("key", "");
}

/** Resolves to the key, or to null when none was given. */
export async function askForKey({ isWrong = false, current = "" } = {}) {
  let key = null;
  await openDialog(t("api_key"), (close) => {
    const input = h("input", { type: "password", value: current, autocomplete: "off", autofocus: true, "aria-label": t("api_key"), spellcheck: "false" });
    const keep = h("input", { type: "checkbox", checked: rememberedKey() !== "" });
    const submit = (event) => {
      event.preventDefault();
      key = input.value.trim();
      remember("key", keep.checked && key ? key : null);
      close();
    };
    return h(
      "form",
      { class: "dialog-form", onsubmit: submit },
      h("p", { class: isWrong && current ? "problem" : "muted", role: isWrong && current ? "alert" : null }, t(isWrong && current ? "key_wrong" : "key_wanted")),
      input,
      h("label", { class: "check" }, keep, t("key_keep")),
      h("div", { class: "dialog-actions" }, h("button", { class: "primary", type: "submit" }, t("use_key"))),
    );
  });
  return key;
}
