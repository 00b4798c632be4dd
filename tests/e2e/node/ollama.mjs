// The official `ollama` package for Node against a running server: node ollama.mjs ADDRESS SCENE
// The server's engine reasons four tokens, speaks twelve, and calls get_weather where that is declared.
import assert from "node:assert/strict";
import { Ollama } from "ollama";

const [address, scene] = process.argv.slice(2);
const client = new Ollama({ host: address });
const model = "gpt-oss:latest";
const messages = [{ role: "user", content: "Hello!" }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "get_weather", description: "The weather.", parameters } }];
const words = (text) => text.trim().split(/\s+/).length;

async function collect(stream) {
  const message = { role: "assistant", content: "", thinking: "", tool_calls: [] };
  for await (const part of stream) {
    message.content += part.message.content;
    message.thinking += part.message.thinking ?? "";
    message.tool_calls.push(...(part.message.tool_calls ?? []));
  }
  return message;
}

const scenes = {
  async chat() {
    const whole = await client.chat({ model, messages });
    assert.equal(whole.model, model);
    assert.equal(whole.done_reason, "stop");
    assert.equal(words(whole.message.content), 12);
    assert.equal(words(whole.message.thinking), 4);
    assert.equal(whole.eval_count, 16);
    const streamed = await collect(await client.chat({ model, messages, stream: true }));
    assert.equal(streamed.content, whole.message.content);
    assert.equal(streamed.thinking, whole.message.thinking);
    const silent = await client.chat({ model, messages, think: false });
    assert.equal(silent.message.thinking, undefined);
  },

  async generate() {
    const whole = await client.generate({ model, prompt: "Hello!", system: "Be brief.", think: "low" });
    assert.equal(words(whole.response), 12);
    let heard = "";
    const stream = await client.generate({ model, prompt: "Hello!", system: "Be brief.", think: "low", stream: true });
    for await (const part of stream) heard += part.response;
    assert.equal(heard, whole.response);
  },

  async formats() {
    const format = { type: "object", properties: { degrees: { type: "integer" } }, required: ["degrees"] };
    const chat = await client.chat({ model, messages, format });
    assert.equal(typeof JSON.parse(chat.message.content).degrees, "number");
    const { response } = await client.generate({ model, prompt: "Hello!", format: "json" });
    assert.equal(typeof JSON.parse(response), "object");
  },

  async tools() {
    for (const stream of [false, true]) {
      const turn = async (said) => {
        const answer = await client.chat({ model, messages: said, tools, stream });
        return stream ? collect(answer) : answer.message;
      };
      const called = await turn(messages);
      assert.equal(called.tool_calls.length, 1);
      const { name, arguments: args } = called.tool_calls[0].function;
      assert.equal(name, "get_weather");
      assert.equal(typeof args.city, "string");
      const answered = await turn([...messages, called, { role: "tool", tool_name: name, content: "7 °C" }]);
      assert.equal(words(answered.content), 12);
    }
  },

  async models() {
    assert.deepEqual((await client.list()).models.map((one) => one.model), [model]);
    assert.deepEqual((await client.ps()).models.map((one) => one.model), [model]);
    assert.ok((await client.show({ model })).capabilities.includes("tools"));
    assert.ok((await client.version()).version);
    await assert.rejects(client.pull({ model }), { status_code: 403 });
    await assert.rejects(client.delete({ model }), { status_code: 403 });
  },

  async refused() {
    await assert.rejects(client.chat({ model, messages, options: { stop: [''] } }), (error) => {
      assert.equal(error.status_code, 400);
      assert.match(error.message, /options\.stop/);
      return true;
    });
  },

  async failed() {
    let heard = "";
    const stream = await client.chat({ model, messages, stream: true });
    await assert.rejects(async () => {
      for await (const part of stream) heard += part.message.content;
    }, /in the middle of an answer/);
    assert.equal(words(heard), 6);
  },

  async waiting() {
    const one = async () => collect(await client.chat({ model, messages, stream: true }));
    const [first, second] = await Promise.all([one(), one()]);
    assert.equal(first.content, second.content);
    assert.equal(words(first.content), 12);
  },
};

await scenes[scene]();
