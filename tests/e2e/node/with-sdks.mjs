// The official packages: `openai` over both of its formats, `@anthropic-ai/sdk`, `ollama`, with the defaults that they have.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { Ollama } from "ollama";
import OpenAI from "openai";
import { atOnce, broken, CALLS, house, name, narrow, paced, plain, play, slow, WORDS, words } from "./scenes.mjs";

const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const weather = { name: "get_weather", description: "The weather in a city.", parameters };
const hello = () => [{ role: "user", content: "Hello!" }];

// Each makes a function that asks once, with and in what was said: the text, the calls, and tokens written.
const kinds = {
  "js-openai"(url, model, said = hello()) {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any" });
    return async ({ streamed = false, tools } = {}) => {
      const fields = { model, messages: said, tools: tools && [{ type: "function", function: weather }] };
      const { choices, usage } = streamed
        ? await client.chat.completions.stream({ ...fields, stream_options: { include_usage: true } }).finalChatCompletion()
        : await client.chat.completions.create(fields);
      const { message } = choices[0];
      const calls = message.tool_calls ?? [];
      said.push(message, ...calls.map(({ id }) => ({ role: "tool", tool_call_id: id, content: "7 °C" })));
      return [message.content ?? "", calls.length, usage.completion_tokens];
    };
  },

  "js-responses"(url, model, said = hello()) {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any" });
    return async ({ streamed = false, tools } = {}) => {
      const fields = { model, input: said, store: false, tools: tools && [{ type: "function", strict: false, ...weather }] };
      const response = streamed
        ? await client.responses.stream(fields).finalResponse()
        : await client.responses.create(fields);
      const calls = response.output.filter(({ type }) => type === "function_call");
      said.push(...response.output);
      said.push(...calls.map(({ call_id }) => ({ type: "function_call_output", call_id, output: "7 °C" })));
      return [response.output_text, calls.length, response.usage.output_tokens];
    };
  },

  "js-anthropic"(url, model, said = hello()) {
    const client = new Anthropic({ baseURL: url, apiKey: "any" });
    const { parameters: input_schema, ...named } = weather;
    return async ({ streamed = false, tools } = {}) => {
      const fields = { model, max_tokens: 500, messages: said, tools: tools && [{ ...named, input_schema }] };
      const message = streamed
        ? await client.messages.stream(fields).finalMessage()
        : await client.messages.create(fields);
      const calls = message.content.filter(({ type }) => type === "tool_use");
      const results = calls.map(({ id }) => ({ type: "tool_result", tool_use_id: id, content: "7 °C" }));
      said.push({ role: "assistant", content: message.content }, { role: "user", content: results });
      const text = message.content.map((block) => block.text ?? "").join("");
      return [text, calls.length, message.usage.output_tokens];
    };
  },

  "js-ollama"(url, model, said = hello()) {
    const client = new Ollama({ host: url });
    return async ({ streamed = false, tools } = {}) => {
      const fields = { model, messages: said, tools: tools && [{ type: "function", function: weather }] };
      const parts = streamed ? await client.chat({ ...fields, stream: true }) : [await client.chat(fields)];
      const message = { role: "assistant", content: "", tool_calls: [] };
      let count = 0;
      for await (const part of parts) {
        message.content += part.message.content;
        message.tool_calls.push(...(part.message.tool_calls ?? []));
        count = part.eval_count ?? count;
      }
      said.push(message, ...message.tool_calls.map((call) => ({ role: "tool", tool_name: call.function.name, content: "7 °C" })));
      return [message.content, message.tool_calls.length, count];
    };
  },
};
const client = (which = plain, url = house) => kinds[name](url, which);

async function converse(turn, fields) {
  for (let calls = 0; ; ) {
    const [text, more] = await turn(fields);
    if (!more) return [text, calls];
    calls += more;
  }
}

await play({
  async chat() {
    const [text, calls, tokens] = await client()();
    assert.deepEqual([words(text), calls, tokens], [WORDS, 0, 16]);
  },

  async stream() {
    assert.deepEqual(await client()({ streamed: true }), await client()());
  },

  async tools() {
    for (const streamed of [false, true]) {
      const [text, calls] = await converse(client(), { streamed, tools: true });
      assert.deepEqual([words(text), calls], [WORDS, CALLS]);
    }
  },

  async retried() {
    for (const [url, which, count] of [[paced, plain, 3], [narrow, slow, 3]]) {
      for (const [text] of await atOnce(count, () => client(which, url)())) assert.equal(words(text), WORDS);
    }
  },

  // A client that does not retry hears why.
  async told() {
    const outcomes = await atOnce(3, () => client(slow, narrow)().catch((error) => error.status_code));
    assert.ok(outcomes.includes(503), JSON.stringify(outcomes));
  },

  async waiting() {
    for (const tools of [false, true]) {
      const [first, second] = await atOnce(2, () => converse(client(slow), { streamed: true, tools: tools || undefined }));
      assert.deepEqual(first, second);
      assert.deepEqual([words(first[0]), first[1]], [WORDS, tools ? 1 : 0]);
    }
  },

  async slow() {
    for (const [text] of await atOnce(2, () => client(slow)())) assert.equal(words(text), WORDS);
  },

  async failed() {
    await assert.rejects(client(broken)({ streamed: true }));
  },
});
