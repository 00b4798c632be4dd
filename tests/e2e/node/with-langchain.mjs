// LangChain's chat models for Node: @langchain/openai over both of OpenAI's formats, @langchain/anthropic and @langchain/ollama.
import assert from "node:assert/strict";
import { ChatAnthropic } from "@langchain/anthropic";
import { AIMessage, AIMessageChunk, HumanMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOllama } from "@langchain/ollama";
import { ChatOpenAI } from "@langchain/openai";
import { z } from "zod";
import { atOnce, broken, CALLS, house, name, narrow, paced, plain, play, slow, WORDS, words } from "./scenes.mjs";

const hello = [new HumanMessage("Hello!")];
const schema = z.object({ city: z.string(), degrees: z.number() });
const get_weather = tool(() => "7 °C", { name: "get_weather", description: "The weather.", schema: z.object({ city: z.string() }) });

function model(which = plain, url = house, more = {}) {
  const openai = { model: which, apiKey: "any", configuration: { baseURL: `${url}/v1` }, ...more };
  switch (name) {
    case "langchain-js-openai":
      return new ChatOpenAI(openai);
    case "langchain-js-responses":
      return new ChatOpenAI({ ...openai, useResponsesApi: true });
    case "langchain-js-anthropic":
      return new ChatAnthropic({ model: which, apiKey: "any", anthropicApiUrl: url, ...more });
    case "langchain-js-ollama":
      return new ChatOllama({ model: which, baseUrl: url, ...more });
  }
}

const whole = (llm, messages) => llm.invoke(messages);
async function streamed(llm, messages) {
  let message;
  for await (const chunk of await llm.stream(messages)) message = message ? message.concat(chunk) : chunk;
  assert.ok(message instanceof AIMessageChunk, message?.constructor?.name);
  return message;
}

async function converse(llm, ask) {
  const messages = [...hello];
  for (let calls = 0; ; ) {
    const message = await ask(llm, messages);
    if (!message.tool_calls?.length) return [message.text, calls];
    messages.push(ask === whole ? message : new AIMessage(message));
    for (const call of message.tool_calls) messages.push(await get_weather.invoke(call));
    calls += message.tool_calls.length;
  }
}

await play({
  async chat() {
    const message = await whole(model(), hello);
    assert.equal(words(message.text), WORDS);
    assert.equal(message.usage_metadata.output_tokens, 16);
  },

  async stream() {
    const message = await streamed(model(), hello);
    assert.equal(message.text, (await whole(model(), hello)).text);
    assert.equal(message.usage_metadata.output_tokens, 16);
  },

  async tools() {
    for (const ask of [whole, streamed]) {
      const [text, calls] = await converse(model().bindTools([get_weather]), ask);
      assert.equal(words(text), WORDS);
      assert.equal(calls, CALLS);
    }
  },

  async structured() {
    // @langchain/ollama does not require the call that it needs, so the other way is the only sure one.
    for (const method of ["functionCalling", "jsonSchema"].slice(name.endsWith("ollama") ? 1 : 0)) {
      schema.parse(await model().withStructuredOutput(schema, { name: "weather", method }).invoke("Weather?"));
    }
  },

  async refused() {
    await assert.rejects(model(plain, house, { temperature: -1, maxRetries: 0 }).invoke(hello), (error) => {
      assert.match(error.message, /temperature/);
      return true;
    });
  },

  async retried() {
    for (const [url, which, count] of [[paced, plain, 3], [narrow, slow, 3]]) {
      for (const { text } of await atOnce(count, () => model(which, url).invoke(hello))) assert.equal(words(text), WORDS);
    }
  },

  // A client that does not retry hears why.
  async told() {
    const told = (error) => error.status_code;
    const outcomes = await atOnce(3, () => model(slow, narrow).invoke(hello).catch(told));
    assert.ok(outcomes.includes(503), JSON.stringify(outcomes));
  },

  async waiting() {
    for (const llm of [model(slow), model(slow).bindTools([get_weather])]) {
      const [first, second] = await atOnce(2, () => converse(llm, streamed));
      assert.deepEqual(first, second);
      assert.equal(words(first[0]), WORDS);
    }
  },

  async slow() {
    for (const { text } of await atOnce(2, () => model(slow).invoke(hello))) assert.equal(words(text), WORDS);
  },

  async failed() {
    await assert.rejects(streamed(model(broken, house, { maxRetries: 0 }), hello));
  },
});
