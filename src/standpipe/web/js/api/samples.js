// One request as code, in every language of the documentation: the source of "copy as", and of the samples of the
// documentation (a test holds them to it). Pure. `request` is a body of POST /api; texts may hold anything.

/** The samples in the order in which they are shown: id, what it is called, and the language of its text. */
export const KINDS = [
  { id: 'curl', label: 'curl', language: 'sh', make: curl },
  { id: 'requests', label: 'Python', language: 'python', make: requests },
  { id: 'openai', label: 'Python openai', language: 'python', make: openai },
  { id: 'fetch', label: 'JavaScript', language: 'javascript', make: plainFetch },
  { id: 'stream', label: 'JS stream', language: 'javascript', make: streamedFetch },
  { id: 'ollama', label: 'Ollama', language: 'python', make: ollama },
  { id: 'anthropic', label: 'Anthropic', language: 'python', make: anthropic },
  { id: 'responses', label: 'Responses', language: 'python', make: responses },
];

/** One sample. `where` is {address, model}; the address has no slash at its end. */
export function sample(id, request, where) {
  return KINDS.find((kind) => kind.id === id).make(request, where);
}

function curl(request, { address }) {
  const body = { ...request, stream: false };
  const json = JSON.stringify(body);
  const shown = json.length <= 100 ? json : JSON.stringify(body, null, 2);
  return `curl ${address}/api \\
  -H 'Content-Type: application/json' \\
  -d ${quoted(shown)}\n`;
}

function requests(request, { address }) {
  return `import requests

response = requests.post(
    "${address}/api",
    json=${python({ ...request, stream: false }, 1)},
)
response.raise_for_status()
print(response.json()["choices"][0]["message"]["content"])
`;
}

function openai({ messages, stream: _, ...rest }, { address, model }) {
  const given = { model, messages, ...rest, stream: true };
  if (given.max_tokens === -1) delete given.max_tokens;
  return `from openai import OpenAI

client = OpenAI(base_url="${address}/v1", api_key="any text")
stream = client.chat.completions.create(
${keywords(given)}
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
`;
}

function plainFetch(request, { address }) {
  return `const response = await fetch("${address}/api", {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(${script({ ...request, stream: false }, 1)}),
});
const answer = await response.json();
if (!response.ok) throw new Error(answer.error.message);
console.log(answer.choices[0].message.content);
`;
}

function streamedFetch(request, { address }) {
  return `const response = await fetch("${address}/api", {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(${script({ ...request, stream: true }, 1)}),
});
if (!response.ok) throw new Error((await response.json()).error.message);
const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
let text = "", rest = "";
for (let part; !(part = await reader.read()).done; ) {
  const lines = (rest + part.value).split("\\n");
  rest = lines.pop(); // a line that is not whole yet
  for (const line of lines) {
    if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
    const chunk = JSON.parse(line.slice(6));
    if (chunk.error) throw new Error(chunk.error.message);
    text += chunk.choices[0]?.delta.content ?? ""; // show it as it grows
  }
}
console.log(text);
`;
}

function ollama({ messages, max_tokens, reasoning_effort, response_format, ...rest }, { address, model }) {
  const { temperature, top_p, seed, stop, frequency_penalty, presence_penalty } = rest;
  const options = { temperature, top_p, num_predict: max_tokens, seed, stop, frequency_penalty, presence_penalty };
  const format = response_format?.json_schema.schema;
  const given = { model, messages, think: reasoning_effort, format, options: filled(options), stream: true };
  return `from ollama import Client

stream = Client(host="${address}").chat(
${keywords(filled(given))}
)
for part in stream:
    print(part["message"]["content"] or "", end="", flush=True)
print()
`;
}

function anthropic({ messages, temperature, top_p, max_tokens, stop }, { address, model }) {
  const given = {
    model,
    system: systems(messages),
    messages: messages.filter(({ role }) => role !== 'system'),
    temperature: temperature === undefined ? undefined : Math.min(1, temperature),
    top_p,
    max_tokens: max_tokens > 0 ? max_tokens : 1024,
    stop_sequences: stop,
  };
  return `from anthropic import Anthropic

client = Anthropic(base_url="${address}", api_key="any text")
with client.messages.stream(
${keywords(filled(given))}
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
print()
`;
}

function responses({ messages, temperature, top_p, max_tokens, reasoning_effort, response_format }, { address, model }) {
  const given = {
    model,
    instructions: systems(messages),
    input: messages.filter(({ role }) => role !== 'system'),
    temperature,
    top_p,
    max_output_tokens: max_tokens > 0 ? max_tokens : undefined,
    reasoning: reasoning_effort && { effort: reasoning_effort },
    text: response_format && { format: { type: 'json_schema', ...response_format.json_schema } },
  };
  return `from openai import OpenAI

client = OpenAI(base_url="${address}/v1", api_key="any text")
response = client.responses.create(
${keywords(filled(given))}
)
print(response.output_text)
`;
}

function systems(messages) {
  const texts = messages.filter(({ role }) => role === 'system').map(({ content }) => content);
  return texts.length ? texts.join('\n\n') : undefined;
}

/** What is set, and not empty. */
function filled(fields) {
  const empty = (value) => value === undefined || (typeof value === 'object' && Object.keys(value).length === 0);
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => !empty(value)));
}

/** A text as one word of a shell. */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function keywords(fields) {
  return Object.entries(fields)
    .map(([name, value]) => `    ${name}=${python(value, 1)},`)
    .join('\n');
}

/** A value as Python writes it. JSON's texts are Python's texts. */
function python(value, depth) {
  const words = { true: 'True', false: 'False', null: 'None' };
  return literal(value, depth, 4, (key) => JSON.stringify(key), (plain) => (typeof plain === 'string' ? JSON.stringify(plain) : (words[plain] ?? JSON.stringify(plain))));
}

/** A value as JavaScript writes it. */
function script(value, depth) {
  const key = (name) => (/^[A-Za-z_]\w*$/.test(name) ? name : JSON.stringify(name));
  return literal(value, depth, 2, key, (plain) => JSON.stringify(plain));
}

const WIDTH = 72;

/** On one line where it fits, else one item a line. */
function literal(value, depth, indent, key, plain) {
  if (value === null || typeof value !== 'object') return plain(value);
  const list = Array.isArray(value);
  const [open, close] = list ? ['[', ']'] : ['{', '}'];
  const space = indent === 2 && !list ? ' ' : '';
  const each = (at) => {
    const inner = (item) => literal(item, at, indent, key, plain);
    return list ? value.map(inner) : Object.entries(value).map(([name, item]) => `${key(name)}: ${inner(item)}`);
  };
  const flat = each(Infinity).join(', ');
  if (!flat) return open + close;
  if (depth === Infinity || flat.length <= WIDTH - depth * indent) return `${open}${space}${flat}${space}${close}`;
  const pad = ' '.repeat(indent * (depth + 1));
  return `${open}\n${each(depth + 1).map((item) => `${pad}${item},\n`).join('')}${' '.repeat(indent * depth)}${close}`;
}
