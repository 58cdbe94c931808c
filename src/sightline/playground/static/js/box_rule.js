// The marks that `readBoxes` leaves in a text, for markdown-it: a label that points at its boxes.

const MARK = /\u{E000}([\d,]+)\u{E001}([^\u{E002}]*)\u{E002}/uy;

export function boxRule(md) {
  md.inline.ruler.before("text", "box", (state, silent) => {
    MARK.lastIndex = state.pos;
    const found = MARK.exec(state.src);
    if (!found) return false;
    if (!silent) state.push("box", "span", 0).meta = { numbers: found[1], label: found[2] };
    state.pos += found[0].length;
    return true;
  });
  // The text rule would run over a mark: it stops only at characters it knows.
  md.inline.ruler.before("box", "text_to_box", (state, silent) => {
    const until = state.src.indexOf("\u{E000}", state.pos);
    if (until <= state.pos || /[\\`*_~[\]!<>&$:\n]/.test(state.src.slice(state.pos, until))) return false;
    if (!silent) state.pending += state.src.slice(state.pos, until);
    state.pos = until;
    return true;
  });
  md.renderer.rules.box = (tokens, at) => {
    const { numbers, label } = tokens[at].meta;
    const text = label || numbers.split(",").map((n) => Number(n) + 1).join(", ");
    return `<span class="box-label" tabindex="0" data-boxes="${numbers}">${md.utils.escapeHtml(text)}</span>`;
  };
}
