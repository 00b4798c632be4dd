// The official `openai` package for Node against a running server: node openai.mjs ADDRESS SCENE
// The server's engine reasons four tokens, speaks twelve, and calls get_weather where that is declared.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat, zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const [address, scene] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: "any", maxRetries: 0 });
const model = "anything";
const messages = [{ role: "user", content: "What is the weather in Zürich?" }];
const City = z.object({ city: z.string() });
const Weather = z.object({ city: z.string(), degrees: z.number() });
const words = (text) => text.trim().split(/\s+/).length;

const scenes = {
  async chat_whole() {
    const completion = await client.chat.completions.create({ model, messages });
    assert.equal(completion.model, "gpt-oss:latest");
    assert.equal(words(completion.choices[0].message.content), 12);
    assert.equal(completion.usage.completion_tokens, 16);
  },

  async chat_stream() {
    const stream = client.chat.completions.stream({ model, messages, stream_options: { include_usage: true } });
    let heard = "";
    stream.on("content", (delta) => (heard += delta));
    const completion = await stream.finalChatCompletion();
    assert.equal(completion.choices[0].message.content, heard);
    assert.equal(words(heard), 12);
    assert.equal(completion.usage.completion_tokens, 16);
  },

  async chat_parse() {
    const response_format = zodResponseFormat(Weather, "weather");
    const completion = await client.chat.completions.parse({ model, messages, response_format });
    Weather.parse(completion.choices[0].message.parsed);
  },

  async chat_tools() {
    const asked = [];
    const tool = {
      type: "function",
      function: {
        name: "get_weather",
        parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
        parse: JSON.parse,
        function: (args) => (asked.push(args), "7 °C"),
      },
    };
    const runner = client.chat.completions.runTools({ model, messages, tools: [tool], stream: true });
    assert.equal(words(await runner.finalContent()), 12);
    assert.equal(asked.length, 1);
    assert.equal(typeof asked[0].city, "string");
  },

  async responses_whole() {
    const response = await client.responses.create({ model, input: "Hello!", instructions: "Be brief." });
    assert.equal(response.status, "completed");
    assert.equal(words(response.output_text), 12);
    assert.deepEqual(response.output.map((item) => item.type), ["reasoning", "message"]);
    assert.equal(response.usage.output_tokens_details.reasoning_tokens, 4);
  },

  async responses_events() {
    const stream = await client.responses.create({ model, input: "Hello!", stream: true });
    let [number, text, last] = [0, "", null];
    for await (const event of stream) {
      assert.equal(event.sequence_number, number++);
      if (event.type === "response.output_text.delta") text += event.delta;
      last = event;
    }
    assert.equal(last.type, "response.completed");
    assert.equal(last.response.output[1].content[0].text, text);
  },

  async responses_stream() {
    const stream = client.responses.stream({ model, input: "Hello!" });
    let thought = "";
    for await (const event of stream) {
      if (event.type === "response.reasoning_text.delta") thought += event.delta;
    }
    const response = await stream.finalResponse();
    assert.equal(response.output[0].content[0].text, thought);
    assert.equal(words(response.output_text), 12);
  },

  async responses_parse() {
    const text = { format: zodTextFormat(Weather, "weather") };
    Weather.parse((await client.responses.parse({ model, input: "Weather?", text })).output_parsed);
    const streamed = await client.responses.stream({ model, input: "Weather?", text }).finalResponse();
    Weather.parse(streamed.output_parsed);
  },

  async responses_tools() {
    const tools = [zodResponsesFunction({ name: "get_weather", parameters: City })];
    const input = [...messages];
    const first = await client.responses.parse({ model, input, tools, store: false });
    const call = first.output.find((item) => item.type === "function_call");
    assert.equal(typeof call.parsed_arguments.city, "string");
    input.push(...first.output, { type: "function_call_output", call_id: call.call_id, output: "7 °C" });
    const second = await client.responses.stream({ model, input, tools, store: false }).finalResponse();
    assert.equal(words(second.output_text), 12);
  },

  async responses_kept() {
    const first = await client.responses.stream({ model, input: "Hello!" }).finalResponse();
    const second = await client.responses.create({ model, input: "More", previous_response_id: first.id });
    assert.equal(second.previous_response_id, first.id);
    assert.equal((await client.responses.retrieve(first.id)).output_text, first.output_text);
    await client.responses.delete(first.id);
    await assert.rejects(client.responses.retrieve(first.id), OpenAI.NotFoundError);
  },

  async responses_refused() {
    const asking = client.responses.create({ model, input: "Hello!", tools: [{ type: "web_search" }] });
    await assert.rejects(asking, (error) => error instanceof OpenAI.BadRequestError && error.param === "tools[0].type");
  },

  async completions() {
    const completion = await client.completions.create({ model, prompt: "Once upon" });
    let text = "";
    for await (const chunk of await client.completions.create({ model, prompt: "Once upon", stream: true })) {
      text += chunk.choices[0].text;
    }
    assert.equal(text, completion.choices[0].text);
    assert.equal(words(text), 12);
  },

  // Against a server whose engine breaks off in mid-answer.
  async responses_failed() {
    const kinds = [];
    const listening = async (stream) => {
      for await (const event of stream) kinds.push(event.type);
    };
    await assert.rejects(async () => listening(await client.responses.create({ model, input: "Hello!", stream: true })));
    assert.equal(kinds.at(-1), "response.failed");
    await assert.rejects(client.responses.stream({ model, input: "Hello!" }).finalResponse());
  },

  // Against a server with one slow slot and quick heartbeats.
  async responses_waiting() {
    const ask = async () => {
      const stream = client.responses.stream({ model, input: "Hello!" });
      const kinds = [];
      for await (const event of stream) kinds.push(event.type);
      return [kinds, await stream.finalResponse()];
    };
    const answers = await Promise.all([ask(), ask()]);
    assert(answers.some(([kinds]) => kinds.includes("response.queued")));
    assert(answers.some(([kinds]) => kinds.filter((kind) => kind === "response.in_progress").length > 1));
    assert(answers.every(([, response]) => response.status === "completed"));
  },
};

await scenes[scene]();
