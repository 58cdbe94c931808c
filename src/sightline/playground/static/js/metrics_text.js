// Prometheus' text format, as far as a page needs it: a number per name, labels added up.

/** A Map of name to value. Of a histogram there are `NAME_sum` and `NAME_count`. */
export function readMetrics(text) {
  const values = new Map();
  for (const line of text.split("\n")) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line);
    if (!found || found[1].endsWith("_bucket")) continue;
    const value = Number(found[3].replace("+Inf", "Infinity"));
    if (Number.isFinite(value)) values.set(found[1], (values.get(found[1]) ?? 0) + value);
  }
  return values;
}

/** The growth of a counter per second between two readings; null when there are none. */
export function rate(name, before, after, seconds) {
  if (!before?.has(name) || !after.has(name) || seconds <= 0) return null;
  return Math.max(0, after.get(name) - before.get(name)) / seconds;
}

/** `part` of `whole`, counters both; null when nothing was counted. */
export function share(values, part, whole) {
  const total = values.get(whole) ?? 0;
  return total > 0 ? (values.get(part) ?? 0) / total : null;
}
