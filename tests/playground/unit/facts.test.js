import assert from "node:assert/strict";
import { test } from "node:test";

import { duration, fileSize, numbersOf, stagesOf, tokenGrid } from "../../../src/sightline/playground/static/js/facts.js";
import { rate, readMetrics, share } from "../../../src/sightline/playground/static/js/metrics_text.js";

test("the speed counts the tokens after the first one", () => {
  const usage = { prompt_tokens: 30, completion_tokens: 11, prompt_tokens_details: { image_tokens: 18, cached_tokens: 7 } };
  const numbers = numbersOf({ firstMs: 500, totalMs: 1500, usage });
  assert.equal(numbers.tokensPerSecond, 10);
  assert.deepEqual([numbers.imageTokens, numbers.cachedTokens, numbers.promptTokens], [18, 7, 30]);
});

test("what is not known is null", () => {
  assert.equal(numbersOf({ firstMs: null, totalMs: 10, usage: null }).tokensPerSecond, null);
  assert.equal(numbersOf(null).firstMs, null);
});

test("all waiting is one stage, and stages come in their order", () => {
  const stages = stagesOf({ decode_s: 1, queue_s: 0.1, engine_queue_s: 0.2, prefill_s: 0.5, fetch_s: 0 });
  assert.deepEqual(stages.map(({ name }) => name), ["fetch", "queue", "prefill", "decode"]);
  assert.ok(Math.abs(stages[1].seconds - 0.3) < 1e-9);
  assert.deepEqual(stagesOf(undefined), []);
});

test("the grid of a picture's tokens has the picture's shape", () => {
  assert.deepEqual(tokenGrid(1120, 1120, 1602), [40, 40]);
  assert.deepEqual(tokenGrid(112, 112, 18), [4, 4]);
  assert.deepEqual(tokenGrid(1400, 700, 1250), [50, 25]);
  assert.equal(tokenGrid(1120, 1120, 1603), null);
});

test("times and sizes are written as people read them", () => {
  assert.deepEqual([0.0084, 0.42, 12.34].map(duration), ["8 ms", "0.42 s", "12.3 s"]);
  assert.deepEqual([412, 23_400, 1_400_000].map(fileSize), ["412 B", "23 KB", "1.4 MB"]);
});

test("metrics are read by name, labels added up, buckets left out", () => {
  const text = '# HELP x\nsightline:t_total{model_name="m"} 3.0\nsightline:t_total{model_name="n"} 4.0\nh_bucket{le="1"} 9\nh_sum 2.5\n';
  const values = readMetrics(text);
  assert.deepEqual([...values], [["sightline:t_total", 7], ["h_sum", 2.5]]);
  assert.equal(rate("h_sum", new Map([["h_sum", 0.5]]), values, 2), 1);
  assert.equal(rate("nope", values, values, 2), null);
  assert.equal(share(values, "h_sum", "sightline:t_total"), 2.5 / 7);
  assert.equal(share(values, "h_sum", "nope"), null);
});
