// An answer's text on the page while it grows: at most one change per frame, and only of its last
// block, because the blocks before it cannot change any more.

import { blocksOf, openFence, render } from "./markdown.js";

const HAS_REFERENCES = /^ {0,3}\[[^\]]+\]:/m;

export class LiveText {
  #settled; // how many characters of the text are in blocks that stay
  #tail; // nodes of the block that still grows
  #fence = null;
  #text = "";
  #getText = null;
  #frame = 0;

  constructor(element) {
    this.element = element;
    this.#reset();
  }

  /** Show the text of `getText()`, which begins with what was shown before, in the next frame.
   *
   * Chunks may come by the dozen between two frames; the text is asked for once.
   */
  update(getText) {
    this.#getText = getText;
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#text = this.#getText();
      this.#draw();
    });
  }

  /** Show `text`, the whole of it, now. */
  finish(text) {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const grewHere = text.startsWith(this.#text.slice(0, this.#settled)) && this.#settled > 0;
    this.#text = text;
    if (!grewHere || HAS_REFERENCES.test(text)) this.#reset();
    this.#fence = null;
    this.#replaceTail(render(text.slice(this.#settled)));
  }

  #reset() {
    this.#settled = 0;
    this.#tail = [];
    this.#fence = null;
    this.element.replaceChildren();
  }

  #draw() {
    const rest = this.#text.slice(this.#settled);
    const blocks = blocksOf(rest);
    const last = blocks.at(-1);
    if (!last) return;
    const begin = offsetOfLine(rest, last.line);
    if (begin > 0) {
      this.#fence = null;
      this.#replaceTail(render(rest.slice(0, begin)));
      this.#tail = [];
      this.#settled += begin;
    }
    if (last.isOpenFence) this.#drawFence(last.content);
    else this.#replaceTail(render(rest.slice(begin)));
  }

  #drawFence(content) {
    if (!this.#fence) {
      this.#fence = openFence();
      this.#replaceTail(this.#fence.element);
    }
    this.#fence.code.textContent = content;
  }

  #replaceTail(node) {
    const nodes = node.nodeType === Node.DOCUMENT_FRAGMENT_NODE ? [...node.childNodes] : [node];
    for (const old of this.#tail) old.remove();
    this.element.append(...nodes);
    this.#tail = nodes;
  }
}

function offsetOfLine(text, line) {
  let at = 0;
  for (let passed = 0; passed < line; passed += 1) at = text.indexOf("\n", at) + 1;
  return at;
}
