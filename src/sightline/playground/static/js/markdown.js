// Markdown to nodes that are safe to show. Code is coloured and formulas are set when they come;
// what does that is loaded with the first of them.

import markdownIt from "../vendor/markdown-it/markdown-it.esm.min.mjs";
import "../vendor/dompurify/purify.min.js";
import { boxRule } from "./box_rule.js";
import { copyButton } from "./copy_button.js";
import { h } from "./element.js";
import { mathRule } from "./math_rule.js";

const { DOMPurify } = globalThis;
// No pictures: an answer must not make the browser ask other hosts for anything.
const SAFE = {
  RETURN_DOM_FRAGMENT: true,
  FORBID_TAGS: ["img", "style", "form", "input", "button", "video", "audio", "source", "svg", "math"],
  FORBID_ATTR: ["style"],
  ADD_ATTR: ["target"],
};

const md = markdownIt({ html: false, linkify: true, breaks: true }).use(mathRule).use(boxRule);
md.renderer.rules.image = (tokens, at) => {
  const { content } = tokens[at];
  const url = md.utils.escapeHtml(tokens[at].attrGet("src"));
  return `<a href="${url}">${md.utils.escapeHtml(content || url)}</a>`;
};
md.renderer.rules.link_open = (tokens, at, options, env, self) => {
  tokens[at].attrSet("target", "_blank");
  tokens[at].attrSet("rel", "noopener noreferrer");
  return self.renderToken(tokens, at, options);
};
md.renderer.rules.table_open = () => '<div class="table" tabindex="0"><table>';
md.renderer.rules.table_close = () => "</table></div>";

/** The top-level blocks of a text: [{ line, type, isOpenFence, content }]. */
export function blocksOf(text) {
  return md
    .parse(text, {})
    .filter((token) => token.level === 0 && token.nesting >= 0 && token.map)
    .map((token) => ({
      line: token.map[0],
      type: token.type,
      content: token.content,
      isOpenFence: token.type === "fence" && isOpen(token, text),
    }));
}

/** A fragment that shows `text`. */
export function render(text) {
  const fragment = DOMPurify.sanitize(md.render(text), SAFE);
  for (const code of fragment.querySelectorAll("pre > code")) dress(code);
  for (const formula of fragment.querySelectorAll(".math")) typeset(formula);
  return fragment;
}

/** A code block that is still being written: { element, code }, plain until it is complete. */
export function openFence() {
  const code = h("code");
  return { element: h("pre", {}, code), code };
}

function isOpen(token, text) {
  const lines = text.split("\n");
  const closing = new RegExp(`^\\s*${token.markup[0]}{${token.markup.length},}\\s*$`);
  const last = lines[token.map[1] - 1];
  return token.map[1] - token.map[0] < 2 || !closing.test(last);
}

function dress(code) {
  const language = /language-([\w+#-]+)/.exec(code.className)?.[1] ?? "";
  const pre = code.parentElement;
  const frame = h("div", { class: "code-block" });
  pre.replaceWith(frame);
  pre.tabIndex = 0;
  frame.append(
    h("div", { class: "code-head" }, h("span", {}, language), copyButton(() => code.textContent)),
    pre,
  );
  if (language) colour(code, language);
}

/** Colour the text of `code` in place; text in an unknown language stays as it is. */
export async function colour(code, language) {
  const { default: highlighter } = await import("../vendor/highlight/highlight.min.js");
  if (!highlighter.getLanguage(language)) return;
  const { value } = highlighter.highlight(code.textContent, { language, ignoreIllegals: true });
  code.replaceChildren(DOMPurify.sanitize(value, SAFE));
}

async function typeset(formula) {
  await loadFormulas();
  globalThis.katex.render(formula.dataset.tex, formula, {
    displayMode: formula.tagName === "DIV",
    throwOnError: false,
    strict: "ignore",
    output: "html",
  });
  formula.setAttribute("role", "math");
  formula.setAttribute("aria-label", formula.dataset.tex);
}

let loading;

function loadFormulas() {
  loading ??= (async () => {
    const href = new URL("../vendor/katex/katex.min.css", import.meta.url).href;
    const sheet = h("link", { rel: "stylesheet", href });
    const isStyled = new Promise((resolve) => sheet.addEventListener("load", resolve));
    document.head.append(sheet);
    await Promise.all([isStyled, import("../vendor/katex/katex.min.js")]);
  })();
  return loading;
}
