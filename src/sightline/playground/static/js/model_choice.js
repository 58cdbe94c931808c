// Which model is asked, and what is told while there is none: loading, no key, nobody there.

import { h } from "./element.js";
import { t } from "./language.js";
import { remember, remembered } from "./storage.js";

const AGAIN_MS = 1500;

export class ModelChoice {
  #models = [];
  #problem = null;
  #timer = 0;
  #known = resolvers();

  constructor(server, { select, notice, onChange }) {
    Object.assign(this, { server, select, notice, onChange });
    this.select.addEventListener("change", () => {
      remember("model", this.select.value);
      this.onChange();
    });
  }

  get model() {
    return this.#models.find(({ id }) => id === this.select.value) ?? this.#models[0] ?? null;
  }

  get id() {
    return this.model?.id ?? "";
  }

  /** Resolves once there is a model to ask. */
  known() {
    return this.#known.promise;
  }

  /** Ask the server, and again until it can say. Returns "key wanted" when it wants a key first. */
  async load() {
    clearTimeout(this.#timer);
    try {
      this.#models = await this.server.models();
      this.#problem = null;
      this.redraw();
      this.onChange();
      this.#known.resolve();
      return "loaded";
    } catch (error) {
      this.#problem = error;
      this.redraw();
      if (error.status === 401) return "key wanted";
      this.#timer = setTimeout(() => this.load(), AGAIN_MS);
      return "not yet";
    }
  }

  redraw() {
    const chosen = this.select.value || remembered("model", "");
    this.select.replaceChildren(...this.#models.map(({ id }) => h("option", { value: id }, id)));
    if (this.#models.some(({ id }) => id === chosen)) this.select.value = chosen;
    this.select.disabled = this.#models.length === 0;
    this.notice.hidden = this.#problem === null;
    this.notice.textContent = this.#problem ? said(this.#problem) : "";
  }
}

function said(error) {
  if (error.status === 401) return t("key_needed");
  if (error.code === "model_loading") return t("model_loading");
  return error.message || t("unreachable");
}

function resolvers() {
  const made = {};
  made.promise = new Promise((resolve) => (made.resolve = resolve));
  return made;
}
