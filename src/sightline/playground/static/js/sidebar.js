// The list of conversations, and what can be done with all of them.

import { h } from "./element.js";
import { icon } from "./icons.js";
import { t } from "./language.js";

const DAY_MS = 86_400_000;

/** `actions`: { open(conversation), remove(conversation), create(), manage() } */
export function drawSidebar(element, { conversations, current, actions }) {
  const groups = Map.groupBy ? Map.groupBy(conversations, ageOf) : groupBy(conversations, ageOf);
  element.replaceChildren(
    h("button", { class: "new", type: "button", onclick: actions.create }, icon("add"), t("new_chat")),
    h(
      "div",
      { class: "conversations" },
      ["today", "week", "older"]
        .filter((age) => groups.has(age))
        .map((age) =>
          h("section", {}, h("h2", {}, t(`age_${age}`)), h("ul", {}, groups.get(age).map((one) => row(one, one.id === current?.id, actions)))),
        ),
    ),
    h("button", { class: "manage", type: "button", onclick: actions.manage }, icon("more"), t("manage")),
  );
}

function row(conversation, isCurrent, actions) {
  const title = conversation.title || t("untitled");
  return h(
    "li",
    { class: isCurrent ? "current" : "" },
    h("button", { class: "open", type: "button", "aria-current": isCurrent ? "true" : null, title, onclick: () => actions.open(conversation) }, title),
    h("button", { class: "quiet small", type: "button", "aria-label": t("delete_named", { title }), onclick: () => actions.remove(conversation) }, icon("trash")),
  );
}

function ageOf({ updated }) {
  const age = Date.now() - updated;
  return age < DAY_MS ? "today" : age < 7 * DAY_MS ? "week" : "older";
}

function groupBy(items, keyOf) {
  const groups = new Map();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return groups;
}
