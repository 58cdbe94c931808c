// The numbers under an answer, out of what was measured here and what the server reported.

/** The stages of a request in the order in which they happen. */
export const STAGES = ["fetch", "decode_image", "queue", "encode", "prefill", "decode"];

/** { firstMs, tokensPerSecond, promptTokens, imageTokens, cachedTokens, answerTokens, totalMs }
 *
 * Every value may be null. The speed counts the tokens after the first one.
 */
export function numbersOf(facts) {
  const usage = facts?.usage;
  const details = usage?.prompt_tokens_details;
  const answerTokens = usage?.completion_tokens ?? null;
  const spanMs = facts && facts.firstMs !== null ? facts.totalMs - facts.firstMs : 0;
  return {
    firstMs: facts?.firstMs ?? null,
    totalMs: facts?.totalMs ?? null,
    tokensPerSecond: answerTokens > 1 && spanMs > 0 ? ((answerTokens - 1) * 1000) / spanMs : null,
    promptTokens: usage?.prompt_tokens ?? null,
    imageTokens: details?.image_tokens ?? null,
    cachedTokens: details?.cached_tokens ?? null,
    answerTokens,
  };
}

/** [{ name, seconds }] of a report's timings, in order; empty when nothing was reported.
 *
 * `queue` is all waiting: for a permit in front and for a place in the engine.
 */
export function stagesOf(timings) {
  if (!timings) return [];
  const seconds = {
    fetch: timings.fetch_s,
    decode_image: timings.decode_image_s,
    queue: (timings.queue_s ?? 0) + (timings.engine_queue_s ?? 0),
    encode: timings.encode_s,
    prefill: timings.prefill_s,
    decode: timings.decode_s,
  };
  return STAGES.filter((name) => Number.isFinite(seconds[name])).map((name) => ({
    name,
    seconds: seconds[name],
  }));
}

/** "8 ms", "0.42 s", "12.3 s": as many digits as somebody wants to read. */
export function duration(seconds) {
  if (seconds < 0.0995) return `${Math.round(seconds * 1000)} ms`;
  return `${seconds < 9.995 ? seconds.toFixed(2) : seconds.toFixed(1)} s`;
}

/** "412 B", "23 KB", "1.4 MB", "1.36 GB" */
export function fileSize(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${Math.round(bytes / 1e3)} KB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${(bytes / 1e9).toFixed(2)} GB`;
}

/** [columns, rows] of a picture's tokens, if a grid of the picture's shape has that many.
 *
 * Some models add a token at the beginning and one at the end.
 */
export function tokenGrid(width, height, tokens) {
  for (const count of [tokens, tokens - 2]) {
    const rows = Math.round(Math.sqrt((count * height) / width));
    const columns = rows > 0 ? count / rows : 0;
    if (Number.isInteger(columns) && columns > 0 && Math.abs(columns / rows - width / height) < 0.15 * (width / height)) {
      return [columns, rows];
    }
  }
  return null;
}
