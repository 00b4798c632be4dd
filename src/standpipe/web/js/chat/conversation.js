// What a conversation is, and the request that it makes. Pure.

import { t } from '../page/language.js';
import { EMPTY, grown, merged, path } from './tree.js';

/** Every parameter of the page, with the server's own default, and its range; `most` is characters of a text. */
export const PARAMETERS = {
  model: { value: '', most: 200 }, // '': the server's own choice
  temperature: { value: 0.8, low: 0, high: 2, step: 0.1 },
  top_p: { value: 0.9, low: 0, high: 1, step: 0.05 },
  max_tokens: { value: -1, low: -1, high: 1_048_576, step: 1 },
  reasoning_effort: { value: '', choices: ['', 'low', 'medium', 'high'] },
  frequency_penalty: { value: 0, low: -2, high: 2, step: 0.1 },
  presence_penalty: { value: 0, low: -2, high: 2, step: 0.1 },
  seed: { value: '', low: 0, high: 2 ** 53 - 1, step: 1 },
  stop: { value: '', most: 4000 }, // one sequence a line
  schema: { value: '', most: 50_000 }, // a JSON schema, as text
  stream: { value: true, choices: [true, false] },
};

export const DEFAULTS = Object.fromEntries(Object.entries(PARAMETERS).map(([name, { value }]) => [name, value]));

/**
 * A new conversation. `now` is in milliseconds; system prompt and parameters may be given. `changed` is when title,
 * settings or `from` were set, `from` the first message that is still sent, `shared` whether it came by a link.
 */
export function conversation(id, now, { system = '', parameters = {} } = {}) {
  return { id, title: '', created: now, updated: now, changed: now, system, parameters: { ...DEFAULTS, ...parameters }, tree: EMPTY };
}

/** A conversation of its own that begins with these messages of another. `newId` makes ids. */
export function forked(talk, nodes, newId, now) {
  let parent = '';
  const copies = nodes.map((node) => {
    const copy = { ...node, id: newId(), parent };
    parent = copy.id;
    return copy;
  });
  const { system, parameters, title: name } = talk;
  return { ...conversation(newId(), now, { system, parameters }), title: name, tree: grown(copies) };
}

/** Two states of one conversation, from two tabs: every message of both, and the settings that were changed last. */
export function merge(mine, theirs) {
  const newer = (theirs.changed ?? theirs.created) > (mine.changed ?? mine.created) ? theirs : mine;
  return { ...newer, updated: Math.max(mine.updated, theirs.updated), tree: merged(mine.tree, theirs.tree) };
}

/** What a list of conversations shows of one. */
export function head({ id, title: name, created, updated, pinned = false }) {
  return { id, title: name, created, updated, pinned };
}

/** The parameters with one changed, held within its range; what makes no sense is the default. */
export function set(parameters, name, value) {
  const known = PARAMETERS[name];
  if (!known) return parameters;
  if (known.choices) return { ...parameters, [name]: known.choices.includes(value) ? value : known.value };
  if (known.most) {
    const text = typeof value === 'string' ? value.slice(0, known.most) : known.value;
    return name === 'schema' && text.trim() && !schema(text) ? parameters : { ...parameters, [name]: text };
  }
  const number = value === '' || value === null ? NaN : Number(value);
  const held = Number.isFinite(number) ? Math.min(known.high, Math.max(known.low, number)) : known.value;
  if (held === known.value) return { ...parameters, [name]: held };
  return { ...parameters, [name]: name === 'max_tokens' && held < 1 ? -1 : known.step === 1 ? Math.round(held) : held };
}

/** The JSON schema that a text is; undefined when it is none. */
export function schema(text) {
  try {
    const value = JSON.parse(text);
    return value && typeof value === 'object' && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** What a message says in words: its text, and the files that were attached to it as quotes. */
export function content({ text, attached = [] }) {
  const files = attached.filter((one) => !one.image);
  return [text, ...files.map((one) => `${one.name}:\n"""\n${one.text}\n"""`)].filter(Boolean).join('\n\n');
}

const images = ({ attached = [] }) => attached.filter((one) => one.image);

/** What a message says to the model: words, or parts where it shows images. */
function parts(node) {
  const shown = images(node).map(({ image }) => ({ type: 'image_url', image_url: { url: image } }));
  if (!shown.length) return content(node);
  return content(node) ? [{ type: 'text', text: content(node) }, ...shown] : shown;
}

/** The messages that a request sends: the system prompt, and what was said on the way to `end` (all, when undefined). */
export function messages(talk, nodes = path(talk.tree)) {
  const first = nodes.findIndex(({ id }) => id !== undefined && id === talk.from);
  const said = nodes.slice(Math.max(0, first)).filter((node) => content(node) !== '' || images(node).length);
  const sent = said.map((node) => ({ role: node.role, content: parts(node) }));
  return talk.system.trim() ? [{ role: 'system', content: talk.system }, ...sent] : sent;
}

/**
 * The body of the request: only parameters that differ from the server's defaults are spelled out, and `stream`.
 * `changes` are parameters of this request alone.
 */
export function request(talk, nodes, changes = {}) {
  const { stream, stop, schema: format, ...rest } = { ...DEFAULTS, ...talk.parameters, ...changes };
  const changed = Object.fromEntries(Object.entries(rest).filter(([name, value]) => value !== DEFAULTS[name]));
  const stops = stop.split('\n').filter(Boolean);
  if (stops.length) changed.stop = stops;
  if (schema(format)) changed.response_format = { type: 'json_schema', json_schema: { name: 'answer', schema: schema(format) } };
  return { messages: messages(talk, nodes), ...changed, stream };
}

const GO_ON = 'Continue exactly where your last answer stopped. Do not repeat anything, and add no introduction.';

/** The body of the request that has the last of some messages, a cut answer, continued: in words, as any engine takes. */
export function continuation(talk, nodes, changes) {
  return request(talk, [...nodes, { role: 'user', text: GO_ON }], changes);
}

/** Whether the model that answers here sees images, by what GET /api said. */
export function sees({ parameters: { model } }, tap) {
  if (!model || model === tap?.model) return Boolean(tap?.limits?.images);
  return Boolean(tap?.engines?.some((engine) => engine.up && engine.image_models?.includes(model)));
}

export const MOST_MESSAGES = 128; // of one request

/** Why a request would be refused for its size, as a sentence; undefined when it fits. `limit` is in bytes. */
export function excess(body, limit) {
  if (body.messages.length > MOST_MESSAGES) {
    return t('This conversation has {0} messages, and the server takes {1} at most.', body.messages.length, MOST_MESSAGES);
  }
  const size = new TextEncoder().encode(JSON.stringify(body)).length;
  if (!limit || size <= limit) return undefined;
  return t('This conversation is too long to send: {0}, and the server takes {1} at most.', kib(size), kib(limit));
}

const kib = (bytes) => `${Math.ceil(bytes / 1024)} KiB`;

/**
 * Where to begin so that about half of what is sent now is left: the id of a message of the reader's, or undefined when
 * nothing can be left out.
 */
export function shortened(talk, nodes) {
  const first = Math.max(0, nodes.findIndex(({ id }) => id === talk.from));
  const sizes = nodes.map((node) => content(node).length);
  let left = sizes.slice(first).reduce((sum, size) => sum + size, 0);
  const half = left / 2;
  for (let index = first + 1; index < nodes.length; index += 1) {
    left -= sizes[index - 1];
    const enough = left <= half && nodes.length - index <= MOST_MESSAGES / 2;
    if (nodes[index].role === 'user' && (enough || index === nodes.findLastIndex(({ role }) => role === 'user'))) return nodes[index].id;
  }
  return undefined;
}

/** How full the model's context was with the last answer, from 0 to 1; null when that is not known. */
export function fullness(nodes, contextTokens) {
  const facts = nodes.findLast((node) => node.facts?.prompt)?.facts;
  return facts && contextTokens ? Math.min(1, (facts.prompt + (facts.completion ?? 0)) / contextTokens) : null;
}

const TITLE = 60;

/** A title from what was said first. */
export function title(text) {
  const line = text.trim().split('\n', 1)[0].replace(/\s+/g, ' ');
  return line.length > TITLE ? `${line.slice(0, TITLE - 1).trimEnd()}…` : line;
}

/** Whether a conversation has all words of a query, anywhere, whatever their case. */
export function matches(talk, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const texts = [talk.title, talk.system, ...Object.values(talk.tree.nodes).map(content)];
  const all = texts.join('\n').toLowerCase();
  return words.every((word) => all.includes(word));
}

const DAY = 86_400_000;

/** A list of conversations in groups, the pinned ones and the others by age: [[name, list], ...]. `midnight` is when today began, in milliseconds. */
export function byAge(list, midnight) {
  const groups = [
    [t('Pinned'), Infinity],
    [t('Today'), midnight],
    [t('Yesterday'), midnight - DAY],
    [t('Last 7 days'), midnight - 7 * DAY],
    [t('Older'), -Infinity],
  ].map(([name, since]) => [name, since, []]);
  for (const talk of list) groups.find(([, since]) => (talk.pinned ? since === Infinity : talk.updated >= since))[2].push(talk);
  return groups.filter(([, , members]) => members.length).map(([name, , members]) => [name, members]);
}
