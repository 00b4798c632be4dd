// The state of the chat page and everything that can happen to it: (state, action) to state. Pure: ids and instants
// (milliseconds) are in the actions, and whatever must be done outside (asking, saving) is done by `main`.

import { conversation, DEFAULTS, merge, set, shortened, title } from './conversation.js';
import { after, asked, refused, stopped } from './run.js';
import { add, change, leaf, path, pathTo, remove, restored, step } from './tree.js';

/** The state at the start. */
export function initial(talk) {
  return {
    talk, // the conversation that is shown
    away: null, // the one whose answer came, or comes, while another is shown
    own: { system: '', parameters: DEFAULTS }, // what the reader set last: new conversations begin with it
    list: [], // {id, title, created, updated} of what is kept, newest first
    query: '',
    found: null, // ids of the conversations that have the query; null: no query
    draft: '',
    attached: [], // {name, text} that will be sent with the draft
    drafts: {}, // {text, attached} of other conversations by id, and of a new one under ''
    editing: null, // {id, text} of the message that is being changed
    running: null, // the id of the answer that is under way or waits for its retry
    panel: null, // settings, api or null
    drawer: false, // whether the list covers a narrow page
    folded: false, // whether a wide page goes without the list
    dialog: null, // {name, ...} of the question or the sheet that is shown
    menu: null, // {name, id} of the menu that is open: of what, and of which answer or conversation
    models: [], // names of the models, where there are several
    notice: null, // {text, bad, action: {label, act}}
    listed: 100, // how many of the list are drawn: more when it is scrolled to its end
    keeping: 'kept', // how conversations are kept: kept, memory (not at all), full or failed
    now: 0,
    raw: null, // {request, status, headers, body} of the last request
    tap: null, // what GET /api said
  };
}

/** The state after an action. An action that makes no sense changes nothing. */
export function reduce(state, action) {
  const handle = ACTIONS[action.type];
  if (!handle) throw new Error(`no such action: ${action.type}`);
  if (!RUN.has(action.type) || state.talk.tree.nodes[state.running] || !state.away) return handle(state, action);
  const next = handle({ ...state, talk: state.away }, action);
  return { ...next, talk: state.talk, away: next.talk };
}

/** Whether the answer that is under way belongs to the conversation that is shown. */
export const isHere = (state) => state.running !== null && state.talk.tree.nodes[state.running] !== undefined;

/** The conversation of the answer that is under way. */
export const runningTalk = (state) => (isHere(state) ? state.talk : state.away);

const RUN = new Set(['retry', 'head', 'queue', 'events', 'ended', 'stopped', 'refused']);

const ACTIONS = {
  send(state, { text, attached = [], ids, at }) {
    if (state.running || (!text.trim() && !attached.length)) return state;
    const parent = leaf(state.talk.tree)?.id ?? '';
    return said({ ...state, draft: '', attached: [] }, parent, { text, attached }, ids, at);
  },

  edit(state, { id, text, ids, at }) {
    const node = state.talk.tree.nodes[id];
    if (state.running || !node || !text.trim()) return state;
    return said({ ...state, editing: null }, node.parent, { text, attached: node.attached ?? [] }, ids, at);
  },

  /** Another answer to the same question; `changes` are parameters for this one alone. */
  regenerate(state, { id, newId, changes, at }) {
    const node = state.talk.tree.nodes[id];
    if (state.running || node?.role !== 'assistant') return state;
    return answering(state, node.parent, newId, at, changes);
  },

  /** A cut answer goes on. */
  continue(state, { id, at }) {
    const node = state.talk.tree.nodes[id];
    if (state.running || node?.role !== 'assistant' || !node.text) return state;
    const next = onNode(state, id, { ...asked(at, node), attempt: (node.attempt ?? 1) + 1 }, at);
    return touched({ ...next, running: id, notice: null }, at);
  },

  /** An answer as its reader wrote it, beside the model's own. */
  rewrite(state, { id, text, newId, at }) {
    const node = state.talk.tree.nodes[id];
    if (isHere(state) || node?.role !== 'assistant' || !text.trim()) return state;
    const { parent, role, model } = node;
    const mine = { ...asked(at), id: newId, parent, role, model, at, text: text.trim(), state: 'done', facts: {}, edited: true };
    return touched({ ...onTree(state, add(state.talk.tree, mine)), editing: null }, at);
  },

  /** The oldest messages before a refused answer are no longer sent. */
  shorten(state, { id, at }) {
    const from = shortened(state.talk, pathTo(state.talk.tree, state.talk.tree.nodes[id]?.parent));
    return from ? onTalk(state, { from, changed: at }) : state;
  },

  lengthen(state, { at }) {
    return onTalk(state, { from: undefined, changed: at });
  },

  retry(state, { at }) {
    const node = state.talk.tree.nodes[state.running];
    if (node?.state !== 'refused') return state;
    return onNode(state, node.id, { ...asked(node.facts.asked, node), attempt: (node.attempt ?? 1) + 1 }, at);
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
    return isHere(state) ? state : onTree(state, step(state.talk.tree, id, by));
  },

  remove(state, { id, at }) {
    return isHere(state) ? state : touched(onTree(state, remove(state.talk.tree, id)), at);
  },

  /** Undoes a removal: `before` is the tree as it was. */
  restore(state, { before, id, at }) {
    return isHere(state) ? state : touched(onTree(state, restored(before, state.talk.tree, id)), at);
  },

  editing(state, { id, text }) {
    return isHere(state) ? state : { ...state, editing: id === null ? null : { id, text } };
  },

  parameter(state, { name, value, at }) {
    return chosen(state, { parameters: set(state.talk.parameters, name, value) }, at);
  },

  parameters(state, { parameters, at }) {
    return chosen(state, { parameters }, at);
  },

  /** Parameters that an example brings along: for this conversation alone. */
  example(state, { parameters, at }) {
    return onTalk(state, { parameters: { ...state.talk.parameters, ...parameters }, changed: at });
  },

  system(state, { text, at }) {
    return chosen(state, { system: text }, at);
  },

  new(state, { id, at }) {
    return fresh(state, conversation(id, at, state.own));
  },

  open(state, { talk }) {
    return fresh(state, talk);
  },

  /** What another tab made of a conversation that is shown here, or answered here. */
  merge(state, { talk }) {
    if (talk.id === state.talk.id) return { ...state, talk: merge(state.talk, talk) };
    if (talk.id === state.away?.id) return { ...state, away: merge(state.away, talk) };
    return state;
  },

  /** A name or a pin, of a conversation that is shown here or answered here. */
  amend(state, { id, fields }) {
    if (id === state.talk.id) return onTalk(state, fields);
    return id === state.away?.id ? { ...state, away: { ...state.away, ...fields } } : state;
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
function said(state, parent, { text, attached }, ids, at) {
  const message = { id: ids[0], parent, role: 'user', text: text.trim(), at };
  if (attached.length) message.attached = attached;
  const name = title(text) || attached[0].name;
  const talk = state.talk.title ? state.talk : { ...state.talk, title: name, changed: at };
  return answering(onTree({ ...state, talk }, add(talk.tree, message)), message.id, ids[1], at);
}

function answering(state, parent, id, at, changes) {
  const answer = { id, parent, role: 'assistant', at, ...asked(at) };
  if (changes) answer.changes = changes;
  return touched({ ...onTree(state, add(state.talk.tree, answer)), running: id, notice: null }, at);
}

/** Shows another conversation. An answer that is under way goes on, and each conversation keeps its draft. */
function fresh(state, talk) {
  const away = isHere(state) ? state.talk : state.away;
  const back = away?.id === talk.id;
  const kept = { ...state.drafts, [place(state.talk)]: { text: state.draft, attached: state.attached } };
  const shown = back ? away : talk;
  const { text, attached } = kept[place(shown)] ?? { text: '', attached: [] };
  return {
    ...state,
    ...{ talk: shown, away: back ? null : away, drafts: kept, draft: text, attached },
    ...{ editing: null, drawer: false, notice: null, raw: state.running ? state.raw : null },
  };
}

/** The name of a conversation's draft: all that say nothing yet are the same new one. */
export const place = (talk) => (path(talk.tree).length ? talk.id : '');

/** A setting that the reader chose, for this conversation and those to come. */
function chosen(state, fields, at) {
  return { ...onTalk(state, { ...fields, changed: at }), own: { ...state.own, ...fields } };
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
