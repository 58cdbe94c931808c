// A small curve of the last minutes.

import { svg } from "./element.js";

const WIDTH = 120;
const HEIGHT = 30;

/** `values`, the latest last; `length` is how many the width has room for. */
export function sparkline(values, length) {
  const top = Math.max(...values, 1e-9);
  const points = values.map((value, index) => {
    const x = WIDTH - (values.length - 1 - index) * (WIDTH / (length - 1));
    return `${x.toFixed(1)} ${(HEIGHT - 2 - (value / top) * (HEIGHT - 4)).toFixed(1)}`;
  });
  return svg(
    "svg",
    { class: "sparkline", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { d: points.length > 1 ? `M${points.join("L")}` : "" }),
  );
}
