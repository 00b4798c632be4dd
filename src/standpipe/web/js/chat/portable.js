// Conversations on their way in and out of this browser: a file of JSON, a text in Markdown, a link. Pure.
//
// What comes in was written by anybody: it is taken apart and built anew, and anything that does not fit is an error in
// words. A link carries its conversation in the fragment, which browsers send to no server.

import { t } from '../page/language.js';
import { content, conversation, DEFAULTS, set, title } from './conversation.js';
import { foreign } from './foreign.js';
import { grown, path } from './tree.js';

const FORMAT = 'standpipe.conversations';
const MOST_TEXT = 1_000_000; // characters of one text
const MOST_IMAGE = 8_000_000; // characters of one image
const IMAGE = /^data:image\/(?:png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+=*$/;
const MOST_NODES = 10_000;
const MOST_SENT = 2000; // messages in a link
const MOST_BYTES = 2_000_000; // of a link, unpacked

/** Conversations as the text of a file. */
export function toJson(talks) {
  return JSON.stringify({ format: FORMAT, version: 1, conversations: talks }, null, 1);
}

/** A conversation as Markdown, as it is shown. */
export function toMarkdown(talk) {
  const said = path(talk.tree).map((node) => [node.role === 'user' ? 'User' : 'Assistant', content(node)]);
  const all = [['System', talk.system], ...said].filter(([, text]) => text.trim() !== '');
  const parts = all.map(([who, text]) => `## ${who}\n\n${text.trim()}`);
  return `# ${talk.title || 'Conversation'}\n\n${parts.join('\n\n')}\n`;
}

/** The conversations of a file. `newId` makes ids; throws an Error that says what is wrong. */
export function fromJson(text, newId, now) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error(t('This file is not JSON.'));
  }
  const found = file?.format === FORMAT ? file.conversations : foreign(file);
  if (!Array.isArray(found)) {
    throw new Error(t('This file is not an export from this chat page, or from ChatGPT, Open WebUI or LibreChat.'));
  }
  return found.map((sent, index) => {
    try {
      return rebuilt(sent, newId, now);
    } catch (error) {
      throw new Error(t('Conversation {0} of this file cannot be read: {1}', index + 1, error.message));
    }
  });
}

function rebuilt(sent, newId, now) {
  const talk = conversation(newId(), instant(sent.created, now), { system: texts(sent.system ?? ''), parameters: parameters(sent.parameters) });
  const nodes = sent.tree?.nodes ?? {};
  if (Object.keys(nodes).length > MOST_NODES) throw new Error('it has too many messages');
  const names = new Map([['', '']]);
  const found = [];
  for (const open = ['']; open.length; ) {
    const parent = open.pop();
    for (const id of list(sent.tree.children?.[parent])) {
      if (names.has(id) || !Object.hasOwn(nodes, id)) throw new Error('its messages are not connected');
      names.set(id, newId());
      found.push(message(nodes[id], names.get(id), names.get(parent), now));
      open.push(id);
    }
  }
  const tree = grown(found);
  const chosen = { ...tree.chosen };
  for (const [parent, id] of Object.entries(sent.tree?.chosen ?? {})) {
    if (names.has(parent) && names.has(id) && tree.children[names.get(parent)]?.includes(names.get(id))) {
      chosen[names.get(parent)] = names.get(id);
    }
  }
  if (sent.pinned === true) talk.pinned = true;
  return { ...talk, title: title(texts(sent.title ?? '')), updated: instant(sent.updated, now), tree: { ...tree, chosen } };
}

function message(sent, id, parent, now) {
  if (!['user', 'assistant'].includes(sent?.role)) throw new Error('a message has an unknown role');
  const node = { id, parent, role: sent.role, text: texts(sent.text), at: instant(sent.at, now) };
  const attached = list(sent.attached).map((one) => {
    const file = { name: texts(one?.name).slice(0, 200), text: texts(one?.text) };
    return one.image === undefined ? file : { ...file, image: picture(one.image) };
  });
  if (attached.length) node.attached = attached;
  if (sent.role === 'user') return node;
  const reasoning = texts(sent.reasoning ?? '');
  const model = typeof sent.model === 'string' ? sent.model.slice(0, 200) : null;
  return { ...node, reasoning, model, state: 'done', queue: null, error: null, facts: {} };
}

function texts(value) {
  if (typeof value !== 'string' || value.length > MOST_TEXT) throw new Error('a text is missing or too long');
  return value;
}

function picture(value) {
  if (typeof value !== 'string' || value.length > MOST_IMAGE || !IMAGE.test(value)) throw new Error('an image is damaged or too large');
  return value;
}

function list(value) {
  return Array.isArray(value) ? value : [];
}

function instant(value, now) {
  return Number.isFinite(value) && value > 0 && value <= now ? value : now;
}

function parameters(sent) {
  return Object.entries(sent ?? {}).reduce((known, [name, value]) => set(known, name, value), DEFAULTS);
}

/** The fragment of a link to a conversation, as it is shown: `talk=...`. */
export async function toFragment(talk) {
  const said = path(talk.tree).map((node) => [node.role === 'user' ? 0 : 1, content(node)]).filter(([, text]) => text !== '');
  if (said.length > MOST_SENT) throw new Error(t('A link holds {0} messages at most. Save this conversation as a file instead.', MOST_SENT));
  const json = JSON.stringify({ t: talk.title, s: talk.system, p: talk.parameters, m: said });
  const packed = new Blob([json]).stream().pipeThrough(new CompressionStream('deflate-raw'));
  const bytes = new Uint8Array(await new Response(packed).arrayBuffer());
  let binary = '';
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return `talk=${btoa(binary).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '')}`;
}

/** The conversation in a link's fragment; undefined when it has none. Throws an Error in words when it cannot be read. */
export async function fromFragment(fragment, newId, now) {
  const packed = new URLSearchParams(fragment.replace(/^#/, '')).get('talk');
  if (packed === null) return undefined;
  let sent;
  try {
    sent = JSON.parse(await unpacked(packed));
  } catch (error) {
    throw error instanceof TooLarge ? error : new Error(damaged());
  }
  if (list(sent?.m).length > MOST_SENT) throw new TooLarge(t('This link cannot be opened: it holds more than {0} messages.', MOST_SENT));
  try {
    let parent = '';
    const nodes = list(sent.m).map(([who, text]) => {
      const node = message({ role: who === 0 ? 'user' : 'assistant', text }, newId(), parent, now);
      parent = node.id;
      return node;
    });
    const talk = conversation(newId(), now, { system: texts(sent.s ?? ''), parameters: parameters(sent.p) });
    return { ...talk, title: title(texts(sent.t ?? '')), tree: grown(nodes), shared: true };
  } catch {
    throw new Error(damaged());
  }
}

const damaged = () => t('This link is damaged: the conversation in it is incomplete.');

class TooLarge extends Error {}

/** A link's text. What it unpacks to is counted while it is unpacked: a short link may hold very much. */
async function unpacked(text) {
  const binary = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
  const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw')).getReader();
  const decoder = new TextDecoder();
  let found = '';
  for (let read = 0; ; ) {
    const { done, value } = await reader.read();
    if (done) return found + decoder.decode();
    read += value.length;
    if (read > MOST_BYTES) {
      void reader.cancel();
      throw new TooLarge(t('This link cannot be opened: it holds more than {0} MB.', MOST_BYTES / 1_000_000));
    }
    found += decoder.decode(value, { stream: true });
  }
}

/** What a link asks to be written into the box: {text, parameters}; undefined when it asks for nothing. */
export function fromPrompt(fragment) {
  const asked = new URLSearchParams(fragment.replace(/^#/, ''));
  const text = asked.get('ask');
  if (text === null) return undefined;
  const temperature = asked.get('temperature');
  return {
    text: text.slice(0, 10_000),
    parameters: temperature === null ? {} : { temperature: set(DEFAULTS, 'temperature', temperature).temperature },
  };
}
