// Mathematics in Markdown, for markdown-it: $x$, $$x$$, \(x\) and \[x\].
//
// What is found becomes `<span class="math" data-tex="...">`, or a `div` where it stands alone.

const BLOCKS = [["$$", "$$"], ["\\[", "\\]"]];
const INLINE = [["$$", "$$"], ["\\(", "\\)"], ["\\[", "\\]"], ["$", "$"]];

export function mathRule(md) {
  md.inline.ruler.before("escape", "math", inlineMath);
  md.block.ruler.before("fence", "math", blockMath, { alt: ["paragraph", "reference", "blockquote", "list"] });
  const escape = md.utils.escapeHtml;
  md.renderer.rules.math_inline = (tokens, at) =>
    `<span class="math" data-tex="${escape(tokens[at].content)}">${escape(tokens[at].content)}</span>`;
  md.renderer.rules.math_block = (tokens, at) =>
    `<div class="math" data-tex="${escape(tokens[at].content)}">${escape(tokens[at].content)}</div>\n`;
}

function inlineMath(state, silent) {
  const pair = INLINE.find(([open]) => state.src.startsWith(open, state.pos));
  if (!pair) return false;
  const [open, close] = pair;
  const begin = state.pos + open.length;
  const end = closing(state.src, close, begin, state.posMax);
  if (end < 0) return false;
  const tex = state.src.slice(begin, end);
  if (open === "$" && !isFormula(tex, state.src[end + 1])) return false;
  if (!silent) state.push("math_inline", "math", 0).content = tex.trim();
  state.pos = end + close.length;
  return true;
}

/** "$5 and $6" is money: a formula touches its signs, and no digit follows it. */
function isFormula(tex, next = "") {
  return tex !== "" && !/^\s|\s$/.test(tex) && !tex.includes("\n\n") && !/\d/.test(next);
}

function closing(text, close, from, limit) {
  for (let at = text.indexOf(close, from); at >= 0 && at < limit; at = text.indexOf(close, at + 1)) {
    let slashes = 0;
    while (text[at - 1 - slashes] === "\\") slashes += 1;
    if (slashes % 2 === 0) return at;
  }
  return -1;
}

function blockMath(state, startLine, endLine, silent) {
  const lineText = (line) =>
    state.src.slice(state.bMarks[line] + state.tShift[line], state.eMarks[line]);
  const first = lineText(startLine).trim();
  const pair = BLOCKS.find(([open]) => first.startsWith(open));
  if (!pair) return false;
  const [open, close] = pair;
  const pieces = [];
  let line = startLine;
  let text = first.slice(open.length);
  while (!text.trimEnd().endsWith(close)) {
    pieces.push(text);
    line += 1;
    if (line >= endLine) return false; // not closed (yet): shown as it is
    text = lineText(line);
  }
  pieces.push(text.trimEnd().slice(0, -close.length));
  if (silent) return true;
  const token = state.push("math_block", "math", 0);
  token.block = true;
  token.content = pieces.join("\n").trim();
  token.map = [startLine, line + 1];
  state.line = line + 1;
  return true;
}
