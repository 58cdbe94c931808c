// Asking a server, and following its answer into a message.

import { Answer } from "./answer.js";

/** Send `body` and fill `message` until the answer has ended, well or badly. Never throws.
 *
 * `onChange` is called after every chunk and at the end. Returns the error, if there was one.
 */
export async function ask(server, body, message, { signal, onChange }) {
  const answer = new Answer(message);
  onChange();
  try {
    for await (const chunk of server.chat(body, signal)) {
      answer.take(chunk);
      onChange();
    }
    if (message.finishReason === null) throw new Error("The answer broke off.");
    answer.end("done");
    return null;
  } catch (error) {
    const wasStopped = error.name === "AbortError";
    answer.end(wasStopped ? "stopped" : "failed", wasStopped ? null : error);
    return wasStopped ? null : error;
  } finally {
    onChange();
  }
}
