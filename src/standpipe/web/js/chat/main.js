// The chat page, wired: state and view, keys and history, and one runner. Decides nothing itself.

import { html, render } from '../../vendor/lit-html/lit-html.js';
import { known, speak, t } from '../page/language.js';
import { announce, api, copyButtons, recall, remember, watch } from '../page/live.js';
import { actions, afterDraw, fit, newId } from './actions.js';
import { conversation } from './conversation.js';
import { Keeper } from './keeper.js';
import { command } from './keys.js';
import { initial, isHere, place, reduce, runningTalk } from './store.js';
import { view } from './view.js';

const DRAFTS = 'standpipe.drafts';
const FOLDED = 'standpipe.folded';
const TONGUE = 'standpipe.tongue';
const app = document.getElementById('app');
const narrow = matchMedia('(max-width: 52rem)');
const coarse = matchMedia('(pointer: coarse)');
const page = {
  name: app.dataset.name,
  welcome: app.dataset.welcome,
  narrow: () => narrow.matches,
  voice: isSecureContext && ('SpeechRecognition' in window || 'webkitSpeechRecognition' in window),
  message: null, // what is drawn only later is fetched later: one message,
  panel: null, // the two panels,
  menus: null, // menus and dialogs
  whole: false, // whether all of a long conversation is drawn
  logo: () => html`<svg class="logo" viewBox="0 0 24 24" aria-hidden="true">
    <path class="pipe" d="M4 21h8M8 21v-8.5a5 5 0 0 1 5-5h.5a3.5 3.5 0 0 1 3.5 3.5v1M10.5 3.5h5M13 3.5v4"></path>
    <path class="water" d="M17 14.6c1.5 2 2.2 3.2 2.2 4.2a2.2 2.2 0 0 1-4.4 0c0-1 .7-2.2 2.2-4.2z"></path>
  </svg>`,
};

let state = initial(conversation(newId(), Date.now()));
let frame = 0;
let stuck = true; // the reader is at the end, and wants to stay there
let talking = null; // what shows and asks for messages, while it is fetched and then
let runner = null;

function dispatch(action) {
  const before = state;
  state = reduce(state, action);
  if (state === before) return;
  if (state.talk.id !== before.talk.id) page.whole = false;
  const address = addressOf(state.talk);
  if (address !== addressOf(before.talk) && address !== location.hash) {
    goTo(address, state.talk.id === before.talk.id);
  }
  redraw();
}

/** The fragment under which a conversation is found in this browser; a new one has none. */
function addressOf({ id, tree }) {
  return tree.chosen[''] ? `#c=${id}` : '';
}

/** Shows an address, as a step that leads back or in place of the one before. */
function goTo(address, instead) {
  history[instead ? 'replaceState' : 'pushState'](null, '', location.pathname + location.search + address);
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
  const dialog = document.getElementById('dialog');
  if (state.dialog && !dialog.open) dialog.showModal();
  else if (!state.dialog && dialog?.open) dialog.close();
  document.title = `${state.talk.title || t('Chat')} · ${page.name}`;
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
  notify(t('This conversation was deleted in another tab.'));
});

function answered(id) {
  const node = runningTalk({ ...state, running: id })?.tree.nodes[id];
  const told = { done: t('Answer complete.'), stopped: t('Stopped.'), failed: node?.error?.message, refused: node?.error?.message };
  announce(told[node?.state] ?? '');
  void keeper.save();
}

/** Fetches what asks and what shows, once somebody begins to write or to read: it is more than all the rest. */
function fetchTalk() {
  talking ??= Promise.all([
    import('./message.js'),
    import('./runner.js'),
    import('../text/prose.js').catch(() => import('../text/plain.js')),
  ]).then(
    ([{ message }, { Runner }]) => {
      page.message = message;
      runner = new Runner(() => state, dispatch, answered);
      redraw();
    },
    () => {
      talking = null;
      notify(t('Cannot reach the server. Are you online?'), { bad: true });
    },
  );
  return talking;
}

/** Asks for the answer that is under way. */
async function start() {
  await fetchTalk();
  if (runner) await runner.start();
  else stop();
}

/** Stops the answer that is under way. */
function stop() {
  if (runner) runner.stop();
  else dispatch({ type: 'stopped', at: Date.now() });
}

/** Fetches a part of the page, once somebody opens one; gives whether it is there. */
async function part(name, load) {
  page[name] ??= await load().then((module) => module[name], () => null);
  if (!page[name]) notify(t('Cannot reach the server. Are you online?'), { bad: true });
  return page[name] !== null;
}

const panels = () => part('panel', () => import('./panel.js'));
const menus = () => part('menus', () => import('./menus.js'));

function follow() {
  stuck = true;
  redraw();
}

/** An action that asks for an answer, and the asking. */
function run(action) {
  dispatch(action);
  if (!state.running) return;
  follow();
  announce(t('Sent.'));
  void keeper.save();
  void start();
}

function open(talk) {
  void fetchTalk();
  follow();
  dispatch({ type: 'open', talk });
}

function notify(text, more = {}) {
  dispatch({ type: 'show', notice: { text, ...more } });
  announce(text);
}

const act = {
  ...actions({ state: () => state, dispatch, run, stop, keeper, open, notify, fetchTalk, follow, panels, menus }),
  retryNow: () => runner.retry(),
  toEnd: follow,
  fold() {
    if (narrow.matches) return act.show({ drawer: true });
    remember('localStorage', FOLDED, state.folded ? '' : 'yes');
    return act.show({ folded: !state.folded });
  },
  async speak(code) {
    remember('localStorage', TONGUE, code);
    await speak(code);
    redraw();
  },
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
  stop,
  close: () => act.show({ panel: null, drawer: false, notice: null }),
  keys: () => act.dialog('keys'),
  new: () => act.fresh(),
  fold: () => act.fold(),
  editLast: () => act.editLast(),
  search() {
    act.show(narrow.matches ? { drawer: true } : { folded: false });
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

/** What the address asks for: a conversation of this browser or a shared one, or a question to begin with. */
async function arrive() {
  const fragment = location.hash;
  if (fragment === addressOf(state.talk)) return;
  const id = /^#c=([\w-]+)$/.exec(fragment)?.[1];
  if (fragment === '') act.fresh();
  else if (id) await arriveAt(id);
  else if (/^#(?:.*&)?(?:talk|ask)=/.test(fragment)) await arriveWith(fragment);
  else goTo(addressOf(state.talk), true); // a place on this page, as the skip link's
}

async function arriveAt(id) {
  if (await act.open(id)) return;
  act.fresh();
  goTo('', true);
  notify(t('This conversation is not in this browser.'));
}

async function arriveWith(fragment) {
  goTo('', true);
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
  // Images are too large for this storage; what was sent is kept elsewhere.
  const words = Object.entries(drafts).map(([id, one]) => [id, { ...one, attached: one.attached.filter(({ image }) => !image) }]);
  const worth = words.filter(([, { text, attached }]) => text || attached.length);
  remember('sessionStorage', DRAFTS, JSON.stringify(Object.fromEntries(worth.slice(-20))));
}

function recallDrafts() {
  try {
    return JSON.parse(recall('sessionStorage', DRAFTS)) ?? {};
  } catch {
    return {};
  }
}

async function begin() {
  const tongue = recall('localStorage', TONGUE) ?? known(navigator.languages);
  if (tongue !== 'en') await speak(tongue);
  document.querySelector('.skip').textContent = t('Skip to the message box');
  const drafts = recallDrafts();
  const first = { draft: drafts['']?.text ?? '', attached: drafts['']?.attached ?? [] };
  act.show({ now: Date.now(), language: recall('localStorage', 'standpipe.language'), folded: recall('localStorage', FOLDED) === 'yes', drafts, ...first });
  draw();
  if (!coarse.matches) document.getElementById('draft').focus({ preventScroll: true });
  watch('api', 10_000, (tap) => {
    act.show({ tap: tap ?? { status: 'down', model: t('server not reachable') } });
    if (tap) void learnModels(tap);
  });
  await keeper.open();
  await arrive();
}

let served = '';

/** Asks for the names of the models where there are several, once and whenever others are served. */
async function learnModels({ engines = [] }) {
  const names = [...new Set(engines.flatMap((engine) => engine.models))].join('\n');
  if (names === served) return;
  served = names;
  const several = names.includes('\n');
  const answer = several ? await fetch(api('v1/models')).then((response) => response.json()).catch(() => null) : null;
  act.show({ models: (answer?.data ?? []).map(({ id }) => id) });
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
copyButtons(() => t('Copied'));
void begin();
