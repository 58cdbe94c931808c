// One message of the person: pictures, words, and a way to say it differently.

import { copyButton } from "./copy_button.js";
import { h } from "./element.js";
import { icon } from "./icons.js";
import { t } from "./language.js";

/** `actions`: { edit(text), seen(picture) }, each optional. */
export function questionView(message, { actions = {}, switcher = null }) {
  const body = h("div", { class: "bubble" });
  const tools = h("div", { class: "question-actions" });
  const element = h(
    "article",
    { class: "message question", "aria-label": t("you"), dataset: { message: message.id } },
    message.pictures.length > 0 && h("div", { class: "question-pictures" }, message.pictures.map((picture) => thumbnail(picture, actions.seen))),
    (message.text || actions.edit) && body,
    tools,
  );
  const read = () => {
    body.classList.toggle("empty", !message.text);
    body.replaceChildren(message.text);
    tools.replaceChildren(
      ...[
        switcher,
        message.text && copyButton(() => message.text, "copy_question"),
        actions.edit && h("button", { class: "quiet small edit", type: "button", "aria-label": t("edit"), title: t("edit"), onclick: write }, icon("edit")),
      ].filter(Boolean),
    );
  };
  const write = () => {
    body.classList.remove("empty");
    tools.replaceChildren();
    body.replaceChildren(editor(message.text, { onCancel: read, onSend: actions.edit }));
    body.querySelector("textarea").focus();
  };
  read();
  return element;
}

function thumbnail(picture, onSeen) {
  const content = picture.shown
    ? h("img", { src: picture.shown, alt: picture.name, ...(picture.width && { width: picture.width, height: picture.height }) })
    : h("span", { class: "address" }, icon("link"), picture.source);
  if (!onSeen) return content;
  const label = t("see_picture", { name: picture.name });
  return h("button", { class: "thumbnail", type: "button", "aria-label": label, title: label, onclick: () => onSeen(picture) }, content);
}

function editor(text, { onCancel, onSend }) {
  const input = h("textarea", { rows: Math.min(12, text.split("\n").length + 1), "aria-label": t("edit"), value: text });
  const submit = (event) => {
    event.preventDefault();
    onSend(input.value.trim());
  };
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      onCancel();
    }
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  });
  return h(
    "form",
    { class: "editor", onsubmit: submit },
    input,
    h("div", { class: "editor-actions" }, h("button", { type: "button", onclick: onCancel }, t("cancel")), h("button", { class: "primary", type: "submit" }, t("send"))),
  );
}
