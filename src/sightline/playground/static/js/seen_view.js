// What the model saw: the picture as it was resized, with its tokens as a grid on demand.

import { openDialog } from "./dialog.js";
import { h, svg } from "./element.js";
import { tokenGrid } from "./facts.js";
import { count, t } from "./language.js";

/** Show `picture` as `model` of `server` gets it. */
export function showSeen(server, model, picture) {
  return openDialog(t("what_it_saw"), () => {
    const body = h("div", { class: "seen" }, h("p", { class: "muted" }, t("loading")));
    server
      .preview(model, picture.source)
      .then((seen) => body.replaceChildren(...seenNodes(seen, picture)))
      .catch((error) => body.replaceChildren(h("p", { class: "problem", role: "alert" }, error.message)));
    return body;
  }, { wide: true });
}

function seenNodes(seen, picture) {
  const { original_width: ow, original_height: oh, width, height, tokens } = seen;
  const grid = tokenGrid(width, height, tokens);
  const overlay = grid && gridOverlay(grid);
  const caption = [
    t("seen_sizes", { from: `${ow} × ${oh}`, to: `${width} × ${height}` }),
    grid ? t("seen_grid", { columns: grid[0], rows: grid[1], tokens: count(tokens) }) : t("tokens", { tokens: count(tokens) }),
  ].join(" · ");
  const toggle = grid && h("label", { class: "check" }, h("input", { type: "checkbox", onchange: (event) => overlay.classList.toggle("shown", event.target.checked) }), t("show_grid"));
  const isSquashed = Math.abs(width / height - ow / oh) > 0.02;
  return [
    h(
      "div",
      { class: "seen-picture", style: { "aspect-ratio": `${width} / ${height}` } },
      h("img", { src: seen.image_url, alt: t("as_seen", { name: picture.name }) }),
      overlay,
    ),
    h("p", { class: "seen-caption" }, caption),
    isSquashed && h("p", { class: "muted" }, t("seen_squashed")),
    toggle,
  ].filter(Boolean);
}

function gridOverlay([columns, rows]) {
  const lines = [];
  for (let x = 1; x < columns; x += 1) lines.push(`M${x} 0V${rows}`);
  for (let y = 1; y < rows; y += 1) lines.push(`M0 ${y}H${columns}`);
  return svg(
    "svg",
    { class: "token-grid", viewBox: `0 0 ${columns} ${rows}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { d: lines.join(""), "vector-effect": "non-scaling-stroke" }),
  );
}
