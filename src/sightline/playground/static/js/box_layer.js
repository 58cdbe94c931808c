// A picture with an answer's boxes over it. Pointing at a box points at its words, and back.

import { h, svg } from "./element.js";
import { t } from "./language.js";

export const NUM_HUES = 6;

/** `root` is where the labels are; they carry `data-boxes` with the numbers of their boxes. */
export function boxFigure(picture, boxes, root) {
  const overlay = svg("svg", { class: "boxes", viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" });
  const legend = h("ul", { class: "box-legend", "aria-label": t("boxes") });
  const shapes = boxes.map((box, number) => {
    const shape = svg("rect", {
      class: `box hue-${number % NUM_HUES}`,
      x: box.x * 100,
      y: box.y * 100,
      width: box.width * 100,
      height: box.height * 100,
      "vector-effect": "non-scaling-stroke",
      "data-boxes": number,
    });
    overlay.append(shape);
    const name = box.label || t("box_number", { number: number + 1 });
    legend.append(
      h("li", {}, h("button", { class: `box-label hue-${number % NUM_HUES}`, type: "button", dataset: { boxes: String(number) } }, name)),
    );
    return shape;
  });
  const figure = h(
    "figure",
    { class: "box-figure" },
    h("div", { class: "box-picture" }, h("img", { src: picture.shown, alt: picture.name, ...ratio(picture) }), overlay),
    legend,
  );
  link(root, shapes);
  return figure;
}

/** What the server showed may have lost the picture's shape: it is stretched back. */
function ratio({ width, height }) {
  return width && height ? { width, height } : {};
}

/** One listener for the whole answer: the labels in its text come and go. */
function link(root, shapes) {
  if (root.dataset.linked) return;
  root.dataset.linked = "true";
  const point = (event, isOn) => {
    const at = event.target.closest?.("[data-boxes]");
    if (!at) return;
    const numbers = at.dataset.boxes.split(",");
    for (const other of root.querySelectorAll("[data-boxes]")) {
      const isMeant = other.dataset.boxes.split(",").some((number) => numbers.includes(number));
      other.classList.toggle("pointed", isOn && isMeant);
    }
    root.classList.toggle("pointing", isOn);
  };
  root.addEventListener("pointerover", (event) => point(event, true));
  root.addEventListener("pointerout", (event) => point(event, false));
  root.addEventListener("focusin", (event) => point(event, true));
  root.addEventListener("focusout", (event) => point(event, false));
}
