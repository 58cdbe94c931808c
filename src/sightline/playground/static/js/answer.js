// One answer while it arrives: chunks in, and a message with its numbers out.

/** Collects the chunks of a stream into `message`, and notes when they came. */
export class Answer {
  #started;
  #clock;

  /** `clock` gives milliseconds. */
  constructor(message, clock = () => performance.now()) {
    this.#clock = clock;
    this.#started = clock();
    this.message = Object.assign(message, {
      text: "",
      reasoning: "",
      toolCalls: [],
      state: "waiting", // then "streaming", and at last "done", "stopped" or "failed"
      error: null,
      finishReason: null,
      facts: { firstMs: null, totalMs: null, chunks: 0, usage: null, report: null },
    });
  }

  take(chunk) {
    const { message } = this;
    if (chunk.usage) message.facts.usage = chunk.usage;
    if (chunk.sightline) message.facts.report = chunk.sightline;
    if (chunk.model) message.model = chunk.model;
    const choice = chunk.choices?.[0];
    if (!choice) return;
    const { delta = {}, finish_reason: finishReason } = choice;
    const reasoning = delta.reasoning_content || delta.reasoning || "";
    const text = delta.content || "";
    if (text || reasoning || delta.tool_calls?.length) this.#sawSomething();
    if (reasoning && !message.reasoning) message.facts.reasoningFrom = this.#elapsed();
    if (text && message.reasoning) message.facts.reasoningTo ??= this.#elapsed();
    message.reasoning += reasoning;
    message.text += text;
    for (const call of delta.tool_calls ?? []) this.#takeCall(call);
    if (finishReason) message.finishReason = finishReason;
  }

  /** `state`: "done", "stopped" or "failed", the last with an `error`. */
  end(state, error = null) {
    this.message.state = state;
    this.message.error = error && {
      message: error.message,
      code: error.code ?? null,
      status: error.status ?? 0,
      param: error.param ?? null,
    };
    this.message.facts.totalMs = this.#elapsed();
  }

  #sawSomething() {
    this.message.state = "streaming";
    this.message.facts.chunks += 1;
    this.message.facts.firstMs ??= this.#elapsed();
  }

  #takeCall({ index = 0, id, function: called = {} }) {
    const calls = this.message.toolCalls;
    calls[index] ??= { id: id ?? `call_${index}`, name: "", arguments: "" };
    calls[index].name += called.name ?? "";
    calls[index].arguments += called.arguments ?? "";
  }

  #elapsed() {
    return Math.round(this.#clock() - this.#started);
  }
}
