// openai (Node)
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import OpenAI from "openai";

const model = process.env.JUDGED_MODEL ?? "glm-4v";
const client = new OpenAI({
  baseURL: `${process.env.JUDGED_URL}/v1`,
  apiKey: process.env.JUDGED_KEY,
  maxRetries: 0,
});
const circle = readFileSync(process.env.JUDGE_PICTURE).toString("base64");
const words = (content) => [{ role: "user", content }];
const tool = {
  type: "function",
  function: {
    name: "count_shapes",
    parameters: {
      type: "object",
      properties: { colour: { type: "string", enum: ["red", "blue"] } },
      required: ["colour"],
    },
  },
};

test("chat about a picture", async () => {
  const completion = await client.chat.completions.create({
    model,
    max_tokens: 32,
    messages: words([
      { type: "text", text: "这是什么?" },
      { type: "image_url", image_url: { url: `data:image/png;base64,${circle}` } },
    ]),
  });
  assert.ok(completion.choices[0].message.content);
  assert.ok(completion.usage.prompt_tokens_details.image_tokens > 0);
});

test("chat streamed with usage", async () => {
  const stream = await client.chat.completions.create({
    model,
    max_tokens: 16,
    messages: words("你好"),
    stream: true,
    stream_options: { include_usage: true },
  });
  let usage;
  for await (const chunk of stream) usage = chunk.usage ?? usage;
  assert.ok(usage.total_tokens > 0);
});

test("the accumulating stream", async () => {
  const stream = client.chat.completions.stream({ model, max_tokens: 16, messages: words("你好") });
  const final = await stream.finalChatCompletion();
  assert.ok(["stop", "length"].includes(final.choices[0].finish_reason));
});

test("a tool call that must come, streamed", async () => {
  const stream = client.chat.completions.stream({
    model,
    max_tokens: 200,
    messages: words("红色的有几个?"),
    tools: [tool],
    tool_choice: "required",
  });
  const final = await stream.finalChatCompletion();
  const call = final.choices[0].message.tool_calls[0];
  assert.equal(call.function.name, "count_shapes");
  assert.ok(["red", "blue"].includes(JSON.parse(call.function.arguments).colour));
});

test("responses streamed", async () => {
  const stream = client.responses.stream({ model, input: "你好", max_output_tokens: 16 });
  const final = await stream.finalResponse();
  assert.ok(["completed", "incomplete"].includes(final.status));
});

test("models", async () => {
  const names = [];
  for await (const found of client.models.list()) names.push(found.id);
  assert.ok(names.length > 0);
});

test("each refusal is its class", async () => {
  await assert.rejects(
    client.chat.completions.create({ model, messages: words("x"), temperature: 3 }),
    OpenAI.BadRequestError,
  );
  await assert.rejects(
    client.chat.completions.create({ model: "gpt-4o", messages: words("x") }),
    OpenAI.NotFoundError,
  );
});
