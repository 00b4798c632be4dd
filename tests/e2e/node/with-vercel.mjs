// Vercel's AI SDK with three providers: `openai("…")` as it comes, which is Responses, Anthropic's, and the compatible one.
import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { atOnce, broken, CALLS, house, name, narrow, paced, plain, play, slow, WORDS, words } from "./scenes.mjs";

const providers = {
  "vercel-openai": (url) => createOpenAI({ baseURL: `${url}/v1`, apiKey: "any" }),
  "vercel-anthropic": (url) => createAnthropic({ baseURL: `${url}/v1`, apiKey: "any" }),
  "vercel-compatible": (url) =>
    createOpenAICompatible({ name: "standpipe", baseURL: `${url}/v1`, supportsStructuredOutputs: true, includeUsage: true }),
};
const model = (which = plain, url = house) => providers[name](url)(which);
const prompt = "What is the weather in Zürich?";
const schema = z.object({ city: z.string(), degrees: z.number() });
const loop = () => {
  const asked = [];
  const get_weather = tool({
    description: "The weather in a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => (asked.push(city), { degrees: 7 }),
  });
  return { asked, tools: { get_weather }, stopWhen: stepCountIs(10) };
};

async function streamed(fields, heard = []) {
  let failure = null;
  const result = streamText({ ...fields, onError: ({ error }) => (failure = error) });
  for await (const delta of result.textStream) heard.push(delta);
  if (failure) throw failure;
  return { text: await result.text, usage: await result.totalUsage, steps: await result.steps };
}

await play({
  async chat() {
    const { text, usage, reasoningText } = await generateText({ model: model(), prompt });
    assert.equal(words(text), WORDS);
    assert.equal(usage.outputTokens, 16);
    if (name === "vercel-compatible") assert.equal(words(reasoningText), 4);
  },

  async stream() {
    const { text, usage } = await streamed({ model: model(), prompt });
    assert.equal(text, (await generateText({ model: model(), prompt })).text);
    assert.equal(usage.outputTokens, 16);
  },

  async tools() {
    for (const ask of [generateText, streamed]) {
      const { asked, ...fields } = loop();
      const { text, steps } = await ask({ model: model(), prompt, ...fields });
      assert.equal(words(text), WORDS);
      assert.equal(asked.length, CALLS);
      assert.equal(steps.length, CALLS + 1);
    }
  },

  // A second turn sends what came of the first, as the SDK keeps it.
  async turns() {
    const { asked, ...fields } = loop();
    const messages = [{ role: "user", content: prompt }];
    for (const _ of [1, 2]) {
      const result = await generateText({ model: model(), messages, ...fields });
      assert.equal(words(result.text), WORDS);
      messages.push(...result.response.messages, { role: "user", content: "And tomorrow?" });
    }
    assert.equal(asked.length, 2 * CALLS);
  },

  async structured() {
    const { output } = await generateText({ model: model(), prompt, output: Output.object({ schema }) });
    schema.parse(output);
    const result = streamText({ model: model(), prompt, output: Output.object({ schema }) });
    schema.parse(await result.output);
  },

  async refused() {
    await assert.rejects(generateText({ model: model(), prompt, stopSequences: Array(100).fill("x".repeat(300)), topP: 7 }), (error) => {
      assert.equal(error.statusCode, 400);
      assert.ok(!error.isRetryable);
      return true;
    });
  },

  async retried() {
    for (const [url, which, count] of [[paced, plain, 3], [narrow, slow, 3]]) {
      for (const { text } of await atOnce(count, () => generateText({ model: model(which, url), prompt }))) {
        assert.equal(words(text), WORDS);
      }
    }
  },

  async waiting() {
    for (const fields of [() => ({}), loop]) {
      const [first, second] = await atOnce(2, () => streamed({ model: model(slow), prompt, ...fields() }));
      assert.equal(first.text, second.text);
      assert.equal(words(first.text), WORDS);
    }
  },

  async slow() {
    for (const { text } of await atOnce(2, () => generateText({ model: model(slow), prompt }))) {
      assert.equal(words(text), WORDS);
    }
  },

  async failed() {
    const heard = [];
    await assert.rejects(streamed({ model: model(broken), prompt, maxRetries: 0 }, heard));
    assert.equal(words(heard.join("")), 6);
  },
});
