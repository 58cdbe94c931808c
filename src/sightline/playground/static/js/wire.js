// Talking to an OpenAI-compatible server; ours knows a few paths more.

import { eventsOf } from "./event_stream.js";

/** What a server said when it refused. `status` is 0 when it could not be reached. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = null, param = null, requestId = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param, requestId });
  }
}

export class Server {
  /** `base` ends before `/chat/completions`: `/v1` for the server that sent this page. */
  constructor(base = "/v1", key = "") {
    this.base = base.replace(/\/+$/, "");
    this.key = key;
  }

  get isOurs() {
    return this.base.startsWith("/");
  }

  async models() {
    return (await this.#json("GET", "/models")).data;
  }

  /** What the prompt of a chat request costs, pictures included. */
  count(body, signal) {
    return this.#json("POST", "/chat/completions/input_tokens", body, signal);
  }

  /** A picture as the model gets it: { original_width, ..., tokens, image_url }. */
  async preview(model, url, signal) {
    const content = [{ type: "image_url", image_url: { url } }];
    const body = { model, messages: [{ role: "user", content }] };
    return (await this.#json("POST", "/pictures/preview", body, signal)).data[0];
  }

  status() {
    return this.#json("GET", "/server/status");
  }

  requests() {
    return this.#json("GET", "/server/requests");
  }

  /** The server's counters as text; empty where it has none. */
  async metrics() {
    try {
      return await (await this.#fetch("GET", "/../metrics")).text();
    } catch (error) {
      if (error.status === 404) return "";
      throw error;
    }
  }

  /** Yield the chunks of a streamed answer. Aborting `signal` ends it. */
  async *chat(body, signal) {
    const response = await this.#fetch("POST", "/chat/completions", body, signal);
    const requestId = response.headers.get("x-request-id");
    for await (const data of eventsOf(response.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.message, { ...chunk.error, requestId });
      yield chunk;
    }
  }

  async #json(method, path, body, signal) {
    return (await this.#fetch(method, path, body, signal)).json();
  }

  async #fetch(method, path, body, signal) {
    const headers = {};
    if (this.key) headers.authorization = `Bearer ${this.key}`;
    if (body) headers["content-type"] = "application/json";
    let response;
    try {
      response = await fetch(this.base + path, {
        method,
        headers,
        body: body && JSON.stringify(body),
        signal,
        credentials: "omit",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("", { code: "unreachable" });
    }
    if (!response.ok) throw await refusal(response);
    return response;
  }
}

async function refusal(response) {
  const requestId = response.headers.get("x-request-id");
  const { status } = response;
  try {
    const { error } = await response.json();
    return new ApiError(error.message, { status, code: error.code, param: error.param, requestId });
  } catch {
    return new ApiError(`HTTP ${status}`, { status, requestId });
  }
}
