// One side of a comparison: which server and which model it asks.

import { h } from "./element.js";
import { t } from "./language.js";
import { remember, remembered } from "./storage.js";
import { Server } from "./wire.js";

const LOAD_AFTER_MS = 500;

export class CompareSide {
  #timer = 0;
  #models = [];
  #controls;

  /** `name` is "left" or "right"; `ownKey()` gives the key of our own server. */
  constructor(name, { ownKey, onChange }) {
    Object.assign(this, { name, ownKey, onChange });
    const { base, model } = remembered(`compare.${name}`, { base: "", model: "" });
    this.key = ""; // of another server; never kept
    this.base = base;
    this.wanted = model;
    this.element = h("section", { class: "side" });
    this.draw();
    this.known = this.load();
  }

  get server() {
    return this.base ? new Server(this.base, this.key) : new Server("/v1", this.ownKey());
  }

  get model() {
    return this.#models.find(({ id }) => id === this.wanted)?.id ?? this.#models[0]?.id ?? this.wanted;
  }

  get about() {
    return this.#models.find(({ id }) => id === this.model) ?? null;
  }

  draw() {
    const id = (what) => `${this.name}-${what}`;
    const row = (what, label, control) => h("div", { class: "side-row" }, h("label", { for: id(what) }, t(label)), Object.assign(control, { id: id(what) }));
    const where = h(
      "select",
      { onchange: (event) => this.#choose(event.target.value) },
      h("option", { value: "" }, t("this_server")),
      h("option", { value: "other" }, t("other_server")),
    );
    where.value = this.base || this.isOther ? "other" : "";
    const model = h("select", { onchange: (event) => this.#want(event.target.value) });
    const problem = h("p", { class: "problem", role: "status" });
    this.#controls = { model, problem };
    this.element.setAttribute("aria-label", t(this.name));
    this.element.replaceChildren(
      row("where", "server_page", where),
      ...(where.value ? [this.#baseRow(row), this.#keyRow(row)] : []),
      row("model", "model", model),
      problem,
    );
    this.#fill();
  }

  #baseRow(row) {
    const input = h("input", { type: "url", value: this.base, placeholder: "http://127.0.0.1:8000/v1", autocomplete: "off" });
    input.addEventListener("input", () => {
      this.base = input.value.trim();
      this.#later();
    });
    return row("base", "base_url", input);
  }

  #keyRow(row) {
    const input = h("input", { type: "password", value: this.key, autocomplete: "off" });
    input.addEventListener("input", () => {
      this.key = input.value.trim();
      this.#later();
    });
    return row("key", "api_key", input);
  }

  #choose(where) {
    this.isOther = where === "other";
    if (!this.isOther) this.base = "";
    this.#models = [];
    this.draw();
    this.element.querySelector(this.isOther ? "input" : "select").focus();
    if (!this.isOther) this.load();
    this.#keep();
  }

  #want(model) {
    this.wanted = model;
    this.#keep();
    this.onChange();
  }

  #later() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.load(), LOAD_AFTER_MS);
    this.#keep();
  }

  #keep() {
    remember(`compare.${this.name}`, { base: this.base, model: this.wanted });
  }

  async load() {
    if (this.isOther && !this.base) return;
    const { problem } = this.#controls;
    try {
      this.#models = await this.server.models();
      problem.textContent = "";
    } catch (error) {
      this.#models = [];
      const isForeign = error.code === "unreachable" && this.base;
      this.#controls.problem.textContent = isForeign ? t("other_unreachable", { origin: location.origin }) : error.message || t("unreachable");
    }
    this.#fill();
    this.onChange();
  }

  #fill() {
    const { model } = this.#controls;
    model.replaceChildren(...this.#models.map(({ id }) => h("option", { value: id }, id)));
    model.value = this.model;
    model.disabled = this.#models.length === 0;
  }
}
