// OpenAI's Agents SDK for Node, over Chat Completions and over Responses.
import assert from "node:assert/strict";
import { Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, run, setTracingDisabled, tool } from "@openai/agents";
import OpenAI from "openai";
import { z } from "zod";
import { atOnce, broken, CALLS, house, name, narrow, paced, plain, play, slow, WORDS, words } from "./scenes.mjs";

setTracingDisabled(true);
const kind = () => (name.endsWith("responses") ? OpenAIResponsesModel : OpenAIChatCompletionsModel);
const Weather = z.object({ city: z.string(), degrees: z.number() });
const agent = (which = plain, url = house, more = {}) =>
  new Agent({
    name: "Weather",
    instructions: "Be brief.",
    model: new (kind())(new OpenAI({ baseURL: `${url}/v1`, apiKey: "any" }), which),
    ...more,
  });
const whole = (one) => run(one, "Hello!", { maxTurns: 30 });
async function streamed(one) {
  const result = await run(one, "Hello!", { maxTurns: 30, stream: true });
  for await (const _ of result);
  await result.completed;
  return result;
}
const loop = () => {
  const asked = [];
  const get_weather = tool({
    name: "get_weather",
    description: "The weather.",
    parameters: z.object({ city: z.string() }),
    execute: async ({ city }) => (asked.push(city), "7 °C"),
  });
  return { asked, tools: [get_weather] };
};

await play({
  async chat() {
    const result = await whole(agent());
    assert.equal(words(result.finalOutput), WORDS);
    assert.equal(result.state.usage.outputTokens, 16);
  },

  async stream() {
    assert.equal((await streamed(agent())).finalOutput, (await whole(agent())).finalOutput);
  },

  async tools() {
    for (const ask of [whole, streamed]) {
      const { asked, tools } = loop();
      assert.equal(words((await ask(agent(plain, house, { tools }))).finalOutput), WORDS);
      assert.equal(asked.length, CALLS);
    }
  },

  async structured() {
    for (const ask of [whole, streamed]) {
      Weather.parse((await ask(agent(plain, house, { outputType: Weather }))).finalOutput);
    }
  },

  async refused() {
    await assert.rejects(whole(agent(plain, house, { modelSettings: { temperature: -1 } })), OpenAI.BadRequestError);
  },

  async retried() {
    for (const [url, which, count] of [[paced, plain, 3], [narrow, slow, 3]]) {
      for (const { finalOutput } of await atOnce(count, () => whole(agent(which, url)))) {
        assert.equal(words(finalOutput), WORDS);
      }
    }
  },

  async waiting() {
    for (const given of [() => ({}), loop]) {
      for (const { finalOutput } of await atOnce(2, () => streamed(agent(slow, house, { tools: given().tools ?? [] })))) {
        assert.equal(words(finalOutput), WORDS);
      }
    }
  },

  async slow() {
    for (const { finalOutput } of await atOnce(2, () => whole(agent(slow)))) assert.equal(words(finalOutput), WORDS);
  },

  async failed() {
    await assert.rejects(streamed(agent(broken)));
  },
});
