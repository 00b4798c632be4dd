// The chat page, wired: state and view, keys and history, and one runner. Decides nothing itself.

import { html, render } from '../../vendor/lit-html/lit-html.js';
import { announce, copy, copyButtons, watch } from '../page/live.js';
import { conversation, DEFAULTS } from './conversation.js';
import { openHistory } from './history.js';
import { command } from './keys.js';
import { fromFragment, fromJson, fromPrompt, toFragment, toJson, toMarkdown } from './portable.js';
import { Runner } from './runner.js';
import { initial, reduce } from './store.js';
import { path } from './tree.js';
import { view } from './view.js';

const app = document.getElementById('app');
const narrow = matchMedia('(max-width: 52rem)');
const page = {
  name: app.dataset.name,
  welcome: app.dataset.welcome,
  logo: () => html`<svg class="logo" viewBox="0 0 24 24" aria-hidden="true"><path class="pipe" d="M4 21h8M8 21v-8.5a5 5 0 0 1 5-5h.5a3.5 3.5 0 0 1 3.5 3.5v1M10.5 3.5h5M13 3.5v4"></path><path class="water" d="M17 14.6c1.5 2 2.2 3.2 2.2 4.2a2.2 2.2 0 0 1-4.4 0c0-1 .7-2.2 2.2-4.2z"></path></svg>`,
  narrow: () => narrow.matches,
};

let state = initial(conversation(crypto.randomUUID(), Date.now()));
let history = null;
let frame = 0;
let stuck = true; // the reader is at the end, and wants to stay there
let saving = 0;
let discarded = null;

const newId = () => crypto.randomUUID();

function dispatch(action) {
  const before = state;
  state = reduce(state, action);
  if (state === before) return;
  if (document.hidden) setTimeout(draw, 250);
  else frame ||= requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  render(view({ ...state, stuck }, act, page), app);
  if (box().value !== state.draft) box().value = state.draft; // two changes within one frame
  const talk = document.getElementById('talk');
  if (stuck && talk) talk.scrollTop = talk.scrollHeight;
  for (const [id, open] of [['sheet', state.sheet], ['question', state.question]]) {
    const dialog = document.getElementById(id);
    if (open && !dialog.open) dialog.showModal();
    else if (!open && dialog.open) dialog.close();
  }
  document.title = state.talk.title ? `${state.talk.title} · ${page.name}` : `Chat · ${page.name}`;
}

const runner = new Runner(() => state, dispatch, () => {
  const node = path(state.talk.tree).at(-1);
  const words = { done: 'Answer complete.', stopped: 'Stopped.', failed: node?.error?.message, refused: node?.error?.message };
  announce(words[node?.state] ?? '');
  void save();
});

let prose = null;

/** Fetches what shows Markdown, once somebody begins to write or to read: it is as heavy as all the rest. */
function fetchProse() {
  prose ??= import('../text/prose.js').catch(() => import('../text/plain.js'));
}

function run(action) {
  dispatch(action);
  if (!state.running) return;
  fetchProse();
  stuck = true;
  announce('Asked.');
  void save();
  void runner.start();
}

/** Keeps the conversation as it is. One that says nothing is not kept. */
async function save() {
  clearTimeout(saving);
  saving = 0;
  if (!history || !path(state.talk.tree).length) return;
  await history.put(state.talk);
  sessionStorage.setItem('standpipe.open', state.talk.id);
  await refresh();
}

/** Keeps it soon: called on every change of what is typed into the settings. */
function saveSoon() {
  saving ||= setTimeout(() => void save(), 800);
}

async function refresh() {
  dispatch({ type: 'list', list: await history.all() });
}

function open(talk) {
  if (state.running) runner.stop();
  stuck = true;
  fetchProse();
  dispatch({ type: 'open', talk });
  sessionStorage.setItem('standpipe.open', talk.id);
}

function notify(text, more = {}) {
  dispatch({ type: 'show', notice: { text, ...more } });
  announce(text);
}

function download(name, text, type) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const fileName = (ending) => `${(state.talk.title || 'conversation').replace(/[^\p{L}\p{N}]+/gu, '-').slice(0, 40)}.${ending}`;
const box = () => document.getElementById('draft');

const act = {
  show: (fields) => dispatch({ type: 'show', ...fields }),
  panel: (name) => dispatch({ type: 'show', panel: state.panel === name ? null : name }),
  current: (name) => state.talk.parameters[name],
  copy,
  stop: () => runner.stop(),
  retryNow: () => runner.retry(),

  typed(event) {
    fetchProse();
    dispatch({ type: 'show', draft: event.target.value });
    fit(event.target);
  },
  submit(event) {
    event.preventDefault();
    if (state.running || !state.draft.trim()) return;
    run({ type: 'send', text: state.draft, ids: [newId(), newId()], at: Date.now() });
    requestAnimationFrame(() => fit(box()));
  },
  suggest(text, temperature) {
    dispatch({ type: 'parameter', name: 'temperature', value: temperature });
    run({ type: 'send', text, ids: [newId(), newId()], at: Date.now() });
    box().focus();
  },
  regenerate: (node) => run({ type: 'regenerate', id: node.id, newId: newId(), at: Date.now() }),

  edit(node) {
    dispatch({ type: 'editing', id: node.id, text: node.text });
    requestAnimationFrame(() => requestAnimationFrame(() => document.getElementById('edited')?.focus()));
  },
  cancelEdit() {
    dispatch({ type: 'editing', id: null });
    box().focus();
  },
  finishEdit(text, event) {
    event?.preventDefault();
    run({ type: 'edit', id: state.editing.id, text, ids: [newId(), newId()], at: Date.now() });
    box().focus();
  },

  step: (node, by) => (dispatch({ type: 'step', id: node.id, by }), void save()),
  async remove(node) {
    const before = state.talk;
    dispatch({ type: 'remove', id: node.id, at: Date.now() });
    if (path(state.talk.tree).length) await save();
    else if (history) await history.remove(before.id).then(refresh);
    discarded = before;
    notify('Message deleted.', { undo: true });
  },

  fresh() {
    if (state.running) runner.stop();
    stuck = true;
    dispatch({ type: 'new', id: newId(), at: Date.now() });
    sessionStorage.removeItem('standpipe.open');
    requestAnimationFrame(() => box().focus());
  },
  async open(id) {
    const talk = await history.get(id);
    if (talk) open(talk);
  },
  async discard(talk) {
    await history.remove(talk.id);
    discarded = talk;
    if (talk.id === state.talk.id) act.fresh();
    await refresh();
    notify('Conversation deleted.', { undo: true });
  },
  async undo() {
    await history.put(discarded);
    open(discarded);
    await refresh();
  },
  askClear: () => dispatch({ type: 'show', question: true }),
  async clear() {
    await history.clear();
    act.fresh();
    await refresh();
  },

  parameter(name, value) {
    dispatch({ type: 'parameter', name, value });
    saveSoon();
  },
  defaults() {
    dispatch({ type: 'parameters', parameters: DEFAULTS });
    saveSoon();
  },
  system(text) {
    dispatch({ type: 'system', text });
    saveSoon();
  },
  language(id) {
    localStorage.setItem('standpipe.language', id);
    dispatch({ type: 'show', language: id });
  },

  async share() {
    const link = `${location.origin}/chat#${await toFragment(state.talk)}`;
    await copy(link);
    const long = link.length > 8000;
    notify(long ? 'Link copied. It is long: some programs may cut it.' : 'Link copied. Whoever has it can read this conversation.');
  },
  exportOne: () => download(fileName('json'), toJson([state.talk]), 'application/json'),
  exportMarkdown: () => download(fileName('md'), toMarkdown(state.talk), 'text/markdown'),
  exportAll: async () => download('conversations.json', toJson(await history.all()), 'application/json'),
  async import(event) {
    const [file] = event.target.files;
    event.target.value = '';
    if (!file) return;
    try {
      const talks = fromJson(await file.text(), newId, Date.now());
      for (const talk of talks) await history.put(talk);
      await refresh();
      if (talks.length) open(talks[0]);
      notify(`${talks.length} conversation${talks.length === 1 ? '' : 's'} imported.`);
    } catch (error) {
      notify(error.message, { bad: true });
    }
  },

  scrolled(event) {
    const { scrollHeight, scrollTop, clientHeight } = event.target;
    const now = scrollHeight - scrollTop - clientHeight < 48;
    if (now === stuck) return;
    stuck = now;
    frame ||= requestAnimationFrame(draw);
  },
  toEnd() {
    stuck = true;
    frame ||= requestAnimationFrame(draw);
  },
};

/** As high as its text, up to what the style allows. */
function fit(area) {
  area.style.height = 'auto';
  area.style.height = `${area.scrollHeight}px`;
}

const commands = {
  send: (event) => act.submit(event),
  stop: () => runner.stop(),
  close: () => dispatch({ type: 'show', panel: null, drawer: false, notice: null }),
  keys: () => dispatch({ type: 'show', sheet: true }),
  new: () => act.fresh(),
  search() {
    if (narrow.matches) dispatch({ type: 'show', drawer: true });
    requestAnimationFrame(() => requestAnimationFrame(() => document.getElementById('search').focus()));
  },
  editLast() {
    const last = path(state.talk.tree).findLast((node) => node.role === 'user');
    if (last && !state.running) act.edit(last);
  },
};

addEventListener('keydown', (event) => {
  if (document.querySelector('dialog[open], [popover]:popover-open')) return; // they have keys of their own
  const typing = event.target.matches?.('input, textarea, select') ?? false;
  const name = command(event, { running: state.running, open: state.panel || state.drawer || state.notice, empty: state.draft === '', typing });
  if (!name) return;
  event.preventDefault();
  commands[name](event);
});

narrow.addEventListener('change', draw);
addEventListener('hashchange', () => void arrive());
addEventListener('pagehide', () => void save());
copyButtons();

// A wait or a countdown is told anew every half second, and only then.
setInterval(() => {
  const node = state.talk.tree.nodes[state.running];
  if (node?.state === 'waiting' || node?.state === 'refused') dispatch({ type: 'show', now: Date.now() });
  if (node?.state === 'answering') saveSoon();
}, 500);

/** What the address asks for: a conversation that was shared, a question to begin with, or the one that was open. */
async function arrive() {
  const fragment = location.hash;
  if (fragment) window.history.replaceState(null, '', location.pathname);
  try {
    const shared = await fromFragment(fragment, newId, Date.now());
    if (shared) {
      open(shared);
      notify('This conversation came with a link. It is kept here once you go on with it.');
      return;
    }
  } catch (error) {
    notify(error.message, { bad: true });
    return;
  }
  const prompt = fromPrompt(fragment);
  if (prompt) {
    act.fresh();
    dispatch({ type: 'parameters', parameters: prompt.parameters });
    dispatch({ type: 'show', draft: prompt.text });
    requestAnimationFrame(() => requestAnimationFrame(() => fit(box())));
  }
}

async function start() {
  dispatch({ type: 'show', now: Date.now(), language: localStorage.getItem('standpipe.language') });
  draw();
  box().focus({ preventScroll: true });
  history = await openHistory();
  await refresh();
  const last = sessionStorage.getItem('standpipe.open');
  const talk = !location.hash && last ? await history.get(last) : undefined;
  if (talk) open(talk);
  await arrive();
  watch('/api', 10_000, (tap) => dispatch({ type: 'show', tap: tap ?? { status: 'down', model: 'not reached' } }));
}

void start();
