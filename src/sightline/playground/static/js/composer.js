// Where a message is written: text, pictures from everywhere, send and stop.

import { hasCamera, takePicture } from "./camera.js";
import { askForText } from "./dialog.js";
import { h } from "./element.js";
import { icon } from "./icons.js";
import { count, t } from "./language.js";
import { PictureTray } from "./picture_tray.js";
import { addressIn, filesIn, fromAddress, fromFile } from "./pictures.js";

const COUNT_AFTER_MS = 400;
const MAX_HEIGHT_PX = 260;

export class Composer {
  #isAnswering = false;
  #timer = 0;
  #controller = null;
  #hasProblem = false;

  /** `target()` gives { server, model, window }; `previous()` the messages before this one, as sent.
   *
   * `onSend({ text, pictures })`, `onStop()` and `onChange()` are called as the names say.
   */
  constructor({ target, previous = () => [], onSend, onStop, onChange = () => {} }) {
    Object.assign(this, { target, previous, onSend, onStop, onChange });
    this.tray = new PictureTray({ target, onChange: () => this.#changed() });
    this.input = h("textarea", {
      id: "message",
      rows: 1,
      "data-t-hint": "message_hint",
      "data-t-label": "message",
      oninput: () => this.#changed(),
      onkeydown: (event) => this.#onKey(event),
      onpaste: (event) => this.#onPaste(event),
    });
    this.file = h("input", { type: "file", accept: "image/*", multiple: true, hidden: true, "aria-hidden": "true", tabindex: -1, onchange: () => this.#onFiles() });
    this.meter = h("span", { class: "meter", role: "status" });
    this.action = h("button", { class: "send", type: "submit" });
    this.element = h(
      "form",
      { class: "composer", onsubmit: (event) => this.#onSubmit(event) },
      this.tray.element,
      this.input,
      h(
        "div",
        { class: "composer-row" },
        this.#tool("attach", "attach_file", () => this.file.click()),
        this.#tool("link", "attach_address", () => this.#askAddress()),
        hasCamera() && this.#tool("camera", "camera", () => this.#takePicture()),
        this.file,
        this.meter,
        this.action,
      ),
    );
    this.#drawAction();
  }

  /** Take pictures that are dropped anywhere on `area`. */
  takeDrops(area) {
    let depth = 0;
    const mark = (change) => {
      depth = Math.max(0, depth + change);
      area.classList.toggle("dropping", depth > 0);
    };
    area.addEventListener("dragenter", () => mark(1));
    area.addEventListener("dragleave", () => mark(-1));
    area.addEventListener("dragover", (event) => event.preventDefault());
    area.addEventListener("drop", (event) => {
      event.preventDefault();
      mark(-depth);
      this.#takeTransfer(event.dataTransfer);
    });
  }

  get draft() {
    return { text: this.input.value, pictures: this.tray.pictures };
  }

  set draft({ text, pictures }) {
    this.input.value = text;
    this.tray.clear();
    pictures.forEach((picture) => this.tray.add(picture));
    this.#changed();
  }

  set isAnswering(value) {
    this.#isAnswering = value;
    this.#drawAction();
    this.#changed();
  }

  focus() {
    this.input.focus();
  }

  /** Texts and costs anew: the language, the model or what came before has changed. */
  refresh() {
    this.tray.refresh();
    this.#drawAction();
    this.#changed();
  }

  async addFile(file) {
    this.tray.add(await fromFile(file));
  }

  #tool(iconName, label, onclick) {
    return h("button", { class: "quiet", type: "button", "data-t-label": label, onclick }, icon(iconName));
  }

  #drawAction() {
    const label = t(this.#isAnswering ? "stop" : "send");
    this.action.replaceChildren(icon(this.#isAnswering ? "stop" : "send"));
    this.action.setAttribute("aria-label", label);
    this.action.title = label;
    this.action.classList.toggle("stop", this.#isAnswering);
  }

  #changed() {
    const { input } = this;
    input.style.setProperty("height", "auto");
    input.style.setProperty("height", `${Math.min(input.scrollHeight, MAX_HEIGHT_PX)}px`);
    const isEmpty = !input.value.trim() && this.tray.pictures.length === 0;
    this.action.disabled = !this.#isAnswering && (isEmpty || this.tray.hasRefused);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#count(), COUNT_AFTER_MS);
    this.onChange();
  }

  /** Say how much of the window this message and what came before it will take. */
  async #count() {
    const { server, model, window } = this.target();
    const { text, pictures } = this.draft;
    this.#controller?.abort();
    this.#show("");
    if (!model || this.#isAnswering || (!text.trim() && pictures.length === 0)) return;
    this.#controller = new AbortController();
    const { signal } = this.#controller;
    const content = [...pictures.map(({ source }) => ({ type: "image_url", image_url: { url: source } })), { type: "text", text: text || " " }];
    try {
      const { input_tokens: tokens } = await server.count({ model, messages: [...this.previous(), { role: "user", content }] }, signal);
      if (signal.aborted || !Number.isFinite(tokens)) return;
      this.#show(window ? t("meter", { tokens: count(tokens), window: count(window) }) : t("tokens", { tokens: count(tokens) }));
    } catch (error) {
      // The tray has said already what is wrong with a single picture.
      if (error.status === 400 && !this.tray.hasRefused) this.#show(error.message, true);
    }
  }

  #show(text, isProblem = false) {
    this.meter.textContent = text;
    this.meter.classList.toggle("problem", isProblem);
  }

  #onKey(event) {
    const isPlainEnter = event.key === "Enter" && !event.shiftKey && !event.isComposing;
    if (!isPlainEnter) return;
    event.preventDefault();
    if (!this.#isAnswering) this.#send();
  }

  #onSubmit(event) {
    event.preventDefault();
    if (this.#isAnswering) this.onStop();
    else this.#send();
  }

  #send() {
    const { text, pictures } = this.draft;
    if (this.action.disabled) return;
    this.draft = { text: "", pictures: [] };
    this.onSend({ text: text.trim(), pictures });
  }

  async #takeTransfer(transfer) {
    const files = filesIn(transfer);
    const address = files.length ? null : addressIn(transfer);
    for (const file of files) await this.addFile(file);
    if (address) this.tray.add(await fromAddress(address));
    this.focus();
    return files.length > 0 || address !== null;
  }

  #onPaste(event) {
    const hasFiles = filesIn(event.clipboardData).length > 0;
    const address = addressIn(event.clipboardData);
    const isPicture = address && /^data:|\.(png|jpe?g|webp|gif|bmp)(\?|$)/i.test(address);
    if (!hasFiles && !isPicture) return;
    event.preventDefault();
    this.#takeTransfer(event.clipboardData);
  }

  async #onFiles() {
    const files = [...this.file.files];
    this.file.value = "";
    for (const file of files) await this.addFile(file);
    this.focus();
  }

  async #askAddress() {
    const address = await askForText(t("attach_address"), {
      label: t("picture_address"),
      type: "url",
      action: t("add"),
      hint: "https://example.org/cat.png",
    });
    if (address) this.tray.add(await fromAddress(address));
    this.focus();
  }

  async #takePicture() {
    const picture = await takePicture();
    if (picture) this.tray.add(picture);
    this.focus();
  }
}
