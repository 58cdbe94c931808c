// @ai-sdk/openai-compatible
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, jsonSchema, streamText, tool } from "ai";

const provider = createOpenAICompatible({
  name: "sightline",
  baseURL: `${process.env.JUDGED_URL}/v1`,
  apiKey: process.env.JUDGED_KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const model = provider(process.env.JUDGED_MODEL ?? "glm-4v");
const circle = readFileSync(process.env.JUDGE_PICTURE);
const schema = jsonSchema({
  type: "object",
  properties: { colour: { type: "string", enum: ["red", "blue"] } },
  required: ["colour"],
  additionalProperties: false,
});

test("text about a picture", async () => {
  const { text, usage } = await generateText({
    model,
    maxRetries: 0,
    maxOutputTokens: 32,
    messages: [
      {
        role: "user",
        content: [
          { type: "text", text: "这是什么?" },
          { type: "image", image: circle },
        ],
      },
    ],
  });
  assert.ok(text);
  assert.ok(usage.outputTokens > 0);
});

test("text streamed with usage", async () => {
  const result = streamText({ model, maxRetries: 0, maxOutputTokens: 16, prompt: "你好" });
  let text = "";
  for await (const piece of result.textStream) text += piece;
  assert.ok(text);
  assert.ok((await result.usage).outputTokens > 0);
});

test("an object of a schema", async () => {
  const { object } = await generateObject({
    model,
    maxRetries: 0,
    maxOutputTokens: 200,
    schema,
    prompt: "红色的圆",
  });
  assert.ok(["red", "blue"].includes(object.colour));
});

test("a tool call that must come", async () => {
  const { toolCalls } = await generateText({
    model,
    maxRetries: 0,
    maxOutputTokens: 200,
    prompt: "红色的有几个?",
    tools: { count_shapes: tool({ description: "count", inputSchema: schema }) },
    toolChoice: "required",
  });
  assert.equal(toolCalls[0].toolName, "count_shapes");
});

test("an error has a message", async () => {
  await assert.rejects(
    generateText({ model: provider("gpt-4o"), maxRetries: 0, prompt: "x" }),
    /does not exist/,
  );
});
