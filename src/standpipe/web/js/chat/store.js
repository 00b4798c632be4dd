// The state of the chat page and everything that can happen to it: (state, action) to state. Pure: ids and instants
// (milliseconds) are in the actions, and whatever must be done outside (asking, saving) is done by `main`.

import { conversation, set, title } from './conversation.js';
import { after, asked, refused, stopped } from './run.js';
import { add, change, leaf, remove, step } from './tree.js';

/** The state at the start. */
export function initial(talk) {
  return {
    talk,
    list: [], // {id, title, updated} of what is kept, newest first
    query: '',
    draft: '',
    editing: null, // {id, text} of the message that is being changed
    running: null, // the id of the answer that is under way or waits for its retry
    panel: null, // settings, api or null
    drawer: false, // whether the list covers a narrow page
    sheet: false, // whether the keys are shown
    notice: null, // {text, kind}
    now: 0,
    raw: null, // {request, status, headers, body} of the last ask
    tap: null, // what GET /api told
  };
}

/** The state after an action. An action that makes no sense changes nothing. */
export function reduce(state, action) {
  const handle = ACTIONS[action.type];
  if (!handle) throw new Error(`no such action: ${action.type}`);
  return handle(state, action);
}

const ACTIONS = {
  send(state, { text, ids, at }) {
    if (state.running || !text.trim()) return state;
    const parent = leaf(state.talk.tree)?.id ?? '';
    return said({ ...state, draft: '' }, parent, text, ids, at);
  },

  edit(state, { id, text, ids, at }) {
    const node = state.talk.tree.nodes[id];
    if (state.running || !node || !text.trim()) return state;
    return said({ ...state, editing: null }, node.parent, text, ids, at);
  },

  regenerate(state, { id, newId, at }) {
    const node = state.talk.tree.nodes[id];
    if (state.running || node?.role !== 'assistant') return state;
    return answering(state, node.parent, newId, at);
  },

  retry(state, { at }) {
    const node = state.talk.tree.nodes[state.running];
    if (node?.state !== 'refused') return state;
    return onNode(state, node.id, { ...asked(node.facts.asked), attempt: (node.attempt ?? 1) + 1 }, at);
  },

  head(state, { waited, status, headers }) {
    const node = state.talk.tree.nodes[state.running];
    if (!node) return state;
    const next = onNode(state, node.id, { facts: { ...node.facts, waited } });
    return { ...next, raw: { ...state.raw, status, headers } };
  },

  queue(state, { position, eta, at }) {
    const node = state.talk.tree.nodes[state.running];
    if (node?.state !== 'waiting') return state;
    return onNode(state, node.id, { queue: { position, eta, at } });
  },

  events(state, { events, at }) {
    const node = state.talk.tree.nodes[state.running];
    return node ? onNode(state, node.id, after(node, events, at), at) : state;
  },

  ended(state, { at }) {
    return touched({ ...state, running: null }, at);
  },

  stopped(state, { at }) {
    const node = state.talk.tree.nodes[state.running];
    if (!node) return state;
    const fields = node.state === 'refused' ? { error: { ...node.error, retryAt: null } } : stopped(node, at);
    return touched({ ...onNode(state, node.id, fields), running: null }, at);
  },

  refused(state, { error, retryAt, at }) {
    const node = state.talk.tree.nodes[state.running];
    if (!node) return state;
    const next = onNode(state, node.id, refused(node, error, retryAt, at), at);
    return retryAt === null ? { ...next, running: null } : next;
  },

  raw(state, { raw }) {
    return { ...state, raw: { ...state.raw, ...raw } };
  },

  step(state, { id, by }) {
    return state.running ? state : onTree(state, step(state.talk.tree, id, by));
  },

  remove(state, { id, at }) {
    return state.running ? state : touched(onTree(state, remove(state.talk.tree, id)), at);
  },

  editing(state, { id, text }) {
    return state.running ? state : { ...state, editing: id === null ? null : { id, text } };
  },

  parameter(state, { name, value }) {
    return onTalk(state, { parameters: set(state.talk.parameters, name, value) });
  },

  parameters(state, { parameters }) {
    return onTalk(state, { parameters });
  },

  system(state, { text }) {
    return onTalk(state, { system: text });
  },

  rename(state, { text, at }) {
    return touched(onTalk(state, { title: title(text) }), at);
  },

  new(state, { id, at }) {
    const { system, parameters } = state.talk;
    return fresh(state, conversation(id, at, { system, parameters }));
  },

  open(state, { talk }) {
    return fresh(state, talk);
  },

  list(state, { list }) {
    return { ...state, list };
  },

  show(state, fields) {
    const { type, ...rest } = fields;
    return { ...state, ...rest };
  },
};

/** A message of the reader's, and an answer to come. */
function said(state, parent, text, ids, at) {
  const message = { id: ids[0], parent, role: 'user', text: text.trim(), at };
  const talk = state.talk.title ? state.talk : { ...state.talk, title: title(text) };
  return answering(onTree({ ...state, talk }, add(talk.tree, message)), message.id, ids[1], at);
}

function answering(state, parent, id, at) {
  const answer = { id, parent, role: 'assistant', at, ...asked(at) };
  return touched({ ...onTree(state, add(state.talk.tree, answer)), running: id, notice: null }, at);
}

function fresh(state, talk) {
  return state.running ? state : { ...state, talk, draft: '', editing: null, drawer: false, notice: null, raw: null };
}

function onNode(state, id, fields, at) {
  const next = onTree(state, change(state.talk.tree, id, fields));
  return at === undefined ? next : { ...next, now: at };
}

function onTree(state, tree) {
  return onTalk(state, { tree });
}

function onTalk(state, fields) {
  return { ...state, talk: { ...state.talk, ...fields } };
}

function touched(state, at) {
  return { ...onTalk(state, { updated: at }), now: at };
}
