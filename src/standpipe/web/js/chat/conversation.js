// What a conversation is, and the request that it makes. Pure.

import { EMPTY, merged, path } from './tree.js';

/** Every parameter of the page, with the server's own default, and its range. */
export const PARAMETERS = {
  temperature: { value: 0.8, low: 0, high: 2, step: 0.1 },
  top_p: { value: 0.9, low: 0, high: 1, step: 0.05 },
  max_tokens: { value: -1, low: -1, high: 1_048_576, step: 1 },
  reasoning_effort: { value: '', choices: ['', 'low', 'medium', 'high'] },
  stream: { value: true, choices: [true, false] },
};

export const DEFAULTS = Object.fromEntries(Object.entries(PARAMETERS).map(([name, { value }]) => [name, value]));

/**
 * A new conversation. `now` is in milliseconds; system prompt and parameters may be given. `changed` is when title,
 * settings or `from` were set, `from` the first message that is still sent, `shared` whether it came by a link.
 */
export function conversation(id, now, { system = '', parameters = DEFAULTS } = {}) {
  return { id, title: '', created: now, updated: now, changed: now, system, parameters: { ...parameters }, tree: EMPTY };
}

/** Two states of one conversation, from two tabs: every message of both, and the settings that were changed last. */
export function merge(mine, theirs) {
  const newer = (theirs.changed ?? theirs.created) > (mine.changed ?? mine.created) ? theirs : mine;
  return { ...newer, updated: Math.max(mine.updated, theirs.updated), tree: merged(mine.tree, theirs.tree) };
}

/** What a list of conversations shows of one. */
export function head({ id, title: name, created, updated }) {
  return { id, title: name, created, updated };
}

/** The parameters with one changed, held within its range; what makes no sense is the default. */
export function set(parameters, name, value) {
  const known = PARAMETERS[name];
  if (!known) return parameters;
  if (known.choices) return { ...parameters, [name]: known.choices.includes(value) ? value : known.value };
  const number = value === '' ? NaN : Number(value);
  const held = Number.isFinite(number) ? Math.min(known.high, Math.max(known.low, number)) : known.value;
  return { ...parameters, [name]: name === 'max_tokens' ? (held < 1 ? -1 : Math.round(held)) : held };
}

/** What a message says to the model: its text, and what was attached to it as quotes. */
export function content({ text, attached = [] }) {
  return [text, ...attached.map((one) => `${one.name}:\n"""\n${one.text}\n"""`)].filter(Boolean).join('\n\n');
}

/** The messages that a request sends: the system prompt, and what was said on the way to `end` (all, when undefined). */
export function messages(talk, nodes = path(talk.tree)) {
  const first = nodes.findIndex(({ id }) => id !== undefined && id === talk.from);
  const said = nodes.slice(Math.max(0, first)).filter((node) => content(node) !== '');
  const sent = said.map((node) => ({ role: node.role, content: content(node) }));
  return talk.system.trim() ? [{ role: 'system', content: talk.system }, ...sent] : sent;
}

/** The body of the request: only parameters that differ from the server's defaults are spelled out, and `stream`. */
export function request(talk, nodes) {
  const { stream, ...rest } = talk.parameters;
  const changed = Object.entries(rest).filter(([name, value]) => value !== DEFAULTS[name]);
  return { messages: messages(talk, nodes), ...Object.fromEntries(changed), stream };
}

export const MOST_MESSAGES = 128; // of one request

/** Why a request would be refused for its size, as a sentence; undefined when it fits. `limit` is in bytes. */
export function excess(body, limit) {
  if (body.messages.length > MOST_MESSAGES) {
    return `This conversation has ${body.messages.length} messages, and the server takes ${MOST_MESSAGES} at most.`;
  }
  const size = new TextEncoder().encode(JSON.stringify(body)).length;
  if (!limit || size <= limit) return undefined;
  return `This conversation is too long to send: ${kib(size)}, and the server takes ${kib(limit)} at most.`;
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

/** A list of conversations in groups by age: [[name, list], ...]. `midnight` is when today began, in milliseconds. */
export function byAge(list, midnight) {
  const groups = [
    ['Today', midnight],
    ['Yesterday', midnight - DAY],
    ['Last 7 days', midnight - 7 * DAY],
    ['Older', -Infinity],
  ].map(([name, since]) => [name, since, []]);
  for (const talk of list) groups.find(([, since]) => talk.updated >= since)[2].push(talk);
  return groups.filter(([, , members]) => members.length).map(([name, , members]) => [name, members]);
}
