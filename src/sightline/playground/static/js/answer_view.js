// One answer on the page, while it grows and afterwards.

import { boxFigure } from "./box_layer.js";
import { readBoxes, withoutOpenTag } from "./boxes.js";
import { copyButton } from "./copy_button.js";
import { h } from "./element.js";
import { duration } from "./facts.js";
import { factsView } from "./facts_view.js";
import { icon } from "./icons.js";
import { judgeJson } from "./json_schema.js";
import { t } from "./language.js";
import { LiveText } from "./live_text.js";
import { toolCard } from "./tool_card.js";

export class AnswerView {
  #drawnCalls = "";

  /** `picture` is the one that was asked about, or null. Of `actions`, those that are there get a
   * button: { regenerate, branch, seen, resultOf(call), onResult(call, text) }.
   */
  constructor(message, { picture = null, settings = null, actions = {}, switcher = null }) {
    Object.assign(this, { message, picture, settings, actions });
    this.text = h("div", { class: "prose" });
    this.live = new LiveText(this.text);
    this.thought = h("div", { class: "prose" });
    this.liveThought = new LiveText(this.thought);
    this.thoughtTitle = h("span", {});
    this.reasoning = h("details", { class: "reasoning", hidden: true }, h("summary", {}, this.thoughtTitle), this.thought);
    this.waiting = h("div", { class: "waiting", "aria-label": t("waiting") }, h("i"), h("i"), h("i"));
    this.boxes = h("div", {});
    this.calls = h("div", {});
    this.verdict = h("div", {});
    this.foot = h("footer", { class: "answer-foot" });
    this.switcher = switcher;
    this.element = h(
      "article",
      { class: "message answer", "aria-label": t("answer_of", { model: message.model ?? "" }), dataset: { message: message.id } },
      this.reasoning,
      this.boxes,
      this.text,
      this.waiting,
      this.calls,
      this.verdict,
      this.foot,
    );
    this.update();
  }

  get #isOver() {
    return ["done", "stopped", "failed"].includes(this.message.state);
  }

  update() {
    const { message } = this;
    this.element.setAttribute("aria-busy", String(!this.#isOver));
    this.waiting.hidden = message.state !== "waiting";
    this.#drawReasoning();
    if (this.#isOver) {
      this.#drawWhole();
    } else if (message.text) {
      this.live.update(() => readBoxes(withoutOpenTag(message.text)).text);
    }
    this.#drawCalls();
    if (this.#isOver) this.#drawEnd();
  }

  #drawReasoning() {
    const { reasoning, text, facts } = this.message;
    this.reasoning.hidden = !reasoning;
    if (!reasoning) return;
    const isThinking = !text && !this.#isOver;
    this.reasoning.classList.toggle("thinking", isThinking);
    const seconds = ((facts?.reasoningTo ?? facts?.totalMs ?? 0) - (facts?.reasoningFrom ?? 0)) / 1000;
    this.thoughtTitle.textContent = isThinking ? t("thinking") : t("thought_for", { time: duration(Math.max(0, seconds)) });
    if (this.#isOver) this.liveThought.finish(reasoning);
    else this.liveThought.update(() => this.message.reasoning);
  }

  #drawWhole() {
    const { message, picture } = this;
    const seen = message.facts?.report?.images?.at(-1) ?? null;
    const { text, boxes } = readBoxes(message.text, { model: message.model, seen });
    this.live.finish(text);
    for (const label of this.text.querySelectorAll(".box-label")) {
      label.classList.add(`hue-${Number(label.dataset.boxes.split(",")[0]) % 6}`);
    }
    this.boxes.replaceChildren();
    if (boxes.length && picture?.shown) this.boxes.append(boxFigure(picture, boxes, this.element));
  }

  #drawCalls() {
    const calls = this.message.toolCalls ?? [];
    const { resultOf, onResult } = this.actions;
    const drawn = JSON.stringify([calls, this.#isOver, calls.map((call) => resultOf?.(call)?.id)]);
    if (drawn === this.#drawnCalls) return;
    this.#drawnCalls = drawn;
    this.calls.replaceChildren(
      ...calls.map((call) =>
        toolCard(call, {
          result: resultOf?.(call) ?? null,
          onResult: this.#isOver && onResult ? (text) => onResult(call, text) : null,
        }),
      ),
    );
  }

  #drawEnd() {
    const { message, actions } = this;
    this.verdict.replaceChildren(...[this.#problem(), this.#note(), this.#jsonMark()].filter(Boolean));
    const button = (name, label, onclick) => onclick && h("button", { class: "quiet small", type: "button", "aria-label": t(label), title: t(label), onclick }, icon(name));
    this.foot.replaceChildren(
      h(
        "div",
        { class: "answer-actions" },
        ...[
          this.switcher,
          message.text && copyButton(() => message.text, "copy_answer"),
          button("repeat", "regenerate", actions.regenerate),
          button("branch", "branch", actions.branch),
          this.picture && button("eye", "what_it_saw", actions.seen),
        ].filter(Boolean),
      ),
      ...[factsView(message.facts)].filter(Boolean),
    );
  }

  #problem() {
    const { error } = this.message;
    if (!error) return null;
    const text = error.message || t("unreachable");
    const where = [error.code, error.param].filter(Boolean).join(" · ");
    return h(
      "div",
      { class: "failure", role: "alert" },
      icon("warning"),
      h("div", {}, h("p", {}, text), where && h("p", { class: "failure-where" }, where)),
      this.actions.regenerate && h("button", { type: "button", onclick: this.actions.regenerate }, t("try_again")),
    );
  }

  #note() {
    const { state, finishReason } = this.message;
    if (state === "stopped") return h("p", { class: "muted note" }, t("was_stopped"));
    if (finishReason === "length") return h("p", { class: "muted note" }, t("was_cut"));
    return null;
  }

  #jsonMark() {
    const { message, settings } = this;
    const format = message.format ?? { kind: settings?.format, schema: settings?.schema };
    if (!format.kind || format.kind === "text" || !message.text || message.state !== "done") return null;
    let schema = null;
    try {
      schema = format.kind === "json_schema" ? JSON.parse(format.schema) : null;
    } catch {
      // A schema that is no JSON was not sent either.
    }
    const verdict = judgeJson(message.text, schema);
    const text = verdict.ok
      ? t(schema ? "json_matches" : "json_valid")
      : `${verdict.path}: ${t(verdict.reason, verdict.values)}`;
    return h("p", { class: verdict.ok ? "json-mark valid" : "json-mark invalid" }, icon(verdict.ok ? "check" : "warning"), text);
  }
}
