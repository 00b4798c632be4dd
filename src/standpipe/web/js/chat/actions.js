// What a reader can do on the chat page, each as one function: the view calls them, and so do keys. They know what
// happens in which order; what it does to the state is the store's business.

import { t } from '../page/language.js';
import { copy, remember } from '../page/live.js';
import { DEFAULTS, forked, sees } from './conversation.js';
import { isHere, runningTalk } from './store.js';
import { path, pathTo } from './tree.js';

const LONG = 4000; // characters of a paste from which on it becomes an attachment
const MOST_FILE = 1_000_000; // bytes of a file
const MOST_IMAGES = 64; // of one message, where the server does not say

/** An id that nobody else has. `crypto.randomUUID` is there in secure contexts only. */
export const newId = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join('-');

const portable = () => import('./portable.js');

/** What it is given is `main`'s. */
export function actions({ state, dispatch, run, stop, keeper, open, notify, fetchTalk, follow, panels, menus }) {
  const box = () => document.getElementById('draft');
  const show = (fields) => dispatch({ type: 'show', ...fields });
  const now = () => Date.now();

  /** Runs an action that asks for an answer, once no other answer is under way. */
  function ask(action) {
    if (!state().running) return run(action);
    if (isHere(state())) return undefined;
    const title = runningTalk(state())?.title || t('Untitled');
    const go = () => {
      stop();
      run(action);
    };
    return notify(t('An answer is still coming in “{0}”.', title), { action: { label: t('Stop it and send'), act: go } });
  }

  const act = {
    show,
    stop,
    copy: (text, button) => copy(text, button, t('Copied')),
    async dialog(name, more = {}) {
      if (await menus()) show({ dialog: { name, ...more } });
    },
    /** Opens a menu beside the button that was pressed; menus are on the top layer, so their place is in pixels. */
    async menu(name, id, { currentTarget: button }) {
      if (!(await menus())) return;
      show({ menu: { name, id } });
      afterDraw(() => openBelow(document.getElementById('menu'), button));
    },
    async panel(name) {
      if (name && !(await panels())) return;
      show({ panel: state().panel === name ? null : name });
    },
    current: () => state().talk,

    typed({ target }) {
      void fetchTalk();
      show({ draft: target.value });
      fit(target);
    },
    submit(event) {
      event.preventDefault();
      const { draft: text, attached } = state();
      if (isHere(state()) || (!text.trim() && !attached.length)) return;
      ask({ type: 'send', text, attached, ids: [newId(), newId()], at: now() });
      requestAnimationFrame(() => fit(box()));
    },
    suggest(text, temperature) {
      if (state().running) return void ask({ type: 'send', text, ids: [newId(), newId()], at: now() });
      dispatch({ type: 'example', parameters: { temperature }, at: now() });
      run({ type: 'send', text, ids: [newId(), newId()], at: now() });
      box().focus();
    },
    regenerate: (node, changes) => ask({ type: 'regenerate', id: node.id, newId: newId(), changes, at: now() }),
    goOn: (node) => ask({ type: 'continue', id: node.id, at: now() }),
    async fork(node) {
      const talk = forked(state().talk, pathTo(state().talk.tree, node.id), newId, now());
      open(talk);
      await keeper.put(talk);
      notify(t('This is a new conversation. The other one stays as it is.'));
    },
    /** Names or pins a conversation. */
    async amend(id, fields) {
      const changed = { ...fields, changed: now() };
      dispatch({ type: 'amend', id, fields: changed });
      const { talk, away } = state();
      const amended = [talk, away].find((one) => one?.id === id) ?? (await keeper.get(id));
      if (amended) await keeper.put({ ...amended, ...changed });
    },
    shorten(node) {
      if (state().running) return;
      dispatch({ type: 'shorten', id: node.id, at: now() });
      act.regenerate(node);
    },
    lengthen() {
      dispatch({ type: 'lengthen', at: now() });
      keeper.saveSoon();
    },

    /** A long paste becomes an attachment, so that the box stays a box. */
    pasted(event) {
      const pictures = [...(event.clipboardData?.files ?? [])].filter(isImage);
      if (pictures.length) {
        event.preventDefault();
        void act.attachFiles(pictures);
        return;
      }
      const text = event.clipboardData?.getData('text/plain') ?? '';
      if (text.length < LONG) return;
      event.preventDefault();
      act.attach(t('Pasted text'), text);
    },
    attach(name, text) {
      void fetchTalk();
      show({ attached: [...state().attached, { name, text }] });
    },
    async attachImage(file) {
      const { talk, tap, attached } = state();
      const most = tap?.limits?.images ?? MOST_IMAGES;
      if (!sees(talk, tap)) return notify(t('The model cannot see images.'), { bad: true });
      if (attached.filter(({ image }) => image).length >= most) return notify(t('{0} images at most.', most), { bad: true });
      try {
        const { scaled } = await import('./picture.js');
        const image = await scaled(file);
        void fetchTalk();
        return show({ attached: [...state().attached, { name: file.name || t('Image'), text: '', image }] });
      } catch {
        return notify(t('“{0}” is not an image that this browser can read.', file.name), { bad: true });
      }
    },
    detach: (index) => show({ attached: state().attached.filter((_, at) => at !== index) }),
    async attachFiles(files) {
      for (const file of files) {
        if (isImage(file)) {
          await act.attachImage(file);
          continue;
        }
        if (file.size > MOST_FILE) {
          notify(t('“{0}” is too large: {1} MB at most.', file.name, MOST_FILE / 1_000_000), { bad: true });
          continue;
        }
        const text = await file.text();
        if (/[\0\ufffd]/.test(text)) notify(t('“{0}” is not a text file.', file.name), { bad: true });
        else if (text.trim()) act.attach(file.name, text);
      }
      box().focus();
    },
    async dictate() {
      const { dictate } = await import('./voice.js');
      const before = state().draft;
      dictate({
        language: document.documentElement.lang,
        heard: (text) => act.write(before ? `${before.trimEnd()} ${text}` : text),
        listening: (listening) => show({ listening }),
        failed: () => notify(t('The browser did not understand, or may not use the microphone.'), { bad: true }),
      });
    },
    write(text) {
      void fetchTalk();
      show({ draft: text });
      afterDraw(() => fit(box()));
    },
    async dropped(event) {
      if (!event.dataTransfer?.files.length) return;
      event.preventDefault();
      await act.attachFiles(event.dataTransfer.files);
    },

    edit(node) {
      dispatch({ type: 'editing', id: node.id, text: node.text });
      afterDraw(() => document.getElementById('edited')?.focus());
    },
    editLast() {
      const last = path(state().talk.tree).findLast((node) => node.role === 'user');
      if (last && !isHere(state())) act.edit(last);
    },
    cancelEdit() {
      dispatch({ type: 'editing', id: null });
      box().focus();
    },
    finishEdit(text, event) {
      event?.preventDefault();
      const { id } = state().editing;
      if (state().talk.tree.nodes[id]?.role === 'assistant') {
        dispatch({ type: 'rewrite', id, text, newId: newId(), at: now() });
        void keeper.save();
      } else {
        ask({ type: 'edit', id, text, ids: [newId(), newId()], at: now() });
      }
      box().focus();
    },
    step(node, by) {
      dispatch({ type: 'step', id: node.id, by });
      void keeper.save();
    },
    async remove(node) {
      const before = state().talk;
      dispatch({ type: 'remove', id: node.id, at: now() });
      const undo = () => {
        if (state().talk.id !== before.id) open(before);
        dispatch({ type: 'restore', before: before.tree, id: node.id, at: now() });
        show({ notice: null });
        void keeper.save();
      };
      notify(t('Message deleted.'), { action: { label: t('Undo'), act: undo } });
      if (path(state().talk.tree).length) await keeper.save();
      else await keeper.remove(before.id);
    },

    fresh() {
      follow();
      dispatch({ type: 'new', id: newId(), at: now() });
      afterDraw(() => box().focus());
    },
    async open(id) {
      const { away } = state();
      const talk = away?.id === id ? away : await keeper.get(id);
      if (talk) open(talk);
      return talk !== undefined;
    },
    async discard({ id }) {
      if (state().running && runningTalk(state())?.id === id) stop();
      const talk = await keeper.get(id);
      if (state().away?.id === id) show({ away: null });
      if (id === state().talk.id) act.fresh();
      await keeper.remove(id);
      const undo = async () => {
        const back = { ...talk, updated: now() + 1 }; // later than its removal
        await keeper.put(back);
        open(back);
      };
      notify(t('Conversation deleted.'), talk ? { action: { label: t('Undo'), act: undo } } : {});
    },
    async clear() {
      if (state().running) stop();
      act.fresh();
      show({ away: null });
      await keeper.clear();
    },

    parameter(name, value) {
      dispatch({ type: 'parameter', name, value, at: now() });
      keeper.saveSoon();
    },
    parameters(parameters) {
      dispatch({ type: 'parameters', parameters: { ...DEFAULTS, ...parameters }, at: now() });
      keeper.saveSoon();
    },
    system(text) {
      dispatch({ type: 'system', text, at: now() });
      keeper.saveSoon();
    },
    language(id) {
      remember('localStorage', 'standpipe.language', id);
      show({ language: id });
    },
    search: (text) => keeper.search(text),

    async share() {
      try {
        const { toFragment } = await portable();
        const link = `${location.origin}${location.pathname}#${await toFragment(state().talk)}`;
        await copy(link);
        const long = link.length > 8000;
        notify(long ? t('Link copied. It is very long, so some programs may cut it off.') : t('Link copied. Anyone who has it can read this conversation.'));
      } catch (error) {
        notify(error.message, { bad: true });
      }
    },
    async exportOne() {
      await download(fileName(state().talk, 'json'), (await portable()).toJson([state().talk]), 'application/json');
    },
    async exportMarkdown() {
      await download(fileName(state().talk, 'md'), (await portable()).toMarkdown(state().talk), 'text/markdown');
    },
    async exportAll() {
      await keeper.save();
      await download('conversations.json', (await portable()).toJson(await keeper.all()), 'application/json');
    },
    async import({ target }) {
      const [file] = target.files;
      if (!file) return;
      try {
        const { fromJson } = await portable();
        const talks = fromJson(await file.text(), newId, now());
        for (const talk of talks) await keeper.put(talk);
        if (talks.length) open(talks[0]);
        notify(talks.length === 1 ? t('1 conversation imported.') : t('{0} conversations imported.', talks.length));
      } catch (error) {
        notify(error.message, { bad: true });
      } finally {
        target.value = '';
      }
    },
  };
  return act;
}

const isImage = (file) => file.type.startsWith('image/') && file.type !== 'image/svg+xml'; // SVG is text

/** Shows a menu below its button, or above it where there is no room, and puts the focus into it. */
function openBelow(menu, button) {
  const place = button.getBoundingClientRect();
  const { clientWidth: width, clientHeight: height } = document.documentElement;
  menu.showPopover();
  const below = place.bottom + 4 + menu.offsetHeight < height;
  menu.style.top = `${below ? place.bottom + 4 : Math.max(8, place.top - 4 - menu.offsetHeight)}px`;
  const left = document.documentElement.dir === 'rtl' ? place.right - menu.offsetWidth : place.left;
  menu.style.left = `${Math.max(8, Math.min(left, width - menu.offsetWidth - 8))}px`;
  menu.querySelector('button')?.focus();
}

/** As high as its text, up to what the style allows. */
export function fit(area) {
  area.style.height = 'auto';
  area.style.height = `${area.scrollHeight}px`;
}

/** Once what was dispatched is on the page. */
export function afterDraw(act) {
  requestAnimationFrame(() => requestAnimationFrame(act));
}

function fileName(talk, ending) {
  return `${(talk.title || 'conversation').replace(/[^\p{L}\p{N}]+/gu, '-').slice(0, 40)}.${ending}`;
}

async function download(...file) {
  const { download: save } = await import('../page/download.js');
  save(...file);
}
