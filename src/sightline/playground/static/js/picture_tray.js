// The pictures of the message that is being written: what each is, what it will cost, or why the
// server does not want it.

import { h } from "./element.js";
import { fileSize } from "./facts.js";
import { icon } from "./icons.js";
import { count, t } from "./language.js";
import { formatName } from "./pictures.js";

export class PictureTray {
  #items = []; // { picture, cost: number | null, refusal: string | null, element, controller }

  /** `target()` gives { server, model }; `onChange` is called when anything changed. */
  constructor({ target, onChange }) {
    this.target = target;
    this.onChange = onChange;
    this.element = h("ul", { class: "tray", "aria-label": t("pictures"), hidden: true });
  }

  get pictures() {
    return this.#items.map(({ picture }) => picture);
  }

  get hasRefused() {
    return this.#items.some(({ refusal }) => refusal !== null);
  }

  add(picture) {
    const item = { picture, cost: null, refusal: null, element: h("li", { class: "tray-item" }) };
    this.#items.push(item);
    this.element.append(item.element);
    this.#judge(item);
    this.#changed();
  }

  clear() {
    for (const item of this.#items) item.controller?.abort();
    this.#items = [];
    this.element.replaceChildren();
    this.#changed();
  }

  /** Ask again what every picture costs, because the model is another one. */
  refresh() {
    this.element.setAttribute("aria-label", t("pictures"));
    for (const item of this.#items) this.#judge(item);
  }

  #remove(item) {
    item.controller?.abort();
    const next = item.element.nextElementSibling ?? item.element.previousElementSibling;
    this.#items = this.#items.filter((other) => other !== item);
    item.element.remove();
    next?.querySelector("button")?.focus();
    this.#changed();
  }

  /** The server alone knows. One that cannot be asked refuses nothing. */
  async #judge(item) {
    const { server, model } = this.target();
    item.controller?.abort();
    item.controller = new AbortController();
    Object.assign(item, { cost: null, refusal: null });
    this.#draw(item);
    if (!model) return; // asked again by `refresh` once there is one
    const { signal } = item.controller;
    const { picture } = item;
    const content = [{ type: "image_url", image_url: { url: picture.source } }];
    const [counted, previewed] = await Promise.allSettled([
      server.count({ model, messages: [{ role: "user", content }] }, signal),
      server.isOurs ? server.preview(model, picture.source, signal) : Promise.reject(),
    ]);
    if (signal.aborted) return;
    if (previewed.status === "fulfilled") {
      const { original_width: width, original_height: height, tokens, image_url: shown } = previewed.value;
      Object.assign(picture, { width, height });
      picture.shown ??= shown;
      item.cost = tokens;
    }
    if (counted.status === "fulfilled") item.cost = imageTokens(counted.value) ?? item.cost;
    const refused = [previewed, counted].find(({ reason }) => reason?.status === 400);
    item.refusal = refused?.reason.message ?? null;
    this.#draw(item);
    this.#changed();
  }

  #draw(item) {
    const { picture, cost, refusal } = item;
    const facts = [
      picture.width && `${picture.width} × ${picture.height}`,
      picture.type && formatName(picture.type),
      picture.bytes !== null && fileSize(picture.bytes),
    ].filter(Boolean);
    item.element.classList.toggle("refused", refusal !== null);
    item.element.replaceChildren(
      picture.shown
        ? h("img", { src: picture.shown, alt: picture.name })
        : h("span", { class: "tray-blank" }, icon("link")),
      h(
        "div",
        { class: "tray-text" },
        h("span", { class: "tray-name", title: picture.name }, picture.name),
        refusal === null
          ? h("span", { class: "tray-facts" }, facts.join(" · "))
          : h("span", { class: "tray-refusal", role: "alert" }, refusal),
        cost !== null && refusal === null && h("span", { class: "tray-cost" }, t("picture_cost", { tokens: count(cost) })),
      ),
      h(
        "button",
        { class: "quiet small", type: "button", "aria-label": t("remove_picture", { name: picture.name }), onclick: () => this.#remove(item) },
        icon("close"),
      ),
    );
  }

  #changed() {
    this.element.hidden = this.#items.length === 0;
    this.onChange();
  }
}

function imageTokens(counted) {
  return counted.image_tokens ?? counted.input_tokens_details?.image_tokens ?? null;
}
