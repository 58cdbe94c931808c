// The messages of a conversation, one below the other, and the place where the eye is.

import { AnswerView } from "./answer_view.js";
import { path, show, siblings } from "./conversation.js";
import { h } from "./element.js";
import { icon } from "./icons.js";
import { t } from "./language.js";
import { questionView } from "./question_view.js";

const NEAR_END_PX = 80;

export class ThreadView {
  #views = new Map(); // of the answers that are shown, by message id
  #isAtEnd = true;

  /** `scroller` is what scrolls. `actions`: { edit(message, text), regenerate(message),
   * branch(message), seen(message, picture), result(message, call, text), switched() }.
   */
  constructor(scroller, actions) {
    this.scroller = scroller;
    this.actions = actions;
    this.element = h("div", { class: "thread", role: "log", "aria-live": "off" });
    scroller.addEventListener("scroll", () => {
      this.#isAtEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END_PX;
    });
    // Pictures, formulas and colours come later than the text around them.
    new ResizeObserver(() => this.#follow()).observe(this.element);
  }

  draw(conversation, settings) {
    this.#views.clear();
    const messages = path(conversation);
    let picture = null;
    const nodes = messages.map((message) => {
      const switcher = this.#switcher(conversation, message);
      if (message.role === "user") {
        picture = message.pictures.at(-1) ?? picture;
        return this.#question(message, switcher);
      }
      if (message.role === "tool") return null; // shown in the card of its call
      return this.#answer(conversation, messages, message, { picture, settings, switcher });
    });
    this.element.replaceChildren(...nodes.filter(Boolean));
    this.toEnd();
  }

  /** An answer has grown. */
  update(message) {
    this.#views.get(message.id)?.update();
  }

  toEnd() {
    this.#isAtEnd = true;
    this.#follow();
  }

  #question(message, switcher) {
    const { actions } = this;
    return questionView(message, {
      switcher,
      actions: {
        edit: (text) => actions.edit(message, text),
        seen: (picture) => actions.seen(message, picture),
      },
    });
  }

  #answer(conversation, messages, message, { picture, settings, switcher }) {
    const { actions } = this;
    const isLast = message.id === conversation.leaf;
    const results = messages.filter(({ role, parent }) => role === "tool" && parent !== null);
    const view = new AnswerView(message, {
      picture,
      settings,
      switcher,
      actions: {
        regenerate: () => actions.regenerate(message),
        branch: () => actions.branch(message),
        seen: picture && actions.canSee(message) ? () => actions.seen(message, picture) : null,
        resultOf: (call) => results.find(({ toolCallId }) => toolCallId === call.id) ?? null,
        onResult: isLast ? (call, text) => actions.result(message, call, text) : null,
      },
    });
    this.#views.set(message.id, view);
    return view.element;
  }

  /** "‹ 2 / 3 ›" where a message has alternatives. */
  #switcher(conversation, message) {
    const all = siblings(conversation, message);
    if (all.length < 2) return null;
    const at = all.indexOf(message);
    const step = (name, label, to) =>
      h(
        "button",
        { class: "quiet small", type: "button", "aria-label": t(label), title: t(label), disabled: !all[to], onclick: () => { show(conversation, all[to]); this.actions.switched(); } },
        icon(name),
      );
    return h("span", { class: "switcher" }, step("left", "previous_version", at - 1), h("span", { class: "number" }, `${at + 1} / ${all.length}`), step("right", "next_version", at + 1));
  }

  #follow() {
    if (this.#isAtEnd) this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}
