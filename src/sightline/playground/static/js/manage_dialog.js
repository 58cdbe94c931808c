// Conversations out of this browser and into it, and away.

import { confirmLoss, openDialog } from "./dialog.js";
import { h } from "./element.js";
import { t } from "./language.js";
import { fromFile, toJson, toMarkdown } from "./transfer.js";

/** `current` may be null. `onImport(conversations)`, `onDeleteAll()`. */
export function manageConversations({ conversations, current, onImport, onDeleteAll }) {
  return openDialog(t("manage"), (close) => {
    const problem = h("p", { class: "problem", role: "alert" });
    const file = h("input", { type: "file", accept: ".json,.md,application/json,text/markdown", hidden: true, "aria-label": t("import"), onchange: take });

    async function take() {
      try {
        await onImport(fromFile(await file.files[0].text()));
        close();
      } catch {
        problem.textContent = t("import_failed");
      }
      file.value = "";
    }
    async function removeAll() {
      if (await confirmLoss(t("delete_all_question", { number: conversations.length }), t("delete_all"))) {
        await onDeleteAll();
        close();
      }
    }
    const names = { user: t("you"), assistant: t("model"), tool: t("tool_result") };
    const button = (label, onclick, properties = {}) => h("button", { type: "button", onclick, ...properties }, t(label));
    return h(
      "div",
      { class: "dialog-form" },
      h("p", { class: "muted" }, t("kept_here")),
      h(
        "div",
        { class: "manage-actions" },
        button("export_json", () => save("sightline-conversations.json", "application/json", toJson(conversations)), { disabled: conversations.length === 0 }),
        button("export_markdown", () => save(`${fileName(current)}.md`, "text/markdown", toMarkdown(current, names)), { disabled: !current?.leaf }),
        button("import", () => file.click()),
        button("delete_all", removeAll, { class: "danger", disabled: conversations.length === 0 }),
      ),
      file,
      problem,
    );
  });
}

function fileName(conversation) {
  return (conversation?.title || "sightline").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || "sightline";
}

function save(name, type, text) {
  const href = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  const link = h("a", { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}
