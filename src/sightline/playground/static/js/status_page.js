// The server page: what runs, how fast, what went wrong, and the last requests, refreshed live.

import { h, prose } from "./element.js";
import { duration, fileSize } from "./facts.js";
import { askForKey, rememberedKey } from "./key_dialog.js";
import { count, t, translate } from "./language.js";
import { rate, readMetrics, share } from "./metrics_text.js";
import { pageControls } from "./page_controls.js";
import { sparkline } from "./sparkline.js";
import { waterfall } from "./waterfall.js";
import { Server } from "./wire.js";

const EVERY_MS = 2000;
const HISTORY = 60;
const PREFIX = "sightline:";

const at = (id) => document.getElementById(id);
const server = new Server("/v1", rememberedKey());
const opened = new Set();
const history = { speed: [], running: [], kv: [] };
let before = null; // { values, time } of the last reading
let shown = null; // what is on the page: { status, requests, values, speed }
let isAsking = false;

async function refresh() {
  if (document.hidden || isAsking) return;
  try {
    const [status, requests, text] = await Promise.all([server.status(), server.requests(), server.metrics()]);
    const values = readMetrics(text);
    const now = performance.now();
    const speed = rate(`${PREFIX}generation_tokens_total`, before?.values, values, (now - (before?.time ?? now)) / 1000);
    before = { values, time: now };
    push(history.speed, speed ?? 0);
    push(history.running, status.engine?.num_running ?? 0);
    push(history.kv, kvShare(status));
    shown = { status, requests, values, speed };
    at("notice").hidden = true;
    draw();
  } catch (error) {
    await onProblem(error);
  }
}

async function onProblem(error) {
  at("notice").hidden = false;
  at("notice").textContent = error.status === 401 ? t("key_needed") : error.message || t("unreachable");
  if (error.status !== 401) return;
  isAsking = true;
  const key = await askForKey({ isWrong: true, current: server.key });
  isAsking = key === null; // who does not want to give one is not asked every two seconds
  server.key = key ?? server.key;
  if (!isAsking) await refresh();
}

function push(list, value) {
  list.push(value);
  if (list.length > HISTORY) list.shift();
}

function kvShare({ engine }) {
  return engine?.kv_slots_total ? engine.kv_slots_used / engine.kv_slots_total : 0;
}

function draw() {
  const { status, requests, values, speed } = shown;
  at("live").replaceChildren(
    tile("stat_running", count(status.engine?.num_running ?? 0), history.running, t("stat_waiting", { number: count(status.num_waiting + (status.engine?.num_waiting ?? 0)) })),
    tile("stat_speed", speed === null ? "–" : speed.toFixed(1), history.speed, t("stat_generated", { tokens: count(values.get(`${PREFIX}generation_tokens_total`) ?? 0) })),
    tile("stat_kv", percent(kvShare(status)), history.kv, t("stat_slots", { used: count(status.engine?.kv_slots_used ?? 0), total: count(status.engine?.kv_slots_total ?? 0) })),
    tile("stat_memory", fileSize(status.engine?.rss_bytes ?? 0), null, t("stat_front", { size: fileSize(values.get("process_resident_memory_bytes") ?? 0) })),
  );
  at("about").replaceChildren(list(aboutRows(status)));
  at("caches").replaceChildren(list(cacheRows(values)));
  at("errors").replaceChildren(errors(status.recent_errors));
  if (!at("requests").contains(document.activeElement)) at("requests").replaceChildren(waterfall(requests.data, opened));
  at("content-note").replaceChildren(...prose(t(requests.shows_content ? "content_shown" : "content_hidden")));
}

function tile(name, value, values, more) {
  return h("div", { class: "tile" }, h("h2", {}, t(name)), h("p", { class: "tile-value number" }, value), values && sparkline(values, HISTORY), h("p", { class: "muted number" }, more));
}

function aboutRows({ model, engine, version, uptime_s: uptime }) {
  return [
    ["model", model?.id ?? t("model_loading")],
    ["about_size", model?.num_parameters ? t("parameters", { number: (model.num_parameters / 1e6).toLocaleString("en", { maximumFractionDigits: 1 }) }) : null],
    ["about_device", model && `${model.device}, ${model.dtype}`],
    ["about_window", model && t("tokens", { tokens: count(model.max_model_len) })],
    ["about_engine", engine ? t("engine_up", { restarts: count(engine.num_restarts) }) : t("engine_down")],
    ["about_version", version],
    ["about_uptime", long(uptime)],
  ];
}

function cacheRows(values) {
  const of = (part, whole) => {
    const found = share(values, PREFIX + part, PREFIX + whole);
    return found === null ? null : percent(found);
  };
  const mean = (name) => {
    const found = share(values, `${PREFIX}${name}_sum`, `${PREFIX}${name}_count`);
    return found === null ? null : duration(found);
  };
  return [
    ["cache_prefix", of("prompt_tokens_cached_total", "prompt_tokens_total")],
    ["cache_pictures", of("mm_cache_hits_total", "mm_cache_queries_total")],
    ["mean_first", mean("time_to_first_token_seconds")],
    ["mean_between", mean("inter_token_latency_seconds")],
    ["mean_encode", mean("image_encode_seconds")],
    ["mean_decode", mean("image_decode_seconds")],
    ["mean_fetch", mean("image_fetch_seconds")],
  ];
}

function list(rows) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined);
  if (known.length === 0) return h("p", { class: "muted" }, t("nothing_yet"));
  return h("dl", { class: "facts-list" }, known.map(([name, value]) => h("div", {}, h("dt", {}, t(name)), h("dd", { class: "number" }, value))));
}

function errors(recent) {
  if (recent.length === 0) return h("p", { class: "muted" }, t("no_errors"));
  return h(
    "ul",
    { class: "errors" },
    recent.map(({ time, status, code, path, id }) =>
      h("li", {}, h("span", { class: "number" }, new Date(time * 1000).toLocaleTimeString()), h("strong", {}, `${status} ${code ?? ""}`), h("span", {}, path), h("code", {}, id)),
    ),
  );
}

function percent(value) {
  return `${(value * 100).toFixed(value > 0 && value < 0.1 ? 1 : 0)} %`;
}

function long(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return t("seconds", { number: Math.floor(seconds) });
  if (minutes < 60) return t("minutes", { number: minutes });
  return t("hours", { hours: Math.floor(minutes / 60), minutes: minutes % 60 });
}

function redraw() {
  translate();
  if (shown) draw();
}

at("controls").append(...pageControls(redraw));
translate();
refresh();
setInterval(refresh, EVERY_MS);
document.addEventListener("visibilitychange", refresh);
