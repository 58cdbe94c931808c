// Boxes in an answer: where a model says that something is.
//
// Two ways of saying so are read: `<ref>cat</ref><box>(10,20),(300,400)</box>` with coordinates of
// 0 to 1000 (Qwen-VL; Qwen2-VL writes `<|object_ref_start|>` and `<|box_start|>`), and JSON with
// `bbox_2d`, `bbox`, `box_2d` or `box` (0 to 1000, 0 to 1, or pixels of the picture as the model
// saw it, which is what Qwen2.5-VL writes).

const REF = /<ref>([\s\S]*?)<\/ref>|<\|object_ref_start\|>([\s\S]*?)<\|object_ref_end\|>/;
const BOX = /<box>([\s\S]*?)<\/box>|<\|box_start\|>([\s\S]*?)<\|box_end\|>/;
const TAGGED = new RegExp(`(?:${REF.source})?\\s*((?:${BOX.source}\\s*)+)`, "g");
const POINTS = /\(\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*\)\s*,?\s*\(\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*\)/g;
const KEYS = ["bbox_2d", "bbox", "box_2d", "box"];
const PIXEL_MODELS = /qwen2[._-]?5/i;

/** { text, boxes }: the boxes, and the text with a mark in place of each tagged one.
 *
 * A box is { x, y, width, height, label }, in fractions of the picture. The mark for box 3 and 4
 * labelled "cat" is `\u{E000}3,4\u{E001}cat\u{E002}`, which no model writes.
 * `seen` is { width, height } of the picture as the model saw it, if that is known.
 */
export function readBoxes(source, { model = "", seen = null } = {}) {
  const boxes = [];
  const text = source.replace(TAGGED, (whole, ref1, ref2, places) => {
    const label = (ref1 ?? ref2 ?? "").trim();
    const found = [...places.matchAll(POINTS)].map((match) =>
      toBox(match.slice(1, 5).map(Number), [1000, 1000], label),
    );
    if (found.length === 0 || found.includes(null)) return whole;
    const numbers = found.map((_, index) => boxes.length + index);
    boxes.push(...found);
    return `\u{E000}${numbers.join(",")}\u{E001}${label}\u{E002}`;
  });
  if (boxes.length === 0) boxes.push(...jsonBoxes(source, model, seen));
  return { text, boxes };
}

/** Text from which the beginning of a tag that is still being written is held back. */
export function withoutOpenTag(text) {
  const open = text.search(/<(?:r(?:e(?:f(?:>[^<]*)?)?)?|b(?:o(?:x(?:>[^<]*)?)?)?)?$/);
  return open < 0 ? text : text.slice(0, open);
}

function jsonBoxes(source, model, seen) {
  const found = [];
  for (const candidate of jsonValues(source)) collect(candidate, found);
  if (found.length === 0) return [];
  const largest = Math.max(...found.flatMap(({ corners }) => corners));
  const arePixels = seen && (PIXEL_MODELS.test(model) || largest > 1000);
  const size = largest <= 1 ? [1, 1] : arePixels ? [seen.width, seen.height] : [1000, 1000];
  return found.map(({ corners, label }) => toBox(corners, size, label)).filter(Boolean);
}

/** The JSON in a text: all of it, or what stands in its code fences. */
function jsonValues(source) {
  const texts = [source, ...[...source.matchAll(/```(?:json)?\s*\n([\s\S]*?)(?:```|$)/g)].map((m) => m[1])];
  return texts.flatMap((text) => {
    try {
      return [JSON.parse(text)];
    } catch {
      return [];
    }
  });
}

function collect(value, found) {
  if (Array.isArray(value)) {
    value.forEach((item) => collect(item, found));
  } else if (value && typeof value === "object") {
    const key = KEYS.find((name) => isCorners(value[name]));
    if (key) {
      found.push({ corners: value[key], label: String(value.label ?? value.name ?? value.category ?? "") });
    } else {
      Object.values(value).forEach((item) => collect(item, found));
    }
  }
}

function isCorners(value) {
  return Array.isArray(value) && value.length === 4 && value.every(Number.isFinite);
}

/** A box of two corners in a picture of `size`; null when it has no extent in the picture. */
function toBox([x1, y1, x2, y2], [width, height], label) {
  const clamp = (value) => Math.min(1, Math.max(0, value));
  const [left, right] = [x1, x2].map((x) => clamp(x / width)).sort((a, b) => a - b);
  const [top, bottom] = [y1, y2].map((y) => clamp(y / height)).sort((a, b) => a - b);
  if (!(right > left && bottom > top)) return null;
  return { x: left, y: top, width: right - left, height: bottom - top, label };
}
