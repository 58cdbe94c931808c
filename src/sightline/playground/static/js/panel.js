// The panel at the side: settings or code, one at a time, or closed.

import { h } from "./element.js";
import { icon } from "./icons.js";
import { t } from "./language.js";

export class Panel {
  #shown = null;
  #opener = null;

  /** `builders` make the content of each kind of panel; their names are keys of the strings. */
  constructor(element, builders) {
    this.element = element;
    this.builders = builders;
    element.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.close();
    });
  }

  toggle(name) {
    if (this.#shown === name) return this.close();
    this.#opener = document.activeElement;
    this.#shown = name;
    this.redraw();
    const [body] = this.element.getElementsByClassName("panel-body");
    body?.querySelector("textarea, input, [role=tab][aria-selected=true]")?.focus();
  }

  close() {
    this.#shown = null;
    this.redraw();
    this.#opener?.focus();
  }

  /** Build the content again, if it is `name` that is shown, or whatever is. */
  redraw(name = this.#shown) {
    this.element.hidden = this.#shown === null;
    document.body.classList.toggle("panel-open", this.#shown !== null);
    for (const button of document.querySelectorAll("[data-panel]")) {
      button.setAttribute("aria-expanded", String(button.dataset.panel === this.#shown));
    }
    if (this.#shown === null) return this.element.replaceChildren();
    if (name !== this.#shown) return;
    this.element.setAttribute("aria-label", t(this.#shown));
    this.element.replaceChildren(
      h(
        "header",
        { class: "panel-head" },
        h("h2", {}, t(this.#shown)),
        h("button", { class: "quiet", type: "button", "aria-label": t("close"), onclick: () => this.close() }, icon("close")),
      ),
      h("div", { class: "panel-body" }, this.builders[this.#shown]()),
    );
  }
}
