// The official `@anthropic-ai/sdk` package for Node against a running server: node anthropic.mjs ADDRESS SCENE
// The server's engine reasons four tokens, speaks twelve, and calls get_weather where that is declared.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";

const [address, scene] = process.argv.slice(2);
const client = new Anthropic({ baseURL: address, apiKey: "any", maxRetries: 0 });
const ask = { model: "anything", max_tokens: 500, messages: [{ role: "user", content: "Hello!" }] };
const thinking = { type: "enabled", budget_tokens: 2048 };
const weather = {
  name: "get_weather",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const words = (text) => text.trim().split(/\s+/).length;
const kinds = (message) => message.content.map((block) => block.type);

const scenes = {
  async whole() {
    const message = await client.messages.create(ask);
    assert.equal(message.model, "gpt-oss:latest");
    assert.equal(message.stop_reason, "end_turn");
    assert.deepEqual(kinds(message), ["text"]);
    assert.equal(words(message.content[0].text), 12);
    assert.equal(message.usage.output_tokens, 16);
    assert.ok(message._request_id);
  },

  async stream() {
    let heard = "";
    let thought = "";
    const stream = client.messages.stream({ ...ask, thinking });
    stream.on("text", (delta) => (heard += delta));
    stream.on("thinking", (delta) => (thought += delta));
    const message = await stream.finalMessage();
    const whole = await client.messages.create({ ...ask, thinking });
    for (const field of ["model", "content", "stop_reason", "usage"]) assert.deepEqual(message[field], whole[field]);
    assert.deepEqual(kinds(message), ["thinking", "text"]);
    assert.equal(message.content[0].thinking, thought);
    assert.equal(message.content[1].text, heard);
  },

  async events() {
    const seen = [];
    for await (const event of await client.messages.create({ ...ask, stream: true })) seen.push(event.type);
    assert.equal(seen[0], "message_start");
    assert.deepEqual(seen.slice(-3), ["content_block_stop", "message_delta", "message_stop"]);
  },

  async tools() {
    for (const streamed of [false, true]) {
      const turn = (messages) => {
        const fields = { ...ask, messages, tools: [weather], thinking };
        return streamed ? client.messages.stream(fields).finalMessage() : client.messages.create(fields);
      };
      const called = await turn(ask.messages);
      assert.equal(called.stop_reason, "tool_use");
      assert.deepEqual(kinds(called), ["thinking", "tool_use"]);
      const call = called.content[1];
      assert.deepEqual(Object.keys(call.input), ["city"]);
      const result = { type: "tool_result", tool_use_id: call.id, content: [{ type: "text", text: "7 °C" }] };
      const answered = await turn([
        ...ask.messages,
        { role: "assistant", content: called.content },
        { role: "user", content: [result] },
      ]);
      assert.equal(answered.stop_reason, "end_turn");
      assert.equal(words(answered.content.at(-1).text), 12);
    }
  },

  async parse() {
    const Weather = z.object({ city: z.string(), degrees: z.number() });
    const format = { output_config: { format: zodOutputFormat(Weather) } };
    const message = await client.messages.parse({ ...ask, ...format });
    Weather.parse(message.parsed_output);
  },

  async count() {
    const { input_tokens } = await client.messages.countTokens({ model: "x", messages: ask.messages });
    assert.ok(input_tokens >= 1 && input_tokens < 30);
  },

  async refused() {
    await assert.rejects(client.messages.create({ ...ask, temperature: 2 }), (error) => {
      assert.ok(error instanceof Anthropic.BadRequestError);
      assert.equal(error.type, "invalid_request_error");
      assert.match(error.apiMessage, /temperature/);
      assert.ok(error.requestID);
      return true;
    });
  },

  async failed() {
    let heard = "";
    const stream = client.messages.stream(ask);
    stream.on("text", (delta) => (heard += delta));
    await assert.rejects(stream.finalMessage(), (error) => {
      assert.equal(error.type, "api_error");
      return true;
    });
    assert.equal(words(heard), 6);
  },

  async waiting() {
    const first = client.messages.stream(ask);
    await new Promise((resolve) => first.once("text", resolve));
    const second = client.messages.stream(ask);
    const texts = await Promise.all([first.finalText(), second.finalText()]);
    assert.equal(texts[0], texts[1]);
  },
};

await scenes[scene]();
