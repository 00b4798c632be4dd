// The chat page, wired: state and view, keys and history, and one runner. Decides nothing itself.

import { html, render } from '../../vendor/lit-html/lit-html.js';
import { announce, copyButtons, recall, remember, watch } from '../page/live.js';
import { actions, afterDraw, fit, newId } from './actions.js';
import { conversation } from './conversation.js';
import { Keeper, OPEN } from './keeper.js';
import { command } from './keys.js';
import { Runner } from './runner.js';
import { initial, isHere, place, reduce, runningTalk } from './store.js';
import { view } from './view.js';

const DRAFTS = 'standpipe.drafts';
const app = document.getElementById('app');
const narrow = matchMedia('(max-width: 52rem)');
const coarse = matchMedia('(pointer: coarse)');
const page = {
  name: app.dataset.name,
  welcome: app.dataset.welcome,
  narrow: () => narrow.matches,
  panel: null, // the two panels, once they were fetched
  whole: false, // whether all of a long conversation is drawn
  logo: () => html`<svg class="logo" viewBox="0 0 24 24" aria-hidden="true">
    <path class="pipe" d="M4 21h8M8 21v-8.5a5 5 0 0 1 5-5h.5a3.5 3.5 0 0 1 3.5 3.5v1M10.5 3.5h5M13 3.5v4"></path>
    <path class="water" d="M17 14.6c1.5 2 2.2 3.2 2.2 4.2a2.2 2.2 0 0 1-4.4 0c0-1 .7-2.2 2.2-4.2z"></path>
  </svg>`,
};

let state = initial(conversation(newId(), Date.now()));
let frame = 0;
let stuck = true; // the reader is at the end, and wants to stay there
let prose = null;

function dispatch(action) {
  const before = state;
  state = reduce(state, action);
  if (state === before) return;
  if (state.talk.id !== before.talk.id) page.whole = false;
  redraw();
}

/** Once in the next frame, however often it is called; a hidden page has no frames. */
function redraw() {
  frame ||= document.hidden ? setTimeout(draw, 250) : requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  render(view({ ...state, stuck }, act, page), app);
  document.documentElement.dataset.started = '';
  const box = document.getElementById('draft');
  if (box.value !== state.draft) { // two changes within one frame, or another conversation
    box.value = state.draft;
    fit(box);
  }
  const talk = document.getElementById('talk');
  if (stuck) talk.scrollTop = talk.scrollHeight;
  grown.disconnect();
  grown.observe(talk.firstElementChild);
  for (const [id, open] of [['sheet', state.sheet], ['question', state.question]]) {
    const dialog = document.getElementById(id);
    if (open && !dialog.open) dialog.showModal();
    else if (!open && dialog.open) dialog.close();
  }
  document.title = state.talk.title ? `${state.talk.title} · ${page.name}` : `Chat · ${page.name}`;
}

/** Colours and formulas come later, and make a conversation longer. */
const grown = new ResizeObserver(() => {
  const talk = document.getElementById('talk');
  if (stuck) talk.scrollTop = talk.scrollHeight;
});

const keeper = new Keeper(() => state, dispatch, (id) => {
  if (id !== null && id !== state.talk.id) return;
  if (isHere(state)) return; // what is being answered here is kept again with its end
  act.fresh();
  notify('This conversation was deleted in another tab.');
});
const runner = new Runner(() => state, dispatch, (id) => {
  const node = runningTalk({ ...state, running: id })?.tree.nodes[id];
  const words = { done: 'Answer complete.', stopped: 'Stopped.', failed: node?.error?.message, refused: node?.error?.message };
  announce(words[node?.state] ?? '');
  void keeper.save();
});

/** Fetches what shows Markdown, once somebody begins to write or to read: it is as heavy as all the rest. */
function fetchProse() {
  prose ??= import('../text/prose.js').catch(() => import('../text/plain.js'));
}

/** Fetches the panels, once somebody opens one. */
async function panels() {
  page.panel ??= (await import('./panel.js')).panel;
}

function follow() {
  stuck = true;
  redraw();
}

/** An action that asks for an answer, and the asking. */
function run(action) {
  dispatch(action);
  if (!state.running) return;
  fetchProse();
  follow();
  announce('Sent.');
  void keeper.save();
  void runner.start();
}

function open(talk) {
  fetchProse();
  follow();
  dispatch({ type: 'open', talk });
  remember('sessionStorage', OPEN, talk.id);
}

function notify(text, more = {}) {
  dispatch({ type: 'show', notice: { text, ...more } });
  announce(text);
}

const act = {
  ...actions({ state: () => state, dispatch, run, runner, keeper, open, notify, fetchProse, follow, panels }),
  toEnd: follow,
  showAll() {
    page.whole = true;
    stuck = false;
    redraw();
  },
  scrolled({ target: { scrollHeight, scrollTop, clientHeight } }) {
    const now = scrollHeight - scrollTop - clientHeight < 48;
    if (now === stuck) return;
    stuck = now;
    redraw();
  },
};

const commands = {
  send: (event) => act.submit(event),
  stop: () => runner.stop(),
  close: () => act.show({ panel: null, drawer: false, notice: null }),
  keys: () => act.show({ sheet: true }),
  new: () => act.fresh(),
  editLast: () => act.editLast(),
  search() {
    if (narrow.matches) act.show({ drawer: true });
    afterDraw(() => document.getElementById('search').focus());
  },
};

addEventListener('keydown', (event) => {
  if (document.querySelector('dialog[open], [popover]:popover-open')) return; // they have keys of their own
  const typing = event.target.matches?.('input, textarea, select') ?? false;
  const open = state.panel || state.drawer || state.notice;
  const name = command(event, { running: isHere(state), open, empty: state.draft === '', typing, coarse: coarse.matches });
  if (!name) return;
  event.preventDefault();
  commands[name](event);
});

// A wait or a countdown is told anew every half second, and only then.
setInterval(() => {
  const node = runningTalk(state)?.tree.nodes[state.running];
  if (node?.state === 'waiting' || node?.state === 'refused') act.show({ now: Date.now() });
  if (node?.state === 'answering') keeper.saveSoon();
}, 500);

/** What the address asks for: a conversation that was shared, or a question to begin with. */
async function arrive() {
  const fragment = location.hash;
  if (!/^#(?:.*&)?(?:talk|ask)=/.test(fragment)) return;
  history.replaceState(null, '', location.pathname);
  const { fromFragment, fromPrompt } = await import('./portable.js');
  try {
    const shared = await fromFragment(fragment, newId, Date.now());
    if (shared) {
      open(shared);
      await keeper.put(shared);
    }
  } catch (error) {
    notify(error.message, { bad: true });
  }
  const prompt = fromPrompt(fragment);
  if (prompt) {
    act.fresh();
    dispatch({ type: 'example', parameters: prompt.parameters, at: Date.now() });
    act.show({ draft: prompt.text });
    afterDraw(() => fit(document.getElementById('draft')));
  }
}

/** Drafts outlive a reload: of each conversation its own, with what is attached where there is room. */
function keepDrafts() {
  const drafts = { ...state.drafts, [place(state.talk)]: { text: state.draft, attached: state.attached } };
  const worth = Object.entries(drafts).filter(([, { text, attached }]) => text || attached.length);
  remember('sessionStorage', DRAFTS, JSON.stringify(Object.fromEntries(worth.slice(-20))));
}

function recallDrafts() {
  try {
    return JSON.parse(recall('sessionStorage', DRAFTS)) ?? {};
  } catch {
    return {};
  }
}

async function start() {
  const drafts = recallDrafts();
  const first = { draft: drafts['']?.text ?? '', attached: drafts['']?.attached ?? [] };
  act.show({ now: Date.now(), language: recall('localStorage', 'standpipe.language'), drafts, ...first });
  draw();
  if (!coarse.matches) document.getElementById('draft').focus({ preventScroll: true });
  watch('api', 10_000, (tap) => act.show({ tap: tap ?? { status: 'down', model: 'server not reachable' } }));
  await keeper.open();
  const last = recall('sessionStorage', OPEN);
  const talk = !location.hash && last ? await keeper.get(last) : undefined;
  if (talk) open(talk);
  await arrive();
}

narrow.addEventListener('change', redraw);
addEventListener('hashchange', () => void arrive());
addEventListener('pagehide', () => {
  keepDrafts();
  void keeper.save();
});
addEventListener('beforeprint', () => {
  page.whole = true;
  draw(); // at once: the next frame would be too late
});
document.addEventListener('visibilitychange', () => {
  if (document.hidden) keepDrafts();
  else void keeper.refresh();
});
copyButtons();
void start();
