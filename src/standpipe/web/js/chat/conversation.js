// What a conversation is, and the request that it makes. Pure.

import { EMPTY, path } from './tree.js';

/** Every parameter of the page, with the tap's own default, and its range. */
export const PARAMETERS = {
  temperature: { value: 0.8, low: 0, high: 2, step: 0.1 },
  top_p: { value: 0.9, low: 0, high: 1, step: 0.05 },
  max_tokens: { value: -1, low: -1, high: 1_048_576, step: 1 },
  reasoning_effort: { value: '', choices: ['', 'low', 'medium', 'high'] },
  stream: { value: true, choices: [true, false] },
};

export const DEFAULTS = Object.fromEntries(Object.entries(PARAMETERS).map(([name, { value }]) => [name, value]));

/** A new conversation. `now` is in milliseconds; system prompt and parameters may be another conversation's. */
export function conversation(id, now, { system = '', parameters = DEFAULTS } = {}) {
  return { id, title: '', created: now, updated: now, system, parameters: { ...parameters }, tree: EMPTY };
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

/** The messages that a request sends: the system prompt, and what was said on the way to `end` (all, when undefined). */
export function messages(talk, nodes = path(talk.tree)) {
  const said = nodes.filter((node) => node.text !== '').map(({ role, text }) => ({ role, content: text }));
  return talk.system.trim() ? [{ role: 'system', content: talk.system }, ...said] : said;
}

/** The body of the request: only parameters that differ from the tap's defaults are spelled out, and `stream`. */
export function request(talk, nodes) {
  const { stream, ...rest } = talk.parameters;
  const changed = Object.entries(rest).filter(([name, value]) => value !== DEFAULTS[name]);
  return { messages: messages(talk, nodes), ...Object.fromEntries(changed), stream };
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
  const texts = [talk.title, talk.system, ...Object.values(talk.tree.nodes).map((node) => node.text)];
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
