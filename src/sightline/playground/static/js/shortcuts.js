// What the keyboard does anywhere on the page.

import { openDialog } from "./dialog.js";
import { h } from "./element.js";
import { t } from "./language.js";

const SHORTCUTS = [
  ["Enter", "key_send"],
  ["Shift + Enter", "key_line"],
  ["Esc", "key_stop"],
  ["/", "key_focus"],
  ["↑", "key_edit"],
  ["Ctrl/⌘ + Shift + O", "key_new"],
  ["Ctrl/⌘ + Shift + L", "key_code"],
  ["Ctrl/⌘ + ,", "key_settings"],
  ["?", "key_help"],
];

/** `actions`: { stop, focus, editLast, create, code, settings } */
export function listenForShortcuts(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    const action = meaningOf(event, actions);
    if (!action) return;
    event.preventDefault();
    action();
  });
}

function meaningOf(event, actions) {
  const { key, target } = event;
  const isTyping = target.matches?.("input, textarea, select");
  const isCommand = event.ctrlKey || event.metaKey;
  if (isCommand && event.shiftKey && key.toLowerCase() === "o") return actions.create;
  if (isCommand && event.shiftKey && key.toLowerCase() === "l") return actions.code;
  if (isCommand && key === ",") return actions.settings;
  if (isCommand || event.altKey) return null;
  if (key === "Escape") return actions.stop;
  if (key === "ArrowUp" && target.id === "message" && target.value === "") return actions.editLast;
  if (isTyping) return null;
  if (key === "/") return actions.focus;
  if (key === "?") return showShortcuts;
  return null;
}

export function showShortcuts() {
  return openDialog(t("shortcuts"), () =>
    h("dl", { class: "shortcuts" }, SHORTCUTS.map(([keys, what]) => h("div", {}, h("dt", {}, h("kbd", {}, keys)), h("dd", {}, t(what))))),
  );
}
